"""The daemon: one poll loop over uevents, the controller's state, timers, signals and commands.

It turns what happens into calls of the other modules and the result into one status. It neither
parses nor formats, and it holds no state that another module could derive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gadgetd import plan
from gadgetd.advice import PATIENCE_S, about_io, about_link
from gadgetd.blockscan import BlockScan, OwnGadget, Pending
from gadgetd.config import Config, OnEjected, load
from gadgetd.disk import Verdict
from gadgetd.errors import ConfigError, GadgetdError
from gadgetd.export import Export
from gadgetd.exporter import Exporter, Waits
from gadgetd.host import Host
from gadgetd.kmsg import KernelLog
from gadgetd.life import UNWRITTEN, Signal
from gadgetd.login import Login
from gadgetd.loop import URGENT, Loop, Timer
from gadgetd.panel import Panel
from gadgetd.report import Facts, phase_of, rows
from gadgetd.status import Board, Life, Phase, Problem, Status
from gadgetd.writeback import limit

TICK_S = 0.5
"""How often counters and LUNs are looked at while a host is there: an eject raises no event."""
RETRY_S = 5.0
"""How long after a step that the kernel refused it is tried again."""

_POWER = {OnEjected.POWEROFF: signal.SIGUSR2, OnEjected.REBOOT: signal.SIGTERM}
"""What BusyBox init understands (source: BusyBox's init/init.c and init/halt.c)."""


class Daemon:
    """Exports the disks and lives with the host, until `stop` or a signal ends it."""

    def __init__(
        self,
        loop: Loop,
        config_path: Path,
        board: Board,
        version: str,
        scan: BlockScan,
        exporter: Exporter,
        panel: Panel,
        login: Login,
        log: KernelLog,
        *,
        proc: Path = Path("/proc"),
        power: Callable[[signal.Signals], None] = lambda number: os.kill(1, number),
    ) -> None:
        self._loop = loop
        self._config_path = config_path
        self._board = board
        self._version = version
        self._scan = scan
        self._exporter = exporter
        self._panel = panel
        self._login = login
        self._log = log
        self._proc = proc
        self._power = power
        self._host = Host(
            loop,
            exporter.controllers,
            arrived=self._on_host_arrived,
            left=self._on_host_left,
            changed=self._on_host_changed,
        )
        self._alarms: dict[str, Timer] = {}
        self._config: Config | None = None
        self._config_problem: Problem | None = None
        self._problem: Problem | None = None
        self._limits_refused: tuple[Problem, ...] = ()
        self._verdicts: tuple[Verdict, ...] = ()
        self._awaited: tuple[Pending, ...] = ()
        self._first_seen: dict[str, float] = {}
        self._unbound_since = loop.clock()
        self._waits = Waits.NOTHING
        self._stopped = False
        self._stopped_safely: bool | None = None  # None until the gadget is down.
        self._prepared = False
        self._after_stop: list[Callable[[], None]] = []
        self._io_errors: dict[str, int] = {}
        self.status = Status(version, Phase.STARTING, "starting", board)

    # Start and end

    def start(self) -> None:
        """Begin to watch, and export what is there. The caller then runs the loop."""
        self._loop.watch(self._scan.fileno(), self._on_uevent)
        if self._log.fileno() >= 0:
            self._loop.watch(self._log.fileno(), self._on_kernel_log)
        self._exporter.before_removal = self._login.end
        try:
            # A disk that is unmounted on the board can be exported from then on.
            mounts = os.open(self._proc / "self" / "mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._loop.watch(mounts, self.reconcile, URGENT)
        except OSError:
            pass  # Not the kernel's own /proc: uevents must do.
        self.reload()

    def stop(self, then: Callable[[], None]) -> None:
        """Take the disks from the host, flush them, take the gadget down, then call `then`."""
        self._stopped = True
        self._after_stop.append(then)
        try:
            self._exporter.disconnect()
        except GadgetdError as error:
            self._problem = _problem(error)
        self._host.follow("")  # Which also outdates the flushes that are under way.
        self._login.keep(wanted=False)
        for export in self.exports:
            if export.hold and export.flush is None:
                self._flush(export)
        self._show()
        self._finish_stop()

    def _finish_stop(self) -> None:
        """Go on with a stop, if there is one, once nothing is being flushed any more."""
        if not self._after_stop or any(export.flush for export in self.exports):
            return
        if self._stopped_safely is None:  # Else this is a second stop, of nothing.
            self._stopped_safely = not any(export.life in UNWRITTEN for export in self.exports)
        try:
            self._exporter.close()
        except GadgetdError as error:
            self._problem = _problem(error)
        self._verdicts = ()
        self._show()
        callbacks, self._after_stop = self._after_stop, []
        for then in callbacks:
            then()

    @property
    def stopping(self) -> bool:
        """A stop is under way: disks are still being flushed."""
        return bool(self._after_stop)

    def resume(self) -> None:
        """Export again after `stop`, with the configuration as it is in the file now."""
        self._stopped, self._stopped_safely = False, None
        self.reload()

    def reload(self) -> None:
        """Read the configuration again. A bad one changes nothing; at the start it exports none."""
        try:
            self._config = load(self._config_path)
            self._config_problem = None
        except ConfigError as error:
            where = (str(error.file), error.line, error.column, error.key, error.expected)
            self._config_problem = Problem(error.message, error.hint, *where)
        if self._config is not None:
            self._limits_refused = tuple(
                Problem(text, "a slow disk may stall the host; see docs/slow-media.md")
                for text in limit(self._config.writeback, self._proc)
            )
        self.reconcile()

    # What happens on the board

    def _on_uevent(self) -> None:
        if self._scan.drain():
            self.reconcile()

    def _on_kernel_log(self) -> None:
        names = [export.name for export in self.exports]
        failed = [name for name in self._log.io_errors() if name in names]
        for name in failed:
            self._io_errors[name] = self._io_errors.get(name, 0) + 1
        if failed:
            self._show()

    def reconcile(self) -> None:
        """Look at everything anew, and bring the gadget to what it ought to be."""
        if not self._stopped:
            self._problem = None
            was_bound = bool(self._exporter.udc)
            try:
                self._reconcile()
            except GadgetdError as error:
                self._problem = _problem(error)
                self._alarm("retry", RETRY_S, self.reconcile)
            if was_bound or self._exporter.udc:
                self._unbound_since = self._loop.clock()
            self._host.follow(self._exporter.udc)
            acm = self._config is not None and self._config.usb.acm
            self._login.keep(wanted=acm and bool(self._exporter.udc))
            if self._host.ready:
                for export in self.exports:
                    export.signal(Signal.HOST_READY)
            self._arm_tick()
        self._show()

    def _reconcile(self) -> None:
        if not self._prepared:
            self._exporter.prepare()
            self._prepared = True
        if self._config is None:
            # What an earlier run exported may be the very disk that this file was to exclude.
            self._exporter.close()
            reason = "not exported: the configuration is wrong"
            found = self._scan.disks()
            self._verdicts = tuple(Verdict(f.disk, False, f.refusal or reason) for f in found)
            return
        shown = plan.gadget(self._config, self._board, (), "")
        own = OwnGadget(shown.vendor_id, shown.product_id, shown.serial)
        # In this order: a disk that comes between the two looks awaited for a moment more, while
        # the other way round it would be neither there nor on its way.
        self._awaited = self._still_awaited(self._config)
        self._verdicts = plan.choose(self._scan.disks(own), self._config)
        if self._awaited and not self._exporter.udc:
            return
        self._verdicts = self._exporter.take(self._verdicts)
        may_disconnect = self._may_disconnect()
        self._waits = self._exporter.apply(self._config, may_disconnect=may_disconnect)
        if self._waits is Waits.LOCK:
            self._alarm("retry", RETRY_S, self.reconcile)

    def _still_awaited(self, config: Config) -> tuple[Pending, ...]:
        """List the disks on their way whose time is not over, and look again when it is."""
        now = self._loop.clock()
        pending = self._scan.pending()
        self._first_seen = {p.key: self._first_seen.get(p.key, now) for p in pending}
        limits = {p.key: config.wait.disks_s if p.certain else config.wait.mmc_s for p in pending}
        left = {key: limits[key] - (now - seen) for key, seen in self._first_seen.items()}
        awaited = tuple(p for p in pending if left[p.key] > 0)
        if awaited:
            self._alarm("disks", min(left[p.key] for p in awaited), self.reconcile)
        return awaited

    def _may_disconnect(self) -> bool:
        if not self._host.follows(self._exporter.udc):
            return False  # Taken over from an earlier run; what its host does is not known yet.
        return not self._host.ready or all(export.calm for export in self.exports)

    # What the host does

    def _on_host_arrived(self) -> None:
        # A host that sets everything up from the start gets back what was ejected before, unless
        # it was we who disconnected it.
        reconnected, self._exporter.reconnected = self._exporter.reconnected, False
        for export in self.exports:
            if export.life is Life.EJECTED and not reconnected:
                self._exporter.insert(export)
            export.signal(Signal.HOST_READY)
        self._alarm("apply", 0, self.reconcile)

    def _on_host_left(self) -> None:
        for export in self.exports:
            export.signal(Signal.HOST_GONE)
            export.outdate_flush()
        self._flush_due()

    def _on_host_changed(self) -> None:
        self._alarm("patience", PATIENCE_S, self._show)
        self._arm_tick()
        self._show()

    def _arm_tick(self) -> None:
        calm = all(export.calm for export in self.exports)
        watching = self._host.awake or not calm or self._waits is Waits.IDLE
        if watching and "tick" not in self._alarms:
            self._alarm("tick", TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        try:
            self._exporter.look()
        except GadgetdError as error:
            self._problem = _problem(error)
            self._alarm("retry", RETRY_S, self.reconcile)
        self._flush_due()
        if self._waits is Waits.IDLE and self._may_disconnect():
            self.reconcile()
        else:
            self._show()
        self._arm_tick()

    # Flushing and ejecting

    def _flush_due(self) -> None:
        for export in self.exports:
            if export.wants_flush(self._loop.clock(), self._host.ready):
                self._flush(export)

    def _flush(self, export: Export) -> None:
        fd = export.start_flush().fileno()
        self._loop.watch(fd, partial(self._on_flushed, export, fd))

    def _on_flushed(self, export: Export, fd: int) -> None:
        self._loop.unwatch(fd)
        if self._exporter.end_flush(export):
            self._io_errors[export.name] = self._io_errors.get(export.name, 0) + 1
        if not self._host.ready:
            export.signal(Signal.HOST_GONE)
        if export.life is Life.EJECTED:
            self._after_eject(export)
        self._flush_due()
        self._show()
        self._finish_stop()

    def eject(self, export: Export, *, force: bool) -> None:
        """Take one disk from the host, as its own eject would. GadgetError if it has locked it."""
        self._exporter.eject(export, force=force)
        self._flush_due()
        self._show()

    def insert(self, export: Export) -> None:
        """Give an ejected disk back to the host."""
        self._exporter.insert(export)
        if self._host.ready:
            export.signal(Signal.HOST_READY)
        self.reconcile()

    def _after_eject(self, export: Export) -> None:
        if self._config is None or self._stopped or not export.ejected_by_host:
            return
        if self._config.on_ejected_of(export.verdict.disk) is OnEjected.REINSERT:
            again = partial(self._reinsert, export)
            self._alarm(f"reinsert {export.number}", self._config.reinsert_after_s, again)
        elif self._config.on_ejected in _POWER and self._all_ejected():
            self.stop(partial(self._power, _POWER[self._config.on_ejected]))

    def _reinsert(self, export: Export) -> None:
        if export.life is Life.EJECTED:
            self.insert(export)

    def _all_ejected(self) -> bool:
        lives = {export.life for export in self.exports}
        return Life.EJECTED in lives and lives <= {Life.EJECTED, Life.GONE}

    # What is shown

    @property
    def exports(self) -> list[Export]:
        """All that is exported, by LUN."""
        return [export for _, export in sorted(self._exporter.exports.items())]

    def _show(self) -> None:
        self._panel.choose(self._config or Config())
        facts = Facts(
            config=self._config,
            config_problem=self._config_problem,
            problem=self._problem,
            awaited=self._awaited,
            disks=sum(export.hold is not None for export in self.exports),
            bound=bool(self._exporter.udc),
            wants_gadget=self._exporter.wants_gadget,
            note=self._exporter.note,
            without_controller_s=self._loop.clock() - self._unbound_since,
            stopped=self._stopped,
        )
        phase, message, problem = phase_of(facts)
        exported = phase is Phase.EXPORTED
        if phase is Phase.WAITING_FOR_UDC and problem is None and self._config is not None:
            left_s = self._config.wait.udc_s - facts.without_controller_s
            self._alarm("controller", left_s, self._show)
        self.status = Status(
            version=self._version,
            phase=phase,
            message=message,
            board=self._board,
            problem=problem,
            advice=(*(self._link_advice() if exported else ()), *self._advice()),
            controller=self._host.controller(self._exporter.note),
            disks=rows(self.exports, self._verdicts, self._exporter.visible if exported else None),
            safe_to_unplug=bool(self._stopped_safely) if self._stopped else self._all_ejected(),
        )
        self._panel.show(self.status)

    def _link_advice(self) -> tuple[Problem, ...]:
        touched = any(export.touched for export in self.exports)
        return tuple(about_link(self._host.link(touched=touched)))

    def _advice(self) -> tuple[Problem, ...]:
        stale = (self._config_problem,) if self._config_problem and self._config else ()
        return (*stale, *about_io(self._io_errors), *self._limits_refused, *self._panel.advice)

    def _alarm(self, name: str, delay_s: float, callback: Callable[[], None]) -> None:
        """Set one of the daemon's timers; one of the same name that is pending is replaced."""
        if name in self._alarms:
            self._alarms[name].cancel()

        def ring() -> None:
            del self._alarms[name]
            callback()

        self._alarms[name] = self._loop.call_later(delay_s, ring)


def _problem(error: GadgetdError) -> Problem:
    return Problem(error.message, error.hint)
