#!/bin/bash
# sbatch docs/launch/slurm.sh: several hosts, one task each, torchrun on it. Stopped at its time limit or by preemption the run saves
# itself, and the job goes back into the queue until the run is finished. Change what is marked.
#SBATCH --job-name=latentthought
#SBATCH --nodes=2                    # change
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8            # change
#SBATCH --cpus-per-task=64           # change
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300            # to all processes of the step, 300 seconds before the limit: a step and a checkpoint have to fit
#SBATCH --requeue
#SBATCH --open-mode=append           # the log goes on where the job goes on
#SBATCH --output=%x-%j.log
set -uo pipefail

recipe=${RECIPE:-latent-thought-r1-1.5b}                       # change: a recipe's name or YAML file
output=${OUTPUT:-$HOME/runs/$SLURM_JOB_NAME-$SLURM_JOB_ID}     # change: a folder that all hosts see
here=${LAUNCH_DIR:-$SLURM_SUBMIT_DIR/docs/launch}              # where run.sh is (Slurm runs a copy of this file from elsewhere)

export NNODES=$SLURM_NNODES NPROC_PER_NODE=${NPROC_PER_NODE:-gpu}
export RDZV_ID=$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
RDZV_ENDPOINT=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):${PORT:-29500}
export RDZV_ENDPOINT

trap : TERM # preemption tells this shell too; it waits for srun all the same
srun --kill-on-bad-exit=0 "$here/run.sh" "$output" "$recipe" engine=zero2
code=$?

# srun gives the highest exit code of its tasks; 75: saved and to be continued
if [ "$code" -eq 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
