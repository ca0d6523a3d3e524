"""The end of an export: flushing, what `on_ejected` asks for, and the end of all exporting."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from functools import partial

from gadgetd.config.settings import Config, OnEjected
from gadgetd.disks.kernel_log import KernelLog
from gadgetd.errors import GadgetdError, GadgetError
from gadgetd.eventloop import Alarms, Loop
from gadgetd.export.drive import Drive, Signal, no_answer
from gadgetd.export.drives import Drives
from gadgetd.export.outcome import Stop
from gadgetd.export.own_gadget import OwnGadget
from gadgetd.status import Life
from gadgetd.usb.link import Host

RETRY_S = 5.0
"""How long after a step that the kernel refused it is tried again."""
LIMIT_S = 30.0
"""After which nobody waits any more for the end of a command of the host's: so long a Linux host
waits for it itself."""
_POWER = {OnEjected.POWEROFF: signal.SIGUSR2, OnEjected.REBOOT: signal.SIGTERM}
"""What tells init to do it. Source: BusyBox, init/init.c."""


class AfterEject:
    """Inserts a disk again, or ends the board's run.

    `stop` takes all disks from the host and then calls what it is given; `power` sends a signal
    to init.
    """

    def __init__(
        self,
        alarms: Alarms,
        insert: Callable[..., None],
        stop: Callable[[Callable[[], None]], None],
        power: Callable[[signal.Signals], None],
    ) -> None:
        self._alarms = alarms
        self._insert = insert
        self._stop = stop
        self._power = power

    def flushed(self, drive: Drive, config: Config | None, all_ejected: bool) -> None:
        """Do what is asked for. What a person has ejected on the board stays out."""
        if config is None or drive.life is not Life.EJECTED or not drive.ejected_by_host:
            return
        if config.on_ejected_of(drive.verdict.disk) is OnEjected.REINSERT:
            again = partial(self._reinsert, drive)
            self._alarms.set(f"reinsert {drive.number}", config.reinsert_after_s, again)
        elif config.on_ejected in _POWER and all_ejected:
            self._stop(partial(self._power, _POWER[config.on_ejected]))

    def _reinsert(self, drive: Drive) -> None:
        # It may have been inserted meanwhile, and ejected by somebody else.
        if drive.life is Life.EJECTED and drive.ejected_by_host:
            self._insert(drive, anew=False)


class Waiters:
    """Those who wait for the end of something, but not for ever: each is called once."""

    def __init__(self, alarms: Alarms, name: str) -> None:
        self._alarms = alarms
        self._name = name
        self._then: list[Callable[[], None]] = []

    def append(self, then: Callable[[], None]) -> None:
        """Have `then` called by `call`, or once the wait is over."""
        self._then.append(then)
        self._alarms.set(self._name, LIMIT_S, self.call)

    def call(self) -> None:
        """Call all that wait, in the order in which they came."""
        self._alarms.cancel(self._name)
        while self._then:
            self._then.pop(0)()


class Shutdown:
    """Disconnects the host at once, and takes the gadget down once the disks are flushed.

    `close` does the latter; `show` is called when something changes by itself. Flushing is the
    caller's. Nothing is raised: what the kernel refuses is in `stop`.
    """

    def __init__(
        self,
        gadget: OwnGadget,
        drives: Drives,
        close: Callable[[], None],
        alarms: Alarms,
        show: Callable[[], None],
    ) -> None:
        self._gadget = gadget
        self._drives = drives
        self._close = close
        self._alarms = alarms
        self._show = show
        self._then: list[Callable[[], None]] = []
        self._disconnected = self._down = self._taken = self._late = False
        self.stop = Stop()
        """How far it has come. Nothing is to be exported from `begin` to `end`."""

    def begin(self, then: Callable[[], None], *, host: bool) -> bool:
        """Disconnect the host, and have `then` called in the end. `host`: there is one.

        Returns False if there is no more to do for it: it joins a stop that is under way, or all
        is stopped already. Then nothing new is said either, least of all of a safe board.
        """
        if self.stop.begun and not self.stop.under_way and self.stop.error is None:
            then()
            return False
        self._then.append(then)
        if len(self._then) > 1:
            return False
        self._alarms.set("stop", LIMIT_S, self._give_up_waiting)
        self._taken |= host and any(drive.inserted for drive in self._drives.values())
        self._down = self._down and not self._drives
        self.stop = self.stop._replace(begun=True, under_way=True, error=None)
        self._disconnect()
        return True

    def _disconnect(self) -> None:
        try:
            self._gadget.disconnect()
        except GadgetError as error:
            # The host can go on writing, so whatever is flushed now proves nothing.
            self._disconnected = False
            self._late = error.errno == errno.ETIMEDOUT
            self.stop = self.stop._replace(error=None if self._late else error)
        else:
            self._disconnected, self._late = True, False

    def go_on(self) -> bool:
        """Try again to disconnect the host, if a command of its has kept us from it so far.

        Returns whether that is over now, so that the disks are to be flushed again.
        """
        was_late = self._late
        if was_late:
            self._disconnect()
        return was_late and not self._late

    def finish(self, over: Callable[[], None]) -> None:
        """Take the gadget down, if that is to be and no disk is being flushed.

        Then `over` is called, and after it what `begin` was given.
        """
        waits = self._late or self._gadget.waits
        if not self.stop.under_way or waits or any(d.flush for d in self._drives.values()):
            return
        if self.stop.error is not None and self._disconnected:
            self.stop = self.stop._replace(error=None)  # What had not answered has.
        if not self._down:  # Else this is a second stop, of nothing.
            flushed = self._disconnected and self._drives.written
            # What a host that was there had in its own RAM is lost, and nobody here knows of it.
            safe = flushed and not self._taken and not self._drives.torn
            self.stop = self.stop._replace(flushed=flushed, safe=safe)
            self._down = True
        self.stop = self.stop._replace(under_way=False)
        try:
            self._close()
        except GadgetdError as error:
            if isinstance(error, GadgetError) and error.errno == errno.ETIMEDOUT:
                # A board with much to do may take longer than a disk ought to; see `Kernel.late`.
                self.stop = self.stop._replace(under_way=True)
                return
            self.stop = self.stop._replace(error=error)
        over()
        self._call_back()

    def _give_up_waiting(self) -> None:
        """Tell those who wait for the end that a disk does not answer. It goes on by itself.

        A flush that takes long is waited for.
        """
        if self.stop.under_way and (self._late or self._gadget.waits):
            names = ", ".join(d.name for d in self._drives.in_order if d.flush) or "a disk"
            self.stop = self.stop._replace(error=no_answer(names, "stopped"))
            self._show()
            self._call_back()

    def _call_back(self) -> None:
        self._alarms.cancel("stop")
        callbacks, self._then = self._then, []
        for then in callbacks:
            then()

    def end(self) -> None:
        """Let disks be exported again; the word of this stop does not hold any more."""
        self.stop, self._down, self._taken = Stop(), False, False


class Flushing:
    """Begins a flush of each disk that wants one, and calls `over` with the disk when it ends."""

    def __init__(
        self,
        loop: Loop,
        drives: Drives,
        host: Host,
        shutdown: Shutdown,
        log: KernelLog,
        over: Callable[[Drive], None],
    ) -> None:
        self._loop = loop
        self._alarms = Alarms(loop)
        self._drives = drives
        self._host = host
        self._shutdown = shutdown
        self._log = log
        self._over = over

    def begin_due(self) -> None:
        """Begin with those for which it is time."""
        for drive in self._drives.in_order:
            if drive.wants_flush(self._loop.clock(), self._host.ready):
                self._begin(drive)

    def begin_all(self) -> None:
        """Begin with all that are held and not being flushed."""
        for drive in self._drives.in_order:
            if drive.hold and drive.flush is None:
                self._begin(drive)

    def _begin(self, drive: Drive) -> None:
        try:
            fd = drive.start_flush().fileno()
        except OSError:
            # No room for another process. A stop does not wait for some, and says so.
            drive.lost |= self._shutdown.stop.begun
            self._alarms.set("flush", RETRY_S, self.begin_due)
            return
        self._loop.watch(fd, partial(self._end, drive, fd))

    def _end(self, drive: Drive, fd: int) -> None:
        self._loop.unwatch(fd)
        self._drives.note_errors(self._log.io_errors())  # Before the result, which adds to them.
        self._drives.end_flush(drive)
        if not self._host.ready:
            drive.signal(Signal.HOST_GONE)
        self._over(drive)
