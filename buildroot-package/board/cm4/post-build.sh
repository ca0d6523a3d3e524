#!/bin/sh
# Buildroot runs this on the finished target directory, before the initramfs is packed.
set -eu

target=$1
here=$(cd "$(dirname "$0")" && pwd)
example=$here/../../../rootfs-overlay/etc/gadgetd.yaml.example

# Its VERSION has the commit of a Buildroot that was cloned, or of any checkout around one; the same
# sources are to give the same image.
sed -i "s/^VERSION=.*/VERSION=$(sed -n 's/^VERSION_ID=//p' "$target/usr/lib/os-release")/" \
    "$target/usr/lib/os-release"

# The host's Python is the target's version: it can read the target's byte code.
"${HOST_DIR:?}/bin/python3" -B "$here/prune.py" "$target" "${BUILD_DIR:?}/gadgetd-pruned"

# What is left has to run: the board's own Python, by qemu-user, with nothing but the target's files.
fail() {
    printf 'promises: ERROR: %s\n' "$1" >&2
    exit 1
}
command -v qemu-aarch64 >/dev/null || fail "there is no qemu-aarch64 (Debian: qemu-user)"
root=$(cd "$target" && pwd)
python() {
    env -i PATH=/usr/bin:/bin HOME=/root PYTHONHOME="$root/usr" PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 \
        qemu-aarch64 -L "$root" "$root/usr/bin/python3" "$@"
}
python - <"$here/promises.py" || fail "the image's Python does not run what the image promises"
echo '[1, 2]' | python -m json.tool >/dev/null || fail "python3 -m json.tool does not work"
python -m gadgetd check "$example" || fail "gadgetd refuses its own example"
if [ -e "$target/etc/gadgetd.yaml" ]; then
    python -m gadgetd check "$root/etc/gadgetd.yaml" || fail "gadgetd refuses the configuration of the image"
fi
