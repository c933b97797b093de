#!/usr/bin/env bash
# A run on several machines under Slurm:   sbatch launch/slurm.sh [flags of train_imagenet_nv.py]
#
# From the repository's folder, on a disk that all machines share. Set machines, GPUs and time below (sbatch's own flags
# go before the script and win), the paths by DATA=... RUN=... before sbatch. One torchrun a machine starts one process
# a GPU; they meet on the first machine. A process that fails is started again up to three times, from the last
# checkpoint. Two minutes before the time is up Slurm signals this script (B:TERM@120); the run saves, ends with its exit
# code 75 (saved, start again), and the job goes back into the queue. Requeued, by that or by a preemption of Slurm's,
# it finds its run folder and goes on with --resume. scancel ends it for good.
#SBATCH --job-name=imagenet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=imagenet-%j.out
set -euo pipefail

DATA=${DATA:-/data/imagenet}
RUN=${RUN:-$PWD/runs/imagenet-$SLURM_JOB_ID} # the number stays when the job is requeued
PROCESSES=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}
PATH=$PWD/.venv/bin:$PATH

port=$((20000 + SLURM_JOB_ID % 12000)) # another one for each job: two may share a machine
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
resume=()
if [ -e "$RUN/run.jsonl" ]; then resume=(--resume "$RUN"); fi

stopped=no
trap 'stopped=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM # to every process of the step, not to this script

# --wait: a machine that is done gives the others this many seconds, in which rank 0 saves
# srun of Slurm 22.05 to 23.02 does not take the processors of a task from the job
srun --wait=90 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$PROCESSES" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint="$first:$port" --rdzv-id="$SLURM_JOB_ID" \
    training/train_imagenet_nv.py "$DATA" --phases imagenet18-4 --init-bn0 --no-bn-wd \
    --logdir "$RUN" "${resume[@]}" "$@" &
step=$!

code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do wait "$step" || code=$?; done # a signal cuts a wait short
code=0
wait "$step" || code=$? # the step may have ended between the two: bash keeps its code

saved() { tail -n 1 "$RUN/run.jsonl" 2>/dev/null | grep -q '"outcome": "preempted"'; }
running() { [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; } # not cancelled
if [ "$stopped" = yes ] && saved && running; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
