#!/usr/bin/env bash
# Brings a Debian 12 or 13 machine to where `make run` and `make test` work, and says what it does.
#
# Outside this checkout and the cache it changes one thing: it installs the Debian packages below
# that are missing (as root, or through sudo). Running it again costs a fraction of a second.
#
#   GADGETD_CACHE   where everything else goes (default: ~/.cache/gadgetd)
set -euo pipefail
cd "$(dirname "$0")"

cache=${GADGETD_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/gadgetd}
python=/usr/bin/python3 # Debian's, whatever comes first on PATH: umockdev and the locks suit it
packages=(
    qemu-system-arm qemu-user # the emulated board; its programs when the image is built
    device-tree-compiler      # fdtput: the ACT LED and the model in the device tree
    kmod                      # depmod, for the image's kernel modules
    python3 python3-venv      # the emulator, the tests
    libudev1 umockdev         # pyudev in unit tests; recorded boards under it
    busybox-static            # the shell of the board, for tests of the UART
    shellcheck                # the shell scripts of the image
    mtools dosfstools         # boot.img, made of stand-ins and looked into
)

say() { printf '  %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    printf '  hint: %s\n' "$2" >&2
    exit 1
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            printf '%s\n' "$package"
    done
}

# Runs a command as root; all that it says is in the log, the parts that matter are shown too.
as_root() {
    local run=() shown
    shown="^(Need to get|E:|W:|Err:|Setting up ($(IFS='|'; echo "${packages[*]}"))[ :])"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            fail "Debian packages are missing and there is no sudo" \
                "as root: apt-get install --no-install-recommends ${missing[*]:-debian-archive-keyring}"
        run=(sudo)
    fi
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@" </dev/null 2>&1 |
        tee -a "$cache/log/apt.log" |
        { grep --line-buffered -E "$shown" || true; } |
        sed -u 's/^/    /'
}

install_debian_packages() {
    mapfile -t missing < <(missing_packages)
    # Without package lists nobody can tell which of the machine's sources is Debian's own, and
    # the emulated board's packages come from there.
    if [ ${#missing[@]} = 0 ] && [ -n "$(apt-get indextargets 'Origin: Debian' 2>/dev/null)" ]; then
        return
    fi
    say "asking apt for its package lists (log: $cache/log/apt.log)"
    as_root apt-get update -q || say "apt-get update had errors: going on with what there is"
    [ ${#missing[@]} != 0 ] || return 0
    say "installing Debian packages: ${missing[*]}"
    as_root apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" ||
        fail "apt-get could not install ${missing[*]}" "see $cache/log/apt.log"
}

install_python_packages() {
    local key
    key=$({ "$python" -VV; echo "$cache"; cat requirements-dev.txt; } | sha256sum | cut -c1-64)
    if [ "$(cat "$cache/venv/.complete" 2>/dev/null)" = "$key" ]; then
        return
    fi
    say "making a Python environment in $cache/venv"
    rm -rf "$cache/venv"
    "$python" -m venv "$cache/venv"
    say "installing $(grep -c '^[a-z].*==' requirements-dev.txt) Python packages, each checked by its hash"
    PIP_CACHE_DIR=$cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
        "$cache/venv/bin/python" -m pip install -q --require-hashes -r requirements-dev.txt ||
        fail "pip could not install requirements-dev.txt" "is the package index reachable?"
    printf '%s\n' "$key" >"$cache/venv/.complete"
}

{ command -v apt-get && command -v dpkg-query; } >/dev/null ||
    fail "this is not Debian: there is no apt-get" "use Debian 12 or 13, a container of it will do"
mkdir -p "$cache/log" "$cache/tmp"
exec 9>"$cache/setup.lock"
flock -n 9 || { say "another setup is running: waiting for it"; flock 9; }
install_debian_packages
install_python_packages
