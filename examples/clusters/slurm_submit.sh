#!/bin/bash
# Submits the job array, and the job that merges its shards once every task has ended well.
set -e
cd "$(dirname "$0")"
array=$(sbatch --parsable slurm_sweep.sbatch)
merge=$(sbatch --parsable --dependency="afterok:$array" slurm_merge.sbatch)
echo "job array $array, then job $merge; squeue --me shows them"
