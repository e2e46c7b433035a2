#!/usr/bin/env bash
# Runs one experiment on a SLURM cluster and resumes it after pre-emption and after its time limit:
#
#     sbatch experiments/slurm.sh experiments/mc_maze_hard.yaml --seed_everything 3
#     sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 experiments/slurm.sh experiments/mc_maze_baseline.yaml
#
# Arguments after the experiment go to `fit`. Call the script in the folder of runs/ and data/, on a disk that all nodes
# share, with the environment active; options of sbatch go before the script, as above.
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
# ntasks-per-node: one task per GPU. signal: sent three minutes before the time limit, training then stops at the end of its
# epoch; increase the time for longer epochs. requeue: a pre-empted job is started again.

[[ $# -ge 1 ]] || { echo "usage: sbatch experiments/slurm.sh EXPERIMENT.yaml [more arguments of fit]" >&2; exit 2; }
experiment=$1
shift

trap : TERM USR1 # The tasks handle signals; this shell waits for them.

# wait: if one task fails, the others are stopped after 300 s.
srun --kill-on-bad-exit=0 --wait=300 python -m blend_pl fit --config "$experiment" --resume true \
    --trainer.num_nodes "${SLURM_NNODES:-1}" --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" "$@"
status=$?

# 75: stopped by a signal, with a checkpoint; 138 and 143: by SIGUSR1 or SIGTERM, before training started.
case $status in
75 | 138 | 143) scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$status"
