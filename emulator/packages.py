"""Debian's packages for the emulated board, through an apt of the emulator's own.

This apt has its own state, package lists and archive in the cache, so the machine's dpkg and apt
never hear of it and nobody has to be root. Where Debian is to be had, and through which proxy, it
takes from the machine's apt; that the packages are Debian's it proves with Debian's keyring.
"""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator import cache
from emulator.errors import EmulatorError

SUITE = "bookworm"  # the guest's Debian, whatever the machine runs: kernel 6.1, Python 3.11
BACKPORTS = f"{SUITE}-backports"
KERNEL = "linux-image-arm64"
# The libraries are listed, not resolved: Debian's dependencies would bring dpkg, perl and an
# initramfs builder. image.py imports every extension module, so one missing here fails the build.
PACKAGES = (
    "busybox-static",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "python3-yaml",
    "python3-pyudev",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
    "libssl3",
    "libtinfo6",
    "libudev1",
    "libuuid1",
    "libyaml-0-2",
    "zlib1g",
)
KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")


def fetch(*, refresh: bool = False) -> list[Path]:
    """The packages as .deb files in the cache, downloaded if they are not all there yet.

    Once they are, this needs no network: newer ones are looked for only with `refresh`.
    Raises EmulatorError if a package cannot be had, or is not signed by Debian.
    """
    return _fetch(_GUEST, "complete.txt", (KERNEL, *PACKAGES), refresh=refresh)


def fetch_more(names: Sequence[str]) -> list[Path]:
    """Packages that a board has beside those of every board, as `fetch` gives them.

    Their own dependencies have to be named with them.
    """
    key = hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]
    return _fetch(_GUEST, f"more-{key}.txt", names, refresh=False)


def fetch_backport(name: str) -> Path:
    """A package for this machine from Debian 12's backports. Raises EmulatorError as `fetch`."""
    architecture = cache.output_of(["dpkg", "--print-architecture"], what="ask dpkg").strip()
    origin = _Origin("apt-backports", architecture, {"Debian": (BACKPORTS,)})
    (file,) = _fetch(origin, f"backport-{name}.txt", [name], refresh=False)
    return file


@dataclass(frozen=True)
class _Origin:
    """Which of Debian's packages: for which machines, and out of which suites of each archive."""

    directory: str  # apt's own, in the cache
    architecture: str
    suites: Mapping[str, Sequence[str]]  # by the archive's label


_GUEST = _Origin(
    "apt",
    "arm64",
    {"Debian": (SUITE, f"{SUITE}-updates"), "Debian-Security": (f"{SUITE}-security",)},
)


def _fetch(origin: _Origin, listed_in: str, names: Sequence[str], *, refresh: bool) -> list[Path]:
    """The packages' files; `listed_in` names the list of those that are there."""
    with cache.lock("packages"):
        archive = cache.directory("packages")
        listing = archive / listed_in
        head = "wanted: " + " ".join((SUITE, *names))
        if listing.exists() and not refresh:
            lines = listing.read_text().splitlines()
            files = [archive / line for line in lines[1:]]
            if lines[:1] == [head] and all(file.exists() for file in files):
                return files
        apt = _Apt(cache.directory(origin.directory), origin)
        with cache.step(f"reading Debian's package lists for {origin.architecture}"):
            apt.run("update", "-q", what="read Debian's package lists")
        packages = [apt.kernel_package() if name == KERNEL else name for name in names]
        wanted = apt.wanted(packages)
        _download(apt, archive, wanted)
        cache.write_atomically(listing, "\n".join([head, *(w.file for w in wanted)]).encode())
        return [archive / w.file for w in wanted]


@dataclass(frozen=True)
class _Wanted:
    """A package that apt has chosen: its version is in the name of its file."""

    name: str
    file: str
    size_bytes: int
    hash: str  # "SHA256:…", from the signed package list

    def is_in(self, archive: Path) -> bool:
        """Whether the whole file is there, by its hash."""
        path = archive / self.file
        if not path.exists() or path.stat().st_size != self.size_bytes:
            return False
        kind, _, digest = self.hash.partition(":")
        with path.open("rb") as file:
            return hashlib.file_digest(file, kind.lower()).hexdigest() == digest


