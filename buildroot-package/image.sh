#!/usr/bin/env bash
# `make image`: from source to a folder that rpiboot loads, with an unmodified Buildroot.
#
#   BUILDROOT=DIR        an unpacked Buildroot to use instead of the pinned one
#   BUILDROOT_GIT=URL    where the pinned one is fetched from
#   CONFIG=FILE          the gadgetd.yaml that the image is to have
#   BOARD=cm4|cm5        BCM2711: Compute Module 4, 4S, Pi 4B, 400 (the default); BCM2712: 5, Pi 5, 500
#   IMAGE_JOBS=N         compile so many files at a time (default: one a CPU)
#   GADGETD_CACHE=DIR    where everything goes (default: ~/.cache/gadgetd)
#
# Nothing is written to the checkout. Downloads and what is built are kept, so an interrupted run
# goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

version=2026.02.3
# The commit that the release is: git itself makes sure that nothing else arrives under its name.
commit=679b9ead7620bbf193620d1ebf56f53c1764d37a
source=${BUILDROOT_GIT:-https://gitlab.com/buildroot.org/buildroot.git}
downloads=https://buildroot.org/downloads
cache=${GADGETD_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/gadgetd}
[[ $cache = /* ]] || cache=$PWD/$cache
board=${BOARD:-cm4}
defconfig=gadgetd_${board}_defconfig
# The sources are every board's, what is built of them is not.
shared=$cache/image
work=$shared
[ "$board" = cm4 ] || work=$shared/$board
output=$work/output
log=$work/build.log

# What the programs say is searched below, and sorted lists are compared with the last run's.
export LC_ALL=C
# The kernel's merge_config.sh loses its fragments if this directory does not exist.
export TMPDIR=$work/tmp
# tar's configure refuses root, and Debian 12's own tar is too old, so Buildroot has to build one.
# In a container everybody is root.
export FORCE_UNSAFE_CONFIGURE=1
# A make that calls this script must not hand its flags down, nor a shell its idea of the time.
unset MAKEFLAGS MAKELEVEL MFLAGS SOURCE_DATE_EPOCH

# What Buildroot asks of the machine, and the Debian package that has it.
programs=(
    which:debianutils sed:sed make:make gcc:gcc g++:g++ ld:binutils bash:bash patch:patch
    gzip:gzip bzip2:bzip2 xz:xz-utils perl:perl tar:tar cpio:cpio unzip:unzip rsync:rsync
    file:file bc:bc find:findutils diff:diffutils awk:gawk wget:wget git:git python3:python3
    # The last step runs the board's Python.
    qemu-aarch64:qemu-user
)

say() { printf '  %s\n' "$*"; }
fail() {
    printf 'image: %s\n' "$1" >&2
    printf '  hint: %s\n' "$2" >&2
    exit 1
}

check_programs() {
    local entry missing=()
    for entry in "${programs[@]}"; do
        command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
    done
    # Without them neither git nor wget believes any server. Other systems keep them elsewhere.
    [ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || missing+=(ca-certificates)
    [ ${#missing[@]} = 0 ] ||
        fail "Buildroot needs what is not here" \
            "on Debian: apt-get install --no-install-recommends ${missing[*]}"
    # Buildroot's own rule; its message comes after minutes otherwise.
    case $PATH in *[[:space:]]* | *::* | :* | *:) fail "PATH has spaces or empty parts" "Buildroot needs it without" ;; esac
    local free
    free=$(df -Pk "$work" | awk 'END { print int($4 / 1048576) }')
    [ "$free" -ge 10 ] || [ -d "$output/build" ] ||
        fail "$work has $free GiB left; a build takes up to 10" "set GADGETD_CACHE to a larger disk"
}

# Before anything else: what no installed program helps against.
check_machine() {
    local path machine
    machine=$(uname -m)
    [ "$machine" = x86_64 ] ||
        fail "make image needs an x86-64 PC: there is no toolchain for $machine" \
            "build it there; the folder that it makes can be used anywhere"
    for path in "$work" "$here" "${BUILDROOT:-}"; do
        case $path in *[[:space:]:]*)
            fail "there is a space or a colon in $path" \
                "make cannot build there; GADGETD_CACHE=DIR puts what is built elsewhere"
            ;;
        esac
    done
}

# Leaves BUILDROOT absolute.
check_buildroot() {
    [ -n "${BUILDROOT:-}" ] || return 0
    local hint="BUILDROOT=DIR is an unpacked Buildroot; without it, Buildroot $version is fetched"
    [ -e "$BUILDROOT" ] || fail "there is no $BUILDROOT" "$hint"
    [ -d "$BUILDROOT" ] || fail "$BUILDROOT is no directory" "$hint"
    [ -f "$BUILDROOT/package/Makefile.in" ] || fail "$BUILDROOT is no Buildroot" "$hint"
    BUILDROOT=$(cd "$BUILDROOT" && pwd)
}

# Leaves the directory of a Buildroot that can be trusted in $buildroot, its version in $its.
get_buildroot() {
    if [ -n "${BUILDROOT:-}" ]; then
        buildroot=$BUILDROOT
        # Not `make print-version`: that says what git describes there, the commit of a clone or the
        # tag of any checkout around it.
        its=$(sed -n 's/^export BR2_VERSION := //p' "$buildroot/Makefile" 2>/dev/null)
        [ -n "$its" ] || fail "$buildroot is no Buildroot" "unpack a release there: $downloads/"
        [ "$its" = "$version" ] || say "Buildroot $its is used; $version is the one that is tested"
        return
    fi
    buildroot=$shared/buildroot-$version its=$version
    [ "$(git -C "$buildroot" rev-parse HEAD 2>/dev/null)" = "$commit" ] && return
    say "fetching Buildroot $version"
    rm -rf "$buildroot.part"
    git init -q "$buildroot.part"
    if ! git -C "$buildroot.part" fetch -q --depth 1 "$source" "refs/tags/$version" 2>>"$log"; then
        say "git says: $(sed -n 's/^fatal: //p' "$log" | head -n 1)"
        fail "Buildroot $version could not be fetched: there is no network, or $source is down" \
            "get buildroot-$version.tar.gz from $downloads/ any other way, unpack it, and run: make image BUILDROOT=DIR"
    fi
    [ "$(git -C "$buildroot.part" rev-parse 'FETCH_HEAD^{commit}')" = "$commit" ] ||
        fail "$source has another Buildroot $version than the one this was made for ($commit)" \
            "do not build it; ask why"
    git -C "$buildroot.part" checkout -q --detach FETCH_HEAD
    rm -rf "$buildroot"
    mv "$buildroot.part" "$buildroot"
}

# Leaves CONFIG absolute. What is in it gadgetd itself checks, at the end of the build.
check_config() {
    [ -n "${CONFIG:-}" ] || return 0
    [ -f "$CONFIG" ] || fail "there is no $CONFIG" "CONFIG=FILE is a gadgetd.yaml; make image without it has the defaults"
    CONFIG=$(realpath "$CONFIG")
    case $CONFIG in *[[:space:]]*) fail "there is a space in $CONFIG" "make cannot read it there: copy it" ;; esac
}

buildroot_make() {
    make --no-print-directory -C "$buildroot" ${CONFIG:+BR2_PACKAGE_GADGETD_CONFIG="$CONFIG"} \
        O="$output" BR2_EXTERNAL="$here" BR2_DL_DIR="$shared/dl" "$@"
}

hash_of() { cat "$@" | sha256sum | cut -c1-64; }

# What decides how packages are built, as a text that is another one when any of it is.
inputs() {
    echo "$buildroot $its"
    [ ! -e "$buildroot/.git" ] || git -C "$buildroot" rev-parse HEAD
    # BusyBox too: its installation adds links to the target and takes none away.
    (cd "$here" && find Config.in external.* "configs/$defconfig" package patches board/cm4/busybox.config -type f \
        -exec sha256sum {} + | sort)
}

overlay() { (cd "$here/../rootfs-overlay" && find . -mindepth 1 -printf '%P\n' | sort); }

quietly() { buildroot_make "$1" >>"$log" 2>&1 || fail "Buildroot refuses $1" "see the end of $log"; }

configure() {
    local asked
    quietly "$defconfig"
    # Kconfig drops in silence what it does not know or cannot have.
    asked=$(sed -n 's/^BR2_DEFCONFIG="\(.*\)"$/\1/p' "$output/.config")
    "$here/board/cm4/check-kconfig.sh" "$output/.config" "$asked" ||
        fail "Buildroot $its does not take $defconfig as it stands" \
            "the lines above say what it lacks; Buildroot $version is the one that is tested"
}

# Has Buildroot do again what it cannot know to be out of date. It looks at no file outside itself.
refresh() {
    local again gone why=
    inputs >"$work/inputs"
    overlay >"$work/overlay"
    touch "$work"/{inputs,overlay}.built
    cmp -s "$work/inputs" "$work/inputs.built" || why="the configuration or Buildroot has changed"
    # What the overlay has put into the image stays there, in place of a package's file perhaps.
    gone=$(comm -13 "$work/overlay" "$work/overlay.built" | tail -n 1)
    [ -z "$gone" ] || why="rootfs-overlay has no $gone any more"
    if [ -n "$why" ] && [ -d "$output/build" ]; then
        say "$why: building everything anew"
        quietly clean
    fi
    mv "$work/overlay" "$work/overlay.built"
    if ! cmp -s "$work/inputs" "$work/inputs.built"; then
        configure
        mv "$work/inputs" "$work/inputs.built"
    fi
    again=$(cd "$here/board" && hash_of {cm4,"$board"}/linux.config {cm4,"$board"}/linux-rpi.config)
    if [ "$(cat "$work/linux.built" 2>/dev/null)" != "$again" ]; then
        [ ! -d "$output/build" ] || quietly linux-dirclean
        echo "$again" >"$work/linux.built"
    fi
    [ ! -d "$output/build" ] || quietly gadgetd-dirclean
}

# One line a package, with how far it is; everything that is said is in the log at once. Not by awk:
# Debian's own reads a pipe by the block, and would say nothing while the kernel is compiled.
progress() {
    local total=$1 line step package='' count=0 seen=' '
    local colour=$'\033\\[[0-9;]*m' # in reverse or bold, as the terminal has it
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line" >>"$log"
        [[ $line =~ ^($colour)?'>>> '(.*)$ ]] || continue
        step=${BASH_REMATCH[2]}
        while [[ $step =~ $colour ]]; do step=${step/"${BASH_REMATCH[0]}"/}; done
        if [[ $step =~ ^[[:space:]]*(Finalizing|Generating|Executing\ post-image) ]]; then
            say "${step#"${step%%[![:space:]]*}"}"
        elif [[ $step =~ ^([^ ]+)\ .*(Downloading|Extracting|Syncing|Building|Installing) ]]; then
            [ "${BASH_REMATCH[1]}" != "$package" ] || continue
            package=${BASH_REMATCH[1]}
            [[ $seen = *" $package "* ]] || { seen+="$package "; count=$((count + 1)); }
            printf '  %3d of %d  %s\n' "$count" "$total" "$package"
        fi
    done
}

# The lines of the log that say why it stopped: the first errors of the package that was last begun.
cause() {
    local from
    from=$(grep -an '>>> ' "$log" | tail -n 1 | cut -d: -f1)
    tail -n "+${from:-1}" "$log" | grep -aE '(^|[ :])(ERROR|error|Error|fatal error|\*\*\*|prune|post-image|promises|check-kconfig)[: ]|: asked for: ' |
        grep -avE '^(checking|configure:|config\.status) ?|\.\.\. (yes|no)$' | head -n 6
}

[ -f "$here/configs/$defconfig" ] || fail "there is no image for $board" "BOARD is cm4 or cm5"
check_buildroot
check_config
check_machine
mkdir -p "$TMPDIR"
exec 9>"$work.lock"
flock -n 9 || { say "another make image is running: waiting for it"; flock 9; }
check_programs
: >"$log"
get_buildroot
refresh
todo=$(buildroot_make -s show-build-order 2>/dev/null | wc -w)
[ -d "$output/images" ] || say "the first build takes half an hour to two, the next ones a minute"
# All downloads first: what the network has to say, it says in the first minutes.
say "fetching the sources that are not in $shared/dl (log: $log)"
build() { buildroot_make ${IMAGE_JOBS:+BR2_JLEVEL="$IMAGE_JOBS"} "$@" 2>&1 9>&- | progress "$todo"; }
if ! { build source && say "building with Buildroot in $buildroot" && build all; }; then
    said=$(cause) || true
    printf '%s\n' "${said:-$(tail -n 5 "$log")}" >&2
    if grep -qaE 'unable to resolve|Could not resolve|Network is unreachable|Connection (refused|timed out)' "$log"; then
        fail "a source could not be downloaded: there is no network, or a proxy is needed" \
            "run make image again when there is one: what has arrived is kept in $shared/dl"
    fi
    fail "Buildroot stopped" "see the end of $log; run make image again and it goes on from there"
fi
folder=$output/images/gadgetd
echo
sed -n '1,/^$/p' "$output/images/gadgetd-sizes.txt"
say "ready: $folder"
say "rpiboot, if this PC has none: $output/host/bin/rpiboot"
say "Set the board's nRPIBOOT jumper, connect its USB port to this PC, and run:"
say "  sudo rpiboot -d $folder"
