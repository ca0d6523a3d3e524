#!/bin/sh
# Buildroot runs this on the finished target directory, before the initramfs is packed.
set -eu

target=$1
here=$(dirname "$0")

# The host's Python is the target's version: it can read the target's byte code.
"${HOST_DIR:?}/bin/python3" -B "$here/prune.py" "$target" "${BUILD_DIR:?}/gadgetd-pruned"
