#!/usr/bin/env bash
# `make image-test PYTHON`: boots what `make image` has built in the emulator, and on a BCM2711 as
# QEMU models it, there with the shipped kernel too.
#
# The kernel is compiled a second time, from the same sources and configuration with
# board/cm4/linux-test.config added, because QEMU has no BCM2711 that is a USB device. The root
# file system is the one in boot.img, byte for byte.
#
#   IMAGE_OUTPUT=DIR    Buildroot's output directory (default: make image's)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${GADGETD_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/gadgetd}
[[ $cache = /* ]] || cache=$PWD/$cache
output=$(realpath -m "${IMAGE_OUTPUT:-$cache/image/output}")
python=${1:?which Python has the emulator}
shift
work=$output/image-test
log=$work/kernel.log
# merge_config.sh loses its fragments if this directory does not exist.
export TMPDIR=$cache/image/tmp
# Neither the flags of a make that calls this script nor a shell's idea of the time.
unset MAKEFLAGS MAKELEVEL MFLAGS SOURCE_DATE_EPOCH

say() { printf '  %s\n' "$*"; }
fail() {
    printf 'image-test: %s\n' "$1" >&2
    printf '  hint: %s\n' "$2" >&2
    exit 1
}

variable() {
    make -s -C "$output" printvars QUOTED_VARS=YES VARS="$1" | sed -n "s/^$1='\(.*\)'$/\1/p"
}

[ -f "$output/images/gadgetd/boot.img" ] || fail "there is no boot.img in $output" "run: make image"
mkdir -p "$work" "$TMPDIR"
source=$(variable LINUX_DIR)
cross=$(variable TARGET_CROSS)

kernel_make() {
    PATH="$output/host/bin:$PATH" nice make -C "$work/linux" ARCH=arm64 CROSS_COMPILE="$cross" \
        KCFLAGS=-Wno-attribute-alias KBUILD_BUILD_TIMESTAMP=@0 -j"$(nproc)" "$@" >>"$log" 2>&1 || fail "the test kernel does not build" "see $log"
}

key=$(cat "$source/.config" "$here/board/cm4/linux-test.config" | sha256sum)
if [ "$(cat "$work/kernel.built" 2>/dev/null)" != "$key" ]; then
    say "compiling the test's kernel (log: $log)"
    : >"$log"
    # A copy of what is compiled already: only what the fragment touches is compiled again, as long
    # as the flags are Buildroot's (linux/linux.mk).
    rm -rf "$work/linux"
    cp -a --reflink=auto "$source" "$work/linux"
    (cd "$work/linux" && scripts/kconfig/merge_config.sh -m .config "$here/board/cm4/linux-test.config" >>"$log")
    kernel_make olddefconfig
    "$here/board/cm4/check-kconfig.sh" "$work/linux/.config" "$here/board/cm4/linux-test.config" ||
        fail "the test kernel would lack something" "see the lines above"
    kernel_make Image
    echo "$key" >"$work/kernel.built"
fi
cd "$here/.."
export PATH="$output/host/bin:$PATH"
boot=(--kernel "$work/linux/arch/arm64/boot/Image" --image "$output/images/gadgetd/boot.img")
"$python" -B buildroot-package/boot_test.py "${boot[@]}" --log "$work/uart.log" "$@"
"$python" -B buildroot-package/bcm2711_test.py "${boot[@]}" --log "$work/bcm2711.log"
