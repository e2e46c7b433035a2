#!/usr/bin/env bash
# Trains the experiments ARMS of FAMILY with each of SEEDS, two runs side by side, and reports on them in OUTPUT/report,
# and if INTO names a place in a document (README.md#demo), there.
set -euo pipefail
export OMP_NUM_THREADS=1 FAMILY OUTPUT

train() {
    local log="$OUTPUT/$1-seed$2.log"
    if ! python -m blend_pl fit --config "experiments/${FAMILY}_$1.yaml" --seed_everything "$2" --output "$OUTPUT" \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        exit 255 # by which xargs stops
    fi
    echo "$1, seed $2: done"
}

mkdir -p "$OUTPUT"
echo "training $FAMILY: $ARMS with seeds $SEEDS; logs in $OUTPUT"
export -f train
# Arm by arm: a teacher is there, or on its way, when its students are.
for arm in $ARMS; do
    printf "$arm %s\n" $SEEDS
done | xargs -P 2 -L 1 bash -euo pipefail -c 'train "$@"' train
python -m blend_pl report "$OUTPUT/$FAMILY"_* --output "$OUTPUT/report" ${INTO:+--update_doc "$INTO"}
