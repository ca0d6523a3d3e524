"""What `on_ejected` asks for, once what the host has ejected is flushed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

from gadgetd.config import Config, OnEjected
from gadgetd.export import Export
from gadgetd.loop import Alarms
from gadgetd.status import Life

_POWER = {OnEjected.POWEROFF: signal.SIGUSR2, OnEjected.REBOOT: signal.SIGTERM}
"""What tells init to do it. Source: BusyBox, init/init.c."""


class Afterwards:
    """Inserts a disk again, or ends the board's run.

    `stop` takes all disks from the host and then calls what it is given; `power` sends a signal
    to init.
    """

    def __init__(
        self,
        alarms: Alarms,
        insert: Callable[[Export], None],
        stop: Callable[[Callable[[], None]], None],
        power: Callable[[signal.Signals], None],
    ) -> None:
        self._alarms = alarms
        self._insert = insert
        self._stop = stop
        self._power = power

    def flushed(self, export: Export, config: Config, *, all_ejected: bool) -> None:
        """Do what is asked for. What a person has ejected on the board stays out."""
        if not export.ejected_by_host:
            return
        if config.on_ejected_of(export.verdict.disk) is OnEjected.REINSERT:
            again = partial(self._reinsert, export)
            self._alarms.set(f"reinsert {export.number}", config.reinsert_after_s, again)
        elif config.on_ejected in _POWER and all_ejected:
            self._stop(partial(self._power, _POWER[config.on_ejected]))

    def _reinsert(self, export: Export) -> None:
        # It may have been inserted meanwhile, and ejected by somebody else.
        if export.life is Life.EJECTED and export.ejected_by_host:
            self._insert(export)
