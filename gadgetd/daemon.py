"""The daemon: one poll loop over uevents, the controller's state, timers, signals and commands.

It turns what happens into calls of the other modules and the result into one status. It neither
parses nor formats, and it holds no state that another module could derive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from gadgetd.blockscan import BlockScan
from gadgetd.config.load import load_for
from gadgetd.config.settings import Config
from gadgetd.console import Panel
from gadgetd.disks.arrival_wait import ArrivalWait
from gadgetd.disks.dirty_limits import limit
from gadgetd.disks.disk import Pending, Verdict
from gadgetd.disks.kernel_log import KernelLog
from gadgetd.errors import ConfigError, GadgetdError, Problem, problem_of
from gadgetd.eventloop import URGENT, Alarms, Loop
from gadgetd.export import choosing
from gadgetd.export.board_reads import BoardReads
from gadgetd.export.drive import Drive, Signal, Waits, all_ejected
from gadgetd.export.ending import AfterEject, Shutdown
from gadgetd.export.exporter import Exporter
from gadgetd.export.reconnect import Reconnect
from gadgetd.show import snapshot
from gadgetd.status import Board, Life, Phase, Status
from gadgetd.usb.link import Host
from gadgetd.usb.serial_login import Login

TICK_S = 0.5
"""How often counters and LUNs are looked at while a host is there: an eject raises no event."""
RETRY_S = 5.0
"""How long after a step that the kernel refused it is tried again."""
REFUSED_S = 60.0
"""After which it is tried again if there is no host: none takes so long to set a gadget up."""
_RECONNECTED = "reconnected"
"""The alarm that runs while a host may set the gadget up again for a reason of our own."""


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
        self.reconnect = Reconnect(loop.clock, exporter.gadget, proc)
        self._host = Host(
            loop,
            exporter.gadget.controllers,
            arrived=self._on_host_arrived,
            left=self._on_host_left,
            changed=self._on_host_changed,
        )
        self._alarms = Alarms(loop)
        self._after_eject = AfterEject(self._alarms, self.insert, self.stop, power)
        self._config: Config | None = None
        self._config_problem: Problem | None = None
        self._problem: Problem | None = None
        self._limits_refused: tuple[Problem, ...] = ()
        self._verdicts: tuple[Verdict, ...] = ()
        self._awaited: tuple[Pending, ...] = ()
        self._arrival_wait = ArrivalWait()
        self._unbound_since = loop.clock()
        self.waits = Waits.NOTHING
        self.ending = Shutdown(exporter)
        self._prepared = False
        self._after_reload: list[Callable[[], None]] = []
        self.board_reads = BoardReads(loop, exporter, self._arm_tick)
        self.status = Status(version, Phase.STARTING, "starting", board)

    # Start and end

    def start(self) -> None:
        """Begin to watch, and export what is there. The caller then runs the loop."""
        self._loop.watch(self._scan.fileno(), self._on_uevent)
        self._panel.choose(Config())
        if self._log.fileno() >= 0:
            self._loop.watch(self._log.fileno(), self._on_kernel_log)
        self._exporter.gadget.before_removal = self._login.end
        try:
            # A disk that is unmounted on the board can be exported from then on.
            mounts = os.open(self._proc / "self" / "mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._loop.watch(mounts, self.reconcile, URGENT)
        except OSError:
            pass  # Not the kernel's own /proc: uevents must do.
        self.reload()

    def stop(self, then: Callable[[], None]) -> None:
        """Take the disks from the host, flush them, take the gadget down, then call `then`."""
        if not self.ending.begin(then, host=self._host.lately):
            return
        self.waits = Waits.NOTHING
        self._host.follow("")  # Which also outdates the flushes that are under way.
        self._login.keep(wanted=False)
        for drive in self.drives:
            if drive.hold and drive.flush is None:
                self._flush(drive)
        self._show()
        self._finish_stop()

    def _finish_stop(self) -> None:
        """Go on with a stop, if there is one, once nothing is being flushed any more."""
        if callbacks := self.ending.finish():
            self._verdicts = ()
            self._show()
            for then in callbacks:
                then()

    @property
    def stopping(self) -> bool:
        """A stop is under way: disks are still being flushed."""
        return self.ending.under_way

    def resume(self) -> None:
        """Export again after `stop`, with the configuration as it is in the file now."""
        self.ending.end()
        self._config = None
        self._read()
        self._show(starting=True)  # The word is taken back before the disks are with the host.
        self.reconcile()

    def reload(self, then: Callable[[], None] = lambda: None) -> None:
        """Read the configuration again. A bad one changes nothing; at the start it exports none.

        `then` is called once the disks that are not exported any more are flushed and let go.
        """
        self._after_reload.append(then)
        self._read()
        self.reconcile()

    def _read(self) -> None:
        try:
            self._config = load_for(self._config_path, self._board.serial)
            self._config_problem = None
        except ConfigError as error:
            self._config_problem = snapshot.to_go_on(problem_of(error))
        self._exporter.forgive()
        if self._config is not None:
            self._panel.choose(self._config)
            self._limits_refused = limit(*self._config.writeback, self._proc)

    # What happens on the board

    def _on_uevent(self) -> None:
        if self._scan.drain():
            self.reconcile()

    def _on_kernel_log(self) -> None:
        errors = list(self._log.io_errors())
        for drive in self.drives:
            drive.note_errors(errors)
        if errors:
            self._show()

    def reconcile(self) -> None:
        """Look at everything anew, and bring the gadget to what it ought to be."""
        if not self.ending.begun:
            self._problem = None
            was_bound = bool(self._exporter.udc)
            try:
                self._reconcile()
            except GadgetdError as error:
                self._problem = problem_of(error)
                self._alarms.set("retry", RETRY_S, self.reconcile)
            if was_bound or self._exporter.udc:
                self._unbound_since = self._loop.clock()
            if self._exporter.refuses:
                self._alarms.set("refused", REFUSED_S, self._forgive, keep=True)
            self._host.follow(self._exporter.udc)
            if self._exporter.reconnected:
                self._alarms.set(_RECONNECTED, snapshot.PATIENCE_S, lambda: None)
                self._host.expect_anew()
                self.reconnect.done()
            acm = self._config is not None and self._config.usb.acm
            self._login.keep(wanted=acm and bool(self._exporter.udc))
            if self._host.ready:
                for drive in self.drives:
                    drive.signal(Signal.HOST_READY)
            self._flush_due()
            self._arm_tick()
        self._show()

    def _reconcile(self) -> None:
        if not self._prepared:
            self._exporter.prepare()
            self._prepared = True
        if self._config is None:
            # What an earlier run exported may be the very disk that this file was to exclude.
            self._exporter.withdraw()
            reason = "the configuration is wrong"
            found = self._scan.disks()
            self._verdicts = tuple(Verdict(f.disk, False, f.refusal or reason) for f in found)
            return
        own = self._exporter.identities(self._config)
        # In this order: a disk that comes between the two looks awaited for a moment more, while
        # the other way round it would be neither there nor on its way.
        pending, wait, now = self._scan.pending(), self._config.wait, self._loop.clock()
        self._awaited, left_s = self._arrival_wait.still(pending, wait.disks_s, wait.mmc_s, now)
        if self._awaited:
            self._alarms.set("disks", left_s, self.reconcile)
        self._verdicts = choosing.choose(self._scan.disks(own), self._config)
        if self._awaited and not self._exporter.udc:
            return
        self._verdicts = self._exporter.take(self._verdicts)
        self.waits = self._exporter.apply(self._config, may_disconnect=self._may_disconnect())
        if self.waits is Waits.LOCK or self._exporter.turned_down:
            self._alarms.set("retry", RETRY_S, self.reconcile)

    def _forgive(self) -> None:
        if not self._host.ready:
            self._exporter.forgive()
        self.reconcile()

    def _may_disconnect(self) -> bool:
        if not self._host.follows(self._exporter.udc):
            return False  # Taken over from an earlier run: what its host does is not known.
        return self._host.gone or self.reconnect.allowed(self.drives, awake=self._host.up)

    # What the host does

    def _on_host_arrived(self) -> None:
        self.reconnect.used()
        # A host that sets everything up from the start gets back what was ejected before, unless
        # it was we who disconnected it.
        for drive in self.drives:
            if drive.life is Life.EJECTED and _RECONNECTED not in self._alarms:
                self._exporter.insert(drive)
            drive.signal(Signal.HOST_READY)
        self._alarms.set("apply", 0, self.reconcile)

    def _on_host_left(self) -> None:
        for drive in self.drives:
            if drive.inserted and drive.life is not Life.WAITING:
                drive.signal(Signal.WRITE)  # What it wrote last may be in RAM, not counted yet.
            drive.signal(Signal.HOST_GONE)
            drive.outdate_flush()
        self._flush_due()

    def _on_host_changed(self) -> None:
        self.reconnect.used()
        self._alarms.set("patience", snapshot.PATIENCE_S, self._show)
        self._arm_tick()
        self._show()

    def _arm_tick(self) -> None:
        calm = all(drive.calm for drive in self.drives)
        if self._host.awake or not calm or self.waits is Waits.IDLE:
            self._alarms.set("tick", TICK_S, self._on_tick, keep=True)

    def _on_tick(self) -> None:
        try:
            self._exporter.look()
        except GadgetdError as error:
            self._problem = problem_of(error)
            # Kept, or the ticks would put it off for ever.
            self._alarms.set("retry", RETRY_S, self.reconcile, keep=True)
        self._flush_due()
        if self.waits is Waits.IDLE and self._may_disconnect():
            self.reconcile()
        self._show()
        self.reconnect.look(self.drives, awake=self._host.up)
        self._arm_tick()

    # Flushing and ejecting

    def _flush_due(self) -> None:
        for drive in self.drives:
            if drive.wants_flush(self._loop.clock(), self._host.ready):
                self._flush(drive)

    def _flush(self, drive: Drive) -> None:
        try:
            fd = drive.start_flush().fileno()
        except OSError:
            # No room for another process. A stop does not wait for some, and says so.
            drive.lost |= self.ending.begun
            self._alarms.set("flush", RETRY_S, self._flush_due)
            return
        self._loop.watch(fd, partial(self._on_flushed, drive, fd))

    def _on_flushed(self, drive: Drive, fd: int) -> None:
        self._loop.unwatch(fd)
        self._on_kernel_log()
        self._exporter.end_flush(drive)
        if not self._host.ready:
            drive.signal(Signal.HOST_GONE)
        if drive.life is Life.EJECTED and self._config is not None and not self.ending.begun:
            self._after_eject.flushed(drive, self._config, all_ejected=self._all_ejected())
        self._flush_due()
        if drive.leaving:
            self.reconcile()
        self._show()
        self._finish_stop()

    def eject(self, drive: Drive, *, force: bool) -> None:
        """Take one disk from the host, as its own eject would. GadgetError if it has locked it."""
        self._exporter.eject(drive, force=force)
        self._flush_due()
        self._show()

    def insert(self, drive: Drive) -> None:
        """Give an ejected disk back to the host."""
        self._exporter.insert(drive)
        if self._host.ready:
            drive.signal(Signal.HOST_READY)
        self._show()  # The word is taken back before the disk is with the host.
        self.reconcile()

    def _all_ejected(self) -> bool:
        calm = self._exporter.written and not self._exporter.torn
        return calm and all_ejected(self._exporter.with_the_host)

    # What is shown

    @property
    def drives(self) -> list[Drive]:
        """All that is exported, by LUN."""
        return [drive for _, drive in sorted(self._exporter.drives.items())]

    def _show(self, *, starting: bool = False) -> None:
        self._host.refresh()
        facts = snapshot.Facts(
            config=self._config,
            config_problem=self._config_problem,
            problem=self.ending.problem if self.ending.begun else self._problem,
            awaited=self._awaited,
            drives=self.drives,
            visible=self._exporter.visible,
            refused=self._exporter.refused.error is not None,
            bound=bool(self._exporter.udc),
            wants_gadget=self._exporter.wants_gadget,
            note=self._exporter.gadget.note,
            controllers=0 if self._exporter.udc else len(self._exporter.gadget.controllers()),
            without_controller_s=self._loop.clock() - self._unbound_since,
            stopped=self.ending.begun,
            stopping=self.stopping,
            flushed=self.ending.flushed and not self.ending.safely,
            starting=starting,
        )
        phase, message, problem = snapshot.phase_of(facts)
        exported = phase is Phase.EXPORTED
        if phase is Phase.WAITING_FOR_UDC and problem is None and self._config is not None:
            left_s = self._config.wait.udc_s - facts.without_controller_s
            self._alarms.set("controller", left_s, self._show)
        self.status = Status(
            version=self._version,
            phase=phase,
            message=message,
            board=self._board,
            problem=problem,
            advice=tuple(self._advice(bound=facts.bound)),
            controller=snapshot.controller(self._host.link, self._exporter.gadget.note),
            disks=snapshot.rows(facts, self._verdicts, exported=exported),
            safe_to_unplug=bool(self.ending.safely) if self.ending.begun else self._all_ejected(),
            serial_console=self._login.tty,
        )
        self._panel.show(self.status)
        leaving = any(each.leaving and each.life is Life.EJECTING for each in self.drives)
        while self._after_reload and not leaving:
            self._after_reload.pop(0)()

    def _advice(self, *, bound: bool) -> Iterator[Problem]:
        if bound and not self._all_ejected():  # Hosts put to sleep what they have ejected.
            touched = any(each.touched for each in self.drives)
            touched |= not any(each.has_medium for each in self.drives)
            yield from snapshot.about_link(self._host.link, touched=touched)
        if self._config_problem and self._config:
            yield self._config_problem
        locked = self.reconnect.locked if self.waits is Waits.IDLE else self._exporter.locked
        yield from snapshot.about_change(self.waits, locked, self._exporter.refused.error)
        yield from snapshot.about_disks(self.drives, self._exporter.lun_memory.unproved)
        yield from (*self._limits_refused, *self._panel.advice)