def _download(apt: "_Apt", archive: Path, wanted: Sequence[_Wanted]) -> None:
    """Fetch what is not in the archive yet; apt checks each file's hash and goes on with parts."""
    missing = [package for package in wanted if not package.is_in(archive)]
    if not missing:
        return
    size_mb = sum(package.size_bytes for package in missing) / 1e6
    with cache.step(f"downloading {len(missing)} Debian packages, {size_mb:.0f} MB"):
        quiet = [] if sys.stderr.isatty() else ["-q"]
        names = [package.name for package in missing]
        done = subprocess.run(
            ["apt-get", *quiet, "download", *names],
            env=apt.env,
            cwd=archive,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        )
    lost = [package.file for package in missing if not package.is_in(archive)]
    if done.returncode != 0 or lost:
        raise EmulatorError(
            f"could not download {', '.join(lost) or 'the Debian packages'}",
            hint="run it again: what has arrived is kept",
        )


class _Apt:
    """apt-get and apt-cache with everything they write, and their sources, in one directory."""

    def __init__(self, directory: Path, origin: _Origin) -> None:
        """Write its configuration anew from the machine's.

        Raises EmulatorError if the machine has no source of Debian's own.
        """
        for part in ("state/lists/partial", "cache/archives/partial"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "state/status").touch()
        (directory / "sources.list").write_text("\n".join(_sources(origin)) + "\n")
        # The first file that apt reads: the machine's own parts, with hooks that clean up its
        # archive, are then not read; of them only how to reach the network is kept.
        network = re.compile(r"Acquire::(https?|Retries|ForceIPv)")
        dump = cache.output_of(["apt-config", "dump"], what="read apt's configuration")
        settings = {
            "Dir::State": directory / "state",
            "Dir::State::status": directory / "state/status",
            "Dir::Cache": directory / "cache",
            "Dir::Etc::sourcelist": directory / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "APT::Architecture": origin.architecture,
            "APT::Architectures": origin.architecture,
            "APT::Sandbox::User": "root",  # the cache may be where user _apt cannot go
            "Acquire::Languages": "none",
        }
        (directory / "apt.conf").write_text(
            "".join(line + "\n" for line in dump.splitlines() if network.match(line))
            + "".join(f'{key} "{value}";\n' for key, value in settings.items())
        )
        self.env = {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": str(directory / "apt.conf")}

    def run(self, *arguments: str, program: str = "apt-get", what: str) -> str:
        """Run apt-get or apt-cache and return its stdout; raises EmulatorError if it fails."""
        return cache.output_of([program, *arguments], env=self.env, what=what)

    def kernel_package(self) -> str:
        """The package that the kernel's metapackage stands for today."""
        said = self.run("depends", KERNEL, program="apt-cache", what=f"look up {KERNEL}")
        match = re.search(r"Depends: (linux-image-6\.1\S*-arm64)$", said, re.MULTILINE)
        if not match:
            raise EmulatorError(f"Debian's {KERNEL} names no 6.1 kernel", hint="has bookworm gone?")
        return match[1]

    def wanted(self, names: Sequence[str]) -> list[_Wanted]:
        """What apt would download for these packages."""
        said = self.run("download", "--print-uris", *names, what="look up Debian packages")
        found = []
        for line in said.splitlines():
            _, file, size, digest = shlex.split(line)
            found.append(_Wanted(file.partition("_")[0], file, int(size), digest))
        return found


def _sources(origin: _Origin) -> list[str]:
    """sources.list lines, from wherever this machine has Debian itself from."""
    said = cache.output_of(
        ["apt-get", "indextargets", "--format", "$(LABEL)|$(SITE)", "Origin: Debian"],
        what="ask apt for the machine's Debian sources",
    )
    pairs = {tuple(line.split("|", 1)) for line in said.splitlines()}
    lines = [
        f"deb [arch={origin.architecture} signed-by={_keyring()}] {site} {suite} main"
        for label, site in sorted(pairs)
        for suite in origin.suites.get(label, ())
    ]
    if not any(label == "Debian" for label, _ in pairs):
        raise EmulatorError(
            "this machine's apt has no Debian source, or has never read its package lists",
            hint="run: make setup",
        )
    return lines


def _keyring() -> Path:
    """Debian's archive keyring on this machine."""
    for name in KEYRINGS:
        path = Path("/usr/share/keyrings") / name
        if path.exists():
            return path
    raise EmulatorError(
        "Debian's archive keyring is not on this machine",
        hint="apt-get install debian-archive-keyring",
    )
