"""Bounds on data that the host believes written and that waits in RAM.

With the kernel's defaults a fifth of RAM fills up before a slow disk is made to keep up; the
gadget then stops answering, the host resets the port and data is lost. See docs/slow-media.md.
"""

from __future__ import annotations

from pathlib import Path

from gadgetd import sysfs
from gadgetd.errors import Problem

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
