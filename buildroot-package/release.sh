#!/usr/bin/env bash
# `make release`: what a release consists of, from what `make image` has built.
#
#   GADGETD_CACHE=DIR    where `make image` has put everything (default: ~/.cache/gadgetd)
#   BUILDROOT=DIR        the Buildroot that it was built with, if not the pinned one
#   BOARD=cm4|cm5        which image (default: cm4)
#
# Leaves in image/release, beside another board's:
#   gadgetd-BOARD-rpiboot-VERSION.zip      the folder for rpiboot, manifest and checksums within
#   gadgetd-BOARD-sbom-VERSION.cdx.json    every package of the image, as CycloneDX
#   gadgetd-BOARD-licences-VERSION.tar.gz  their licences, and which package has which
#   gadgetd-BOARD-sources-VERSION.tar      their sources, as the GPL asks for
#   SHA256SUMS                             of all these
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${GADGETD_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/gadgetd}
[[ $cache = /* ]] || cache=$PWD/$cache
board=${BOARD:-cm4}
release=$cache/image/release
work=$cache/image
[ "$board" = cm4 ] || work=$work/$board
output=$work/output
folder=$output/images/gadgetd
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/../gadgetd/__init__.py")
# A make that calls this script must not hand its flags down.
unset MAKEFLAGS MAKELEVEL MFLAGS

say() { printf '  %s\n' "$*"; }
fail() {
    printf 'release: %s\n' "$1" >&2
    printf '  hint: %s\n' "$2" >&2
    exit 1
}

[ -s "$folder/boot.img" ] || fail "there is no image in $folder" "run: make image"
command -v zip >/dev/null || fail "zip is not installed" "on Debian: apt-get install zip"
(cd "$folder" && sha256sum --quiet -c SHA256SUMS) ||
    fail "$folder is not what was built" "run: make image"
# The output directory has a Makefile that knows the Buildroot that made it.
buildroot=${BUILDROOT:-$(sed -n 's/^MAKEARGS := -C \(.*\)$/\1/p' "$output/Makefile")}
sbom=$buildroot/utils/generate-cyclonedx
[ -f "$sbom" ] || fail "there is no Buildroot in ${buildroot:-$output/Makefile}" "name it: BUILDROOT=DIR"

mkdir -p "$release"
rm -f "$release/gadgetd-$board-"*
# As Buildroot has it, so that the same sources give the same bytes.
stamp=$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)

say "the folder for rpiboot"
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
mkdir "$staging/gadgetd"
cp "$folder"/* "$staging/gadgetd"
find "$staging" -exec touch -d "@$stamp" {} +
(cd "$staging" && find gadgetd -print | LC_ALL=C sort | TZ=UTC zip -q -X -@ "$release/gadgetd-$board-rpiboot-$version.zip")

say "the list of its packages"
make -s -C "$output" show-info |
    python3 "$sbom" --project-name gadgetd --project-version "$version" \
        -o "$release/gadgetd-$board-sbom-$version.cdx.json"

say "licences and sources"
make -s -C "$output" legal-info >"$work/legal-info.log" 2>&1 ||
    fail "Buildroot's legal-info failed" "see the end of $work/legal-info.log"
pack() { tar -C "$output" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$stamp" "$@"; }
pack -czf "$release/gadgetd-$board-licences-$version.tar.gz" --exclude='*sources' legal-info
pack -cf "$release/gadgetd-$board-sources-$version.tar" legal-info/sources
(cd "$release" && sha256sum -- gadgetd-* >SHA256SUMS)
say "ready: $release"
(cd "$release" && du -h -- *) | sed 's/^/    /'
