#!/usr/bin/env bash
# Trains the experiments ARMS of FAMILY with each of SEEDS, two seeds side by side, and reports on them in OUTPUT/report,
# and if INTO names a place in a document (README.md#demo), there.
set -euo pipefail
export OMP_NUM_THREADS=1 FAMILY ARMS OUTPUT

arms() {
    local log="$OUTPUT/seed$1.log"
    for arm in $ARMS; do
        if ! python -m blend_pl fit --config "experiments/${FAMILY}_$arm.yaml" --seed_everything "$1" \
            --output "$OUTPUT" >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            return 1
        fi
        echo "seed $1: $arm done"
    done
}

mkdir -p "$OUTPUT"
echo "training $FAMILY: $ARMS with seeds $SEEDS; logs in $OUTPUT"
printf '%s\n' $SEEDS | (export -f arms; xargs -P 2 -I {} bash -euo pipefail -c 'arms {}')
python -m blend_pl report "$OUTPUT/$FAMILY"_* --output "$OUTPUT/report" ${INTO:+--into "$INTO"}
