#!/bin/sh
# Install arcsm from its sources with pinned versions: install.sh SOURCES [options of pip]
#
# Both containers run this; it installs into whichever Python is the first on the PATH. TORCH_INDEX is
# where PyTorch comes from: the address that https://pytorch.org/get-started names for the CPU, or
# for a version of CUDA. Without it pip's own index serves, whose build has CUDA.
set -eu
sources=$1
shift
here=$(dirname "$0")
python3 -m pip install "$@" --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
  $(grep -E '^torch(vision)?==' "$here/constraints.txt")
python3 -m pip install "$@" --no-cache-dir --constraint "$here/constraints.txt" "$sources[metrics,plot,tensorboard]"
