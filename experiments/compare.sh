#!/usr/bin/env bash
# Trains arms of an experiment with several seeds, two runs at a time, and writes a report to OUTPUT/report. If UPDATE_DOC
# names a place in a document (README.md#demo), the tables are written there too.
#
#     SET=simulated ARMS="baseline teacher hard stndt_small+hard" SEEDS="1 2 3" OUTPUT=runs bash experiments/compare.sh
#
# An arm is an overlay in configs/arm, after overlays of configs/data and configs/model if there are any. SESSIONS lists
# seeds of simulated sessions; the report then pools these sessions.
set -euo pipefail
export OMP_NUM_THREADS=1 SET OUTPUT

train() {
    local log="$OUTPUT/$1-seed$2${3:+-session$3}.log" config="experiments/$SET.yaml" overlay
    for overlay in ${1//+/ }; do
        config+="+$(ls configs/{data,model,arm}/"$overlay.yaml" 2>/dev/null || true)"
    done
    if ! python -m blend_pl fit --config "$config" --seed_everything "$2" ${3:+--data.simulation.seed "$3"} \
        --output "$OUTPUT" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        exit 255 # xargs stops
    fi
    echo "$1, seed $2${3:+, session $3}: done"
}

mkdir -p "$OUTPUT"
echo "training $SET: $ARMS with seeds $SEEDS${SESSIONS:+ of sessions $SESSIONS}; logs in $OUTPUT"
export -f train
# In the order of ARMS: a teacher before its students is trained once, not while a student waits for it.
for session in ${SESSIONS:-""}; do
    for arm in $ARMS; do
        printf "$arm %s${session:+ $session}\n" $SEEDS # a trailing blank would continue the line for xargs
    done
done | xargs -P 2 -L 1 bash -euo pipefail -c 'train "$@"' train
python -m blend_pl report "$OUTPUT/$SET"_* --output "$OUTPUT/report" ${SESSIONS:+--pool_sessions true} \
    ${UPDATE_DOC:+--update_doc "$UPDATE_DOC"}
