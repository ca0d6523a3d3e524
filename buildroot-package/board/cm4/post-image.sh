#!/bin/bash
# Makes images/gadgetd, the folder that rpiboot loads, from what Buildroot has built.
#
#   post-image.sh IMAGES [BOARD]    with BOARD's config.txt: cm4, if it is not said, or cm5
#
# Runs without root and without loop devices. Everything that could differ from one build to the
# next is pinned: times (SOURCE_DATE_EPOCH), the order of the files, the FAT's serial number.
#
#   BINARIES_DIR        Image.gz, rootfs.cpio.zst, *.dtb, rpi-firmware/,
#                       rpiboot/bootfiles.bin, rpiboot/bootcode4.bin
#   SOURCE_DATE_EPOCH   the time that everything in boot.img carries
#   BUILD_DIR           with gadgetd-packages.txt, for the manifest
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022

: "${BINARIES_DIR:?}" "${SOURCE_DATE_EPOCH:?}" "${BUILD_DIR:?}"
here=$(cd "$(dirname "$0")" && pwd)
config=$here/../${2:-cm4}/config.txt
images=$BINARIES_DIR
firmware=$images/rpi-firmware
final=$images/gadgetd
limit_mib=10

work=$(mktemp -d "$images/.gadgetd.XXXXXX")
trap 'rm -rf "$work"' EXIT
boot=$work/boot folder=$work/folder
mkdir -p "$boot/overlays" "$folder"

fail() {
    printf 'post-image: %s\n' "$*" >&2
    exit 1
}

# ---- What is in boot.img: what config.txt names, and the device trees ---------------------------
value() { sed -n "s/^$1[= ]//p" "$config" | tail -n 1; }

cp "$config" "$here/cmdline.txt" "$boot"
# Unquoted: a BCM2712 has neither.
for name in $(value start_file) $(value fixup_file); do
    cp "$firmware/$name" "$boot"
done
for name in "$(value kernel)" "$(value initramfs)"; do
    cp "$images/$name" "$boot"
done
while read -r overlay; do
    cp "$firmware/overlays/$overlay.dtbo" "$boot/overlays"
done < <(sed -n 's/^dtoverlay=\([^,]*\).*/\1/p' "$config")
cp "$images"/*.dtb "$boot"
find "$boot" -type f -exec chmod 644 {} +
find "$boot" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

[ "$(wc -l <"$boot/cmdline.txt")" -le 1 ] || fail "cmdline.txt has more than one line"
! grep -n '.\{99\}' "$boot/config.txt" || fail "config.txt: a line holds 98 characters at most"

# ---- The file system: what `gadgetd-bootimg create` makes of the same folder ---------------------
# Of it only the standard library is needed. Read back by mtools before anybody boots from it.
image=$folder/boot.img
PYTHONPATH=$here/../../.. python3 -B -m bootimg create "$boot" -o "$image" >"$work/create.log"
(
    cd "$boot"
    export MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null
    find . -type f -printf '%P\n' | while read -r name; do
        mtype -i "$image" "::/$name" | cmp - "$name" || fail "boot.img: $name is damaged"
    done
)
fsck.fat -n "$image" >"$work/fsck.log" || { cat "$work/fsck.log" >&2; exit 1; }

# ---- The folder ----------------------------------------------------------------------------------
cp "$here/rpiboot.txt" "$folder/config.txt"
loaders=(bootfiles.bin)
[ -z "$(value start_file)" ] || loaders+=(bootcode4.bin)
for loader in "${loaders[@]}"; do
    [ -s "$images/rpiboot/$loader" ] || fail "$images/rpiboot has no $loader;" \
        "the package rpiboot-loaders has it, and: make rpiboot-loaders-rebuild"
    cp "$images/rpiboot/$loader" "$folder"
done
python3 -B "$here/manifest.py" --boot "$boot" --folder "$folder" \
    --packages "$BUILD_DIR/gadgetd-packages.txt" --target "${TARGET_DIR:-}" \
    --sizes "$images/gadgetd-sizes.json" --report "$images/gadgetd-sizes.txt"
(cd "$folder" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
find "$folder" -type f -exec chmod 644 {} +
find "$folder" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
rm -rf "$final"
mv "$folder" "$final"

size=$(stat -c %s "$final/boot.img")
cat "$images/gadgetd-sizes.txt"
[ "$size" -le $((limit_mib << 20)) ] ||
    printf 'post-image: warning: boot.img is larger than the %d MiB it is meant to be\n' "$limit_mib" >&2
