#!/bin/sh
# Install arcsm from its sources with pinned versions: install.sh SOURCES cpu|cuda [options of pip]
#
# Both containers run this; it installs into whichever Python is the first on the PATH.
set -eu
sources=$1 build=$2
shift 2
here=$(dirname "$0")
case $build in
  # PyTorch's own index has the small build without CUDA; the package index has the one with it.
  cpu) index=https://download.pytorch.org/whl/cpu ;;
  cuda) index=https://pypi.org/simple ;;
  *) echo "install.sh: $build: expected cpu or cuda" >&2; exit 2 ;;
esac
python3 -m pip install "$@" --no-cache-dir --index-url "$index" \
  $(grep -E '^torch(vision)?==' "$here/constraints.txt")
python3 -m pip install "$@" --no-cache-dir --constraint "$here/constraints.txt" "$sources[metrics,plot,tensorboard]"
