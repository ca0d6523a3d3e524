"""A QEMU that has a BCM2711: the machine's own if it is new enough, else Debian 12's backport.

Debian 12's QEMU 7.2 has no raspi4b; that came with 9.0. The backport is unpacked into the cache and
runs beside the installed one, with the libraries that that one brought. Debian 13 has QEMU 10.
"""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from emulator import cache, packages
from emulator.errors import EmulatorError
from emulator.qemu import QEMU

PACKAGE = "qemu-system-arm"
MACHINE = "raspi4b"


def with_raspi4b() -> Path:
    """The program, brought if it is not there.

    Raises EmulatorError where neither the machine's QEMU nor its mirror's backports have one: a
    test that needs it fails then, and does not skip.
    """
    installed = shutil.which(QEMU)
    if installed and _has_it(Path(installed)):
        return Path(installed)
    try:
        deb = packages.fetch_backport(PACKAGE)
    except EmulatorError as error:
        raise EmulatorError(
            f"this machine's QEMU has no {MACHINE}, and its Debian mirror no newer one:"
            f" {error.message}",
            hint="use Debian 13, or a mirror that has bookworm-backports;"
            " tests of the BCM2711 are left out with ARGS=\"-k 'not bcm2711'\"",
        ) from error
    with cache.lock("qemu"):
        home = cache.directory("qemu") / deb.stem
        if not home.exists():
            _unpack(deb, home)
    program = home / "usr/bin" / QEMU
    if not _has_it(program):
        raise EmulatorError(
            f"{program} does not run, or has no {MACHINE}", hint=f"what does {program} -M help say?"
        )
    return program


def _unpack(deb: Path, home: Path) -> None:
    """Unpack the package where no older one is, or nothing."""
    for old in home.parent.iterdir():
        shutil.rmtree(old)
    with cache.step(f"unpacking {deb.name}"):
        draft = Path(tempfile.mkdtemp(dir=home.parent))
        cache.output_of(["dpkg-deb", "-x", deb, draft], what=f"unpack {deb.name}")
        (draft / "usr/bin/qemu-system-arm").unlink()  # of 32-bit machines
        draft.rename(home)


def _has_it(program: Path) -> bool:
    with contextlib.suppress(OSError):
        done = subprocess.run([program, "-M", "help"], capture_output=True, text=True, check=False)
        return any(line.startswith(f"{MACHINE} ") for line in done.stdout.splitlines())
    return False
