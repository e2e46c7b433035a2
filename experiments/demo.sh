#!/usr/bin/env bash
# Baseline, teacher, student and the self-distilled control, for each seed; seeds side by side, one core each.
set -euo pipefail
export OMP_NUM_THREADS=1

arms() {
    local log="runs/demo/seed$1.log"
    for arm in baseline teacher hard self; do
        if ! python -m blend_pl fit --config "experiments/simulated_$arm.yaml" --seed_everything "$1" \
            --output runs/demo >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            return 1
        fi
        echo "seed $1: $arm done"
    done
}

mkdir -p runs/demo
echo "training baseline, teacher, student and control with seeds $SEEDS; logs in runs/demo"
printf '%s\n' $SEEDS | (export -f arms; xargs -P 2 -I {} bash -euo pipefail -c 'arms {}')
python -m blend_pl report runs/demo/simulated_* --output runs/demo/report
