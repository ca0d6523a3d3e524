"""How long a disk that is on its way is waited for."""

from __future__ import annotations

from collections.abc import Sequence

from gadgetd.disks.disk import Pending


class ArrivalWait:
    """Remembers since when each disk has been on its way. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self.awaited: tuple[Pending, ...] = ()
        """Those whose time was not over at the last look."""

    def look(
        self, pending: Sequence[Pending], certain_s: float, uncertain_s: float, now: float
    ) -> float:
        """Note which are on their way; returns in how long the time of the first is over."""
        self._since = {each.key: self._since.get(each.key, now) for each in pending}
        left_s = {
            each.key: (certain_s if each.certain else uncertain_s) - (now - self._since[each.key])
            for each in pending
        }
        self.awaited = tuple(each for each in pending if left_s[each.key] > 0)
        return min((left_s[each.key] for each in self.awaited), default=0.0)
