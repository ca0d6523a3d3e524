#!/bin/bash
# Makes images/gadgetd, the folder that rpiboot loads, from what Buildroot has built.
#
# Runs without root and without loop devices. Everything that could differ from one build to the
# next is pinned: times (SOURCE_DATE_EPOCH), the FAT's serial number, the order of the files.
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
value() { sed -n "s/^$1[= ]//p" "$here/config.txt" | tail -n 1; }

cp "$here/config.txt" "$here/cmdline.txt" "$boot"
for name in "$(value start_file)" "$(value fixup_file)"; do
    cp "$firmware/$name" "$boot"
done
for name in "$(value kernel)" "$(value initramfs)"; do
    cp "$images/$name" "$boot"
done
while read -r overlay; do
    cp "$firmware/overlays/$overlay.dtbo" "$boot/overlays"
done < <(sed -n 's/^dtoverlay=\([^,]*\).*/\1/p' "$here/config.txt")
cp "$images"/*.dtb "$boot"
find "$boot" -type f -exec chmod 644 {} +
find "$boot" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

[ "$(wc -l <"$boot/cmdline.txt")" -le 1 ] || fail "cmdline.txt has more than one line"
! grep -n '.\{99\}' "$boot/config.txt" || fail "config.txt: a line holds 98 characters at most"

# ---- The size: one sector a cluster, rounded up to a 16 KiB track ---------------------------------
# Some clusters stay free: boot loaders from before 2024 fail with "FAT read failed" on a FAT that is
# quite full (rpi-eeprom issue 521).
sector=512 root_entries=512 track=32 spare=64
clusters=0
while read -r bytes; do
    clusters=$((clusters + (bytes + sector - 1) / sector))
done < <(find "$boot" -type f -printf '%s\n')
# A directory: its own two entries, and up to 3 for a file's short and long name of 26 characters.
directories=$(find "$boot" -mindepth 1 -type d -printf x | wc -c)
entries=$(find "$boot" -mindepth 2 -printf x | wc -c)
clusters=$((clusters + spare + directories + (entries * 3 * 32 + sector - 1) / sector))
bits=16
[ $((clusters + 2 * track)) -ge 4085 ] || bits=12
[ "$clusters" -lt 65000 ] || fail "$((clusters / 2048)) MiB are too much for one RAM disk"
fat=$((((clusters + 2 + track) * bits / 8 + sector) / sector))
sectors=$((1 + 2 * fat + root_entries * 32 / sector + clusters))
sectors=$(((sectors + track - 1) / track * track))

# ---- The file system -----------------------------------------------------------------------------
image=$folder/boot.img
mkfs.fat --invariant -a -C -F "$bits" -S "$sector" -s 1 -R 1 -r "$root_entries" -f 2 \
    -g "64/$track" -i 47414447 -n BOOT "$image" $((sectors / 2)) >"$work/mkfs.log" ||
    { cat "$work/mkfs.log" >&2; exit 1; }
(
    cd "$boot"
    export MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null
    mmd -i "$image" ::/overlays
    find . -type f -printf '%P\n' | sort | while read -r name; do
        mcopy -m -i "$image" "$name" "::/$name"
    done
    # Read back before anybody boots from it.
    find . -type f -printf '%P\n' | while read -r name; do
        mtype -i "$image" "::/$name" | cmp - "$name" || fail "boot.img: $name is damaged"
    done
)
fsck.fat -n "$image" >"$work/fsck.log" || { cat "$work/fsck.log" >&2; exit 1; }

# ---- The folder ----------------------------------------------------------------------------------
cp "$here/rpiboot.txt" "$folder/config.txt"
for loader in bootfiles.bin bootcode4.bin; do
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
