#!/bin/bash
# Train, sample by an array of jobs, merge, evaluate: each step waits for the one before.
#
#   pipeline.sh DATA FOLDER JOBS SAMPLES [options of arcsm train]
#
# Prints the numbers of the jobs. SBATCH holds options for sbatch, such as SBATCH="--partition=gpu".
set -euo pipefail
here=$(dirname "$(realpath "$0")")
data=$1 folder=$2 jobs=$3 samples=$4
shift 4
mkdir -p "$folder"
read -r -a extra <<<"${SBATCH:-}"
chained=(--parsable --kill-on-invalid-dep=yes "${extra[@]}")
model=$folder/model.safetensors
train=$(sbatch --parsable "${extra[@]}" "$here/single-gpu.sbatch" \
  train "$data" "$@" --resume -o "$model")
nll=$(sbatch "${chained[@]}" --dependency="afterok:$train" "$here/eval.sbatch" \
  "$folder/likelihood.json" "$model" "$data")
merge=$(AFTER=$train "$here/sample-array.sh" "$jobs" "$folder/samples.h5" "$model" -n "$samples")
distance=$(sbatch "${chained[@]}" --dependency="afterok:$merge" "$here/eval.sbatch" \
  "$folder/samples.json" "$folder/samples.h5" --against "$data")
echo "train $train, likelihood $nll, samples $merge, distances $distance"
