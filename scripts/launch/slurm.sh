#!/usr/bin/env bash
# One recipe on several machines of a Slurm cluster; every machine needs the checkout, its .venv and runs/ on shared storage.
#   sbatch --nodes 2 --gpus-per-node 4 scripts/launch/slurm.sh recipes/mistral_medquad.toml [ARGUMENT OF medrecipes.run]...
#SBATCH --job-name=medrecipes
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=INT@120
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?start it with sbatch}"

# The machines meet at the first one, at a port of the job's own; torchrun starts a process for each GPU. A job that is
# started again goes on from its last checkpoint, also with another number of GPUs.
# Two minutes before its time ends it is told to stop: torchrun (2.12 on) gives a step nearly all of
# them to be finished and saved.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
srun .venv/bin/python -m torch.distributed.run \
    --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:?ask for --gpus-per-node}" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "${hosts[0]}:$((20000 + SLURM_JOB_ID % 20000))" \
    -m medrecipes.run "$@"
