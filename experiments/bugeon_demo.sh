#!/usr/bin/env bash
# NeuPRINT with and without behaviour, teacher, student, and the student at alpha = 1, on a simulated tree of calcium
# recordings, for each seed; seeds side by side, one core each.
set -euo pipefail
export OMP_NUM_THREADS=1

arms() {
    local log="runs/bugeon_demo/seed$1.log"
    for arm in with_behavior baseline teacher feature alpha1; do
        if ! python -m blend_pl fit --config "experiments/bugeon_simulated_$arm.yaml" --seed_everything "$1" \
            --output runs/bugeon_demo >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            return 1
        fi
        echo "seed $1: $arm done"
    done
}

mkdir -p runs/bugeon_demo
echo "training five arms with seeds $SEEDS; logs in runs/bugeon_demo"
printf '%s\n' $SEEDS | (export -f arms; xargs -P 2 -I {} bash -euo pipefail -c 'arms {}')
python -m blend_pl report runs/bugeon_demo/bugeon_simulated_* --output runs/bugeon_demo/report
