"""How fast each disk was lately: what the small charts on HDMI are drawn from."""

from __future__ import annotations

from gadgetd.status import DiskStatus, Life, Status

STEP_S = 1.0
"""Time that one bar stands for, in seconds."""
_PAUSE_S = 5.0
"""After so long without traffic a gap is drawn. While nothing moves, nothing is drawn at all."""
_KEPT = 120
MOVING = (Life.READING, Life.WRITING)
"""In these a disk has a rate."""

Key = tuple[int | None, str]
"""A disk's number and its kernel name."""


class Rates:
    """Remembers the rates of a row of statuses, in bytes a second, for a while."""

    def __init__(self) -> None:
        self._values: dict[Key, list[int]] = {}
        self._last: dict[Key, float] = {}

    def note(self, status: Status, now: float) -> None:
        """Take over the rates of a status; `now` is a monotonic clock's time in seconds."""
        # What comes into the LUN of a disk that has gone may be another one.
        there = {key_of(row) for row in status.disks if row.life is not Life.GONE}
        for key in self._values.keys() - there:
            del self._values[key], self._last[key]
        for row in status.disks:
            if row.life in MOVING and row.lun is not None:
                self._note(key_of(row), row.rate_bytes_s, now)

    def of(self, row: DiskStatus) -> tuple[int, ...]:
        """Give the rates of a disk, the last one last."""
        return tuple(self._values.get(key_of(row), ()))

    def _note(self, key: Key, rate: int, now: float) -> None:
        values = self._values.setdefault(key, [])
        last = self._last.get(key, now)
        if values and now - last >= _PAUSE_S:
            values.append(0)
        if values and int(now / STEP_S) == int(last / STEP_S):
            values[-1] = rate
        else:
            values.append(rate)
        del values[:-_KEPT]
        self._last[key] = now


def key_of(row: DiskStatus) -> Key:
    """Give what tells this disk in its LUN from others."""
    return row.lun, row.disk.name
