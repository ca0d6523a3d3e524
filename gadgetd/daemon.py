"""The daemon: one poll loop over uevents, the controller's state, timers, signals and commands.

It turns what happens into calls of the other modules and the result into one status. It neither
parses nor formats, and it holds no state that another module could derive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from gadgetd.blockscan import BlockScan
from gadgetd.config.load import ConfigFile
from gadgetd.config.settings import Config
from gadgetd.disks.checkup import Checkups
from gadgetd.disks.dirty_limits import limit
from gadgetd.disks.kernel_log import KernelLog
from gadgetd.errors import GadgetdError, Problem
from gadgetd.eventloop import URGENT, Alarms, Loop
from gadgetd.export.by_hand import BoardReads, ByHand
from gadgetd.export.candidates import Candidates
from gadgetd.export.drive import Drive
from gadgetd.export.drives import PATIENCE_S, TICK_S
from gadgetd.export.ending import RETRY_S, AfterEject, Flushing, Shutdown, Waiters
from gadgetd.export.exporter import Exporter
from gadgetd.export.outcome import Outcome, Waits
from gadgetd.export.reconnect import Reconnect
from gadgetd.export.retry import REFUSED_S
from gadgetd.show import advice, snapshot
from gadgetd.status import Board, Phase, Status
from gadgetd.usb.link import Host
from gadgetd.usb.serial_login import Login


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
        login: Login,
        log: KernelLog,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        power: Callable[[signal.Signals], None] = lambda number: os.kill(1, number),
    ) -> None:
        self._file = ConfigFile(config_path, board.serial)
        self._scan, self._exporter = scan, exporter
        self._loop, self._panel = loop, snapshot.Display()
        self._login, self._log = login, log
        self._proc = proc
        self._host = Host(
            loop,
            exporter.gadget.controllers,
            arrived=self._on_host_arrived,
            left=self._on_host_left,
            changed=self._on_host_changed,
        )
        drives, flushed = exporter.drives, self._on_flushed
        self.reconnect = Reconnect(loop.clock, exporter.gadget, drives, self._host, proc)
        self._alarms = Alarms(loop)
        self.shutdown = Shutdown(exporter.gadget, drives, exporter.close, self._alarms, self._show)
        self._flushing = Flushing(loop, drives, self._host, self.shutdown, log, flushed)
        self.by_hand = ByHand(self._alarms, drives, self._host, self._on_hand, self.reconcile)
        self._after_eject = AfterEject(self._alarms, self.by_hand.insert, self.stop, power)
        self._after_reload = Waiters(self._alarms, "reload")
        self.board_reads = BoardReads(loop, drives, self._arm_tick)
        self._candidates = Candidates(scan, sys, loop.clock)
        self._limits_refused: tuple[Problem, ...] = ()
        self.outcome = Outcome()
        """What came of the last look at everything."""
        self.checkups = Checkups(loop, self._show)
        self.status = Status(version, Phase.STARTING, "starting", board)

    # Start and end

    def start(self) -> None:
        """Export what is there, before anything that takes time. Then comes `go_on`."""
        # First: a write error is more pressing than all else.
        self._loop.watch(self._log.fileno(), self._on_kernel_log)
        self._exporter.gadget.before_removal = self._login.end
        self._exporter.gadget.on_late(self._on_late)
        self._loop.watch(self._scan.open_mounts(), self.reconcile, URGENT)
        self.reload()

    def go_on(self, panel: snapshot.Display) -> None:
        """Show the status from now on, hear what comes and goes, and look for what has come."""
        self._panel = panel
        panel.choose(self._file.config or Config())
        self._show()
        self._scan.listen()
        self._loop.watch(self._scan.fileno(), self._on_uevent)
        self.reconcile()

    def stop(self, then: Callable[[], None]) -> None:
        """Take the disks from the host, flush them, take the gadget down, then call `then`."""
        if self._host.lately:
            self.reconnect.take()
        if not self.shutdown.begin(then, host=self._host.lately):
            return
        self.outcome = self.outcome._replace(waits=Waits.NOTHING)
        self._host.follow("")  # Which also outdates the flushes that are under way.
        self._login.keep(wanted=False)
        self._flushing.begin_all()
        self._show()
        self.shutdown.finish(self._on_stopped)

    def _on_stopped(self) -> None:
        self.outcome = self.outcome._replace(verdicts=())
        self._show()

    def resume(self) -> None:
        """Export again after `stop`, with the configuration as it is in the file now."""
        self.shutdown.end()
        self.outcome = Outcome()
        self._file.forget()
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
        self._file.read()
        self._exporter.forgive()
        if (config := self._file.config) is not None:
            self._panel.choose(config)
            self._limits_refused = limit(**config.writeback._asdict(), proc=self._proc)

    # What happens on the board

    def _on_uevent(self) -> None:
        if self._scan.drain():
            self.reconcile()

    def _on_kernel_log(self) -> None:
        if self._exporter.drives.note_errors(self._log.io_errors()):
            self._show()
            self._flushing.begin_due()
            self._alarms.set("retry", RETRY_S, self.reconcile, keep=True)  # To see it is out.

    def _on_late(self, fd: int) -> None:
        """Look again when a write has come to its end that has not answered so far."""
        self._loop.watch_once(fd, self._on_answer)
        self._exporter.drives.note_silent()
        self._alarms.set("silent", PATIENCE_S, self._show)

    def _on_answer(self) -> None:
        if not self.shutdown.stop.begun:
            self.reconcile()
        elif self.shutdown.go_on():
            self._flushing.begin_all()
        self.shutdown.finish(self._on_stopped)
        self.by_hand.answer()

    def reconcile(self) -> None:
        """Look at everything anew, and bring the gadget to what it ought to be."""
        if not self.shutdown.stop.begun:
            had_host = self._host.lately
            try:
                self.outcome = self._reconcile().after(self.outcome)
            except GadgetdError as error:
                self.outcome = self.outcome._replace(error=error, reconnected=False)
            if self.outcome.try_again:
                self._alarms.set("retry", RETRY_S, self.reconcile)
            if self.outcome.gave_up:
                self._alarms.set("refused", REFUSED_S, self._forgive, keep=True)
            self._host.follow(self._exporter.udc)
            if self.outcome.reconnected:
                self._host.expect_anew()
                self.reconnect.done(host=had_host)
            config = self._file.config
            acm = config is not None and config.usb.acm
            self._login.keep(wanted=acm and bool(self._exporter.udc))
            if self._host.ready:
                self._exporter.drives.note_host_ready()
            self._flushing.begin_due()
            self._arm_tick()
        self._show()

    def _reconcile(self) -> Outcome:
        self._exporter.prepare()
        config = self._file.config
        if config is None:
            # What an earlier run exported may be the very disk that this file was to exclude.
            self._exporter.withdraw()
            return Outcome(self._candidates.none(self._file.why_none))
        verdicts = self._candidates.look(config, self._exporter.identities(config))
        if self._candidates.awaited:
            self._alarms.set("disks", self._candidates.left_s, self.reconcile)
            if not self._exporter.udc:
                return Outcome(verdicts, put_off=True)
        return self._exporter.reconcile(config, verdicts, self.reconnect.allowed)

    def _forgive(self) -> None:
        if not self._host.ready:
            self._exporter.forgive()
        self.reconcile()

    # What the host does

    def _on_host_arrived(self) -> None:
        if self.reconnect.arrived():
            self._exporter.drives.insert_ejected()
        self._exporter.drives.note_host_ready()
        self._alarms.set("apply", 0, self.reconcile)

    def _on_host_left(self) -> None:
        self._exporter.drives.note_host_left()
        self._flushing.begin_due()

    def _on_host_changed(self) -> None:
        self.reconnect.used()
        self._alarms.set("patience", advice.PATIENCE_S, self._show)
        self._arm_tick()
        self._show()

    def _arm_tick(self) -> None:
        if self._host.awake or not self._exporter.drives.calm or self.outcome.waits is Waits.IDLE:
            self._alarms.set("tick", TICK_S, self._on_tick, keep=True)

    def _on_tick(self) -> None:
        if self.outcome.waits is Waits.IDLE or self.reconnect.worth_a_look():
            self._look()
        self._arm_tick()

    def _look(self) -> None:
        try:
            self._exporter.drives.look()
        except GadgetdError as error:
            self.outcome = self.outcome._replace(error=error)
            self._alarms.set("retry", RETRY_S, self.reconcile, keep=True)  # Else ticks put it off.
        self._flushing.begin_due()
        if self.outcome.waits is Waits.IDLE and not self.outcome.error and self.reconnect.allowed():
            self.reconcile()
        self._show()
        self.reconnect.look()

    # Flushing and ejecting

    def _on_flushed(self, drive: Drive) -> None:
        if not self.shutdown.stop.begun:
            self._after_eject.flushed(drive, self._file.config, self._exporter.all_ejected)
        self._flushing.begin_due()
        if drive.leaving:
            self.reconcile()
        self._show()
        self.shutdown.finish(self._on_stopped)

    def _on_hand(self) -> None:
        self._flushing.begin_due()
        self._show()

    # What is shown

    @property
    def drives(self) -> list[Drive]:
        """All that is exported, by LUN."""
        return self._exporter.drives.in_order

    def _show(self, *, starting: bool = False) -> None:
        self._host.refresh()
        facts = snapshot.Facts(
            config=self._file.config,
            config_error=self._file.error,
            starting=starting,
            awaited=self._candidates.awaited,
            outcome=self.outcome,
            exported=self._exporter.exported,
            stop=self.shutdown.stop,
            link=self._host.link,
            locked=self.reconnect.locked,
            serial_console=self._login.tty,
            health=self.checkups.follow(self.outcome.disks),
            advice=(*self._limits_refused, *self._panel.advice),
        )
        self.status = snapshot.status_of(facts, self.status)
        if self.status.phase is Phase.WAITING_FOR_UDC and not self.status.problem and facts.config:
            left_s = facts.config.wait.udc_s - facts.link.without_controller_s
            self._alarms.set("controller", left_s, self._show)
        self._panel.show(self.status)
        if not self._exporter.drives.leaving:
            self._after_reload.call()
