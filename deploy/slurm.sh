#!/usr/bin/env bash
# One training on Slurm, over as many nodes and GPUs as you ask for; a line like
#
#   sbatch --nodes=2 --ntasks-per-node=8 --gres=gpu:8 --time=4:00:00 deploy/slurm.sh \
#       --config pipelines/configs/tweets/lstm.yaml --config pipelines/configs/trainer/multi_node.yaml \
#       --checkpoints checkpoints/tweets
#
# from the project's folder, which all nodes see. One task is one GPU (or CPU process). Before its
# time is up the training writes where it is and the job is queued again, to go on from there in the
# same MLflow run; so it is after a node failed. MLFLOW_TRACKING_URI must be a server's address where
# there is more than one node.
#SBATCH --job-name=unroll
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=unroll-%j.log

case " $* " in
*" --checkpoints"*) ;;
*)
  echo "error: give --checkpoints FOLDER, or a job that is stopped has to begin anew" >&2
  exit 2
  ;;
esac

srun --kill-on-bad-exit=1 .venv/bin/python -m pipelines.train "$@" \
  --trainer.num_nodes "$SLURM_JOB_NUM_NODES" --trainer.devices "$((SLURM_NTASKS / SLURM_JOB_NUM_NODES))"
code=$?

# 128 + SIGUSR1: stopped because its time was nearly up.
if [ "$code" -eq 138 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
