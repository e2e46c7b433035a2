#!/usr/bin/env bash
# One experiment on a SLURM cluster, which goes on by itself after pre-emption and after the end of its time:
#
#     sbatch experiments/slurm.sh experiments/mc_maze_hard.yaml --seed_everything 3
#     sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 experiments/slurm.sh experiments/mc_maze_baseline.yaml
#
# Everything behind the experiment goes to `fit`. Call it where runs/ and data/ shall be, on a disk that all nodes share,
# with the environment active; options of sbatch go before the script, as above.
#
#SBATCH --job-name=blend_pl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@180
# ntasks-per-node: one task a GPU. signal: three minutes before the time is over, training ends with its epoch; an epoch
# that takes longer wants more. requeue: a job that gave way to others is started again.

[[ $# -ge 1 ]] || { echo "usage: sbatch experiments/slurm.sh EXPERIMENT.yaml [more arguments of fit]" >&2; exit 2; }
experiment=$1
shift

trap : TERM USR1 # It is for the tasks to answer signals; this shell waits for them.

# wait: should one task fail, the others do not wait for it until the time is over.
srun --kill-on-bad-exit=0 --wait=300 python -m blend_pl fit --config "$experiment" --resume true \
    --trainer.num_nodes "${SLURM_NNODES:-1}" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" "$@"
status=$?

# 75: stopped by a signal, with a checkpoint; 138 and 143: by SIGUSR1 or SIGTERM, before training had begun.
case $status in
75 | 138 | 143) scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$status"
