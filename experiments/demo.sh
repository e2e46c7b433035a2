#!/usr/bin/env bash
# Baseline, teacher, student and the self-distilled control, for each seed; seeds side by side, one core each.
set -euo pipefail
export OMP_NUM_THREADS=1

arms() {
    for arm in teacher baseline hard self; do
        python -m blend_pl fit --config "experiments/simulated_$arm.yaml" --seed_everything "$1" --output runs/demo
    done
}

mkdir -p runs/demo
pids=()
for seed in $SEEDS; do
    arms "$seed" >"runs/demo/seed$seed.log" 2>&1 &
    pids+=($!)
    echo "seed $seed: training baseline, teacher, student and control; see runs/demo/seed$seed.log"
    # Two at a time: more would only share the cores.
    if (( ${#pids[@]} % 2 == 0 )); then wait "${pids[@]}" || { tail -n 20 runs/demo/seed*.log; exit 1; }; fi
done
for pid in "${pids[@]}"; do wait "$pid" || { tail -n 20 runs/demo/seed*.log; exit 1; }; done
python -m blend_pl report runs/demo/simulated_* --output runs/demo/report
