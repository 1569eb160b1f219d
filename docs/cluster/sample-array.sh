#!/bin/bash
# Samples drawn by an array of jobs, each a part of them, and merged: the same file as from one job.
#
#   sample-array.sh JOBS SAMPLES.h5 MODEL -n 50000 [options of arcsm sample]
#
# Prints the number of the job that merges. SBATCH holds options for sbatch, such as
# SBATCH="--partition=gpu"; AFTER is a job to wait for.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
jobs=$1 samples=$2
shift 2
parts=$samples.parts
mkdir -p "$parts"
read -r -a extra <<<"${SBATCH:-}"
after=${AFTER:+--dependency=afterok:$AFTER}
array=$(sbatch --parsable ${after:+"$after"} "${extra[@]}" --array="0-$((jobs - 1))" \
  "$here/sample-array.sbatch" "$parts" "$@")
sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes "${extra[@]}" \
  "$here/merge.sbatch" "$parts" "$samples"
