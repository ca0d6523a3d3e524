"""Whom the kernel ends when the board's memory runs out: anything else before the daemon."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gadgetd import sysfs

LAST = -999
"""Its badness is below that of all others, but there is one: at -1000 the kernel would panic where
only the daemon is left to end, and init starts another (source: oom_badness, mm/oom_kill.c)."""
ORDINARY = 0


def set_score(score: int, process: Path = Path("/proc/self")) -> None:
    """Set a process' oom_score_adj, which those that it starts inherit.

    Nothing is said where it cannot be set: that decides nothing as long as there is memory.
    Source: proc(5).
    """
    with suppress(OSError):
        sysfs.write(process / "oom_score_adj", str(score))
