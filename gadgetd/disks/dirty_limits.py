"""Bounds on data that the host believes written and that waits in RAM.

With the kernel's defaults a fifth of RAM fills up before a slow disk is made to keep up; the
gadget then stops answering, the host resets the port and data is lost. See docs/slow-media.md.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gadgetd import sysfs
from gadgetd.errors import Problem

MEMORY = Path("/run/gadgetd/dirty")
_BEFORE = (
    "dirty_background_ratio",
    "dirty_background_bytes",
    "dirty_ratio",
    "dirty_bytes",
    "dirty_expire_centisecs",
    "dirty_writeback_centisecs",
)
"""What is put back. Of a ratio and its bytes one is 0, and writing the other makes it so."""
EXPIRE_CENTISECS = 100
WAKEUP_CENTISECS = 50
"""Data older than a second is written at the next wake-up, half a second later at most. The
kernel's 30 s and 5 s would leave a small write in RAM long after the host's progress bar ended."""


def limit(
    dirty_bytes: int, dirty_background_bytes: int, proc: Path = Path("/proc")
) -> tuple[Problem, ...]:
    """Set the kernel's bounds and say which it refused.

    Source: Documentation/admin-guide/sysctl/vm.rst.
    """
    refused = []
    for name, value in (
        # The background bound first: the kernel lowers it itself if it is not below the other.
        ("dirty_background_bytes", dirty_background_bytes),
        ("dirty_bytes", dirty_bytes),
        ("dirty_expire_centisecs", EXPIRE_CENTISECS),
        ("dirty_writeback_centisecs", WAKEUP_CENTISECS),
    ):
        try:
            sysfs.write(proc / "sys" / "vm" / name, f"{value}\n")
        except OSError as error:
            words = f"cannot set vm.{name} to {value}: {error.strerror}"
            refused.append(Problem(words, "a slow disk may stall the host; see docs/slow-media.md"))
    return tuple(refused)


def remember(memory: Path = MEMORY, proc: Path = Path("/proc")) -> None:
    """Keep what the kernel's bounds are, for `put_back`; a daemon that was killed has done so."""
    if memory.exists():
        return
    values = []
    for name in _BEFORE:
        with suppress(OSError):
            values.append(f"{name} {int(sysfs.read(proc / 'sys' / 'vm' / name))}\n")
    with suppress(OSError):  # Without a place for it the bounds stay; that is no reason to stop.
        memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        memory.write_text("".join(values))


def put_back(memory: Path = MEMORY, proc: Path = Path("/proc")) -> None:
    """Give the kernel the bounds that it had before the first daemon. Nothing is raised."""
    with suppress(OSError):
        for line in memory.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in _BEFORE and value not in ("", "0"):  # The other one of the two stands.
                with suppress(OSError):
                    sysfs.write(proc / "sys" / "vm" / name, f"{value}\n")
        memory.unlink()
