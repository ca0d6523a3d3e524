"""The one poll loop: file descriptors, timers and signals, in one thread."""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from itertools import count

Clock = Callable[[], float]
READABLE = select.POLLIN
WRITABLE = select.POLLOUT
URGENT = select.POLLPRI | select.POLLERR
"""How sysfs attributes and /proc/self/mountinfo say that they changed."""


class Timer:
    """A callback that is due at a time of the loop's clock, until it is cancelled."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the callback. Does no harm after it ran."""
        self.callback = None


class Loop:
    """Waits for descriptors and timers and calls back; a stopped loop can run again.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._ticket = count()
        self._running = False

    def watch(self, fd: int, callback: Callable[[], None], events: int = READABLE) -> None:
        """Call back whenever `fd` has one of the poll(2) `events`; replaces an earlier watch.

        A negative one is that of a file that is not there, and nothing ever happens to it.
        """
        if fd < 0:
            return
        self._watched[fd] = callback
        self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching, before the descriptor is closed. Does no harm if it is not watched."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def watch_once(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back once, when it is readable, though somebody else may close it before."""
        ours = os.dup(fd)

        def ready() -> None:
            self.unwatch(ours)
            os.close(ours)
            callback()

        self.watch(ours, ready)

    def call_at(self, due: float, callback: Callable[[], None]) -> Timer:
        """Call back once when the clock reaches `due`."""
        timer = Timer(due, callback)
        heapq.heappush(self._timers, (due, next(self._ticket), timer))
        return timer

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay_s` seconds from now."""
        return self.call_at(self.clock() + delay_s, callback)

    def stop(self) -> None:
        """Let `run` return once the callbacks that are due have run."""
        self._running = False

    def run(self) -> None:
        """Wait and call back until `stop`, or until there is nothing left to wait for."""
        self._running = True
        while self._running and (self._watched or self._next_due() is not None):
            self.step()

    def step(self) -> None:
        """Wait once, for the first thing to happen, and call back for all that happened."""
        due = self._next_due()
        # Rounded up: a timer that runs a millisecond early would find nothing due and spin.
        timeout_ms = None if due is None else max(0, int((due - self.clock()) * 1000) + 1)
        if due is not None and due <= self.clock():
            timeout_ms = 0
        ready = [(fd, self._watched.get(fd)) for fd, _ in self._poll.poll(timeout_ms)]
        for fd, callback in ready:
            # An earlier callback of this round may have closed this descriptor, and even opened
            # another of the same number.
            if callback is not None and self._watched.get(fd) is callback:
                callback()
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                due_callback, timer.callback = timer.callback, None
                due_callback()

    def _next_due(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None


class Alarms:
    """Timers with names: setting one replaces the one of the same name that has not rung yet."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timers: dict[str, Timer] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._timers

    def set(
        self, name: str, delay_s: float, callback: Callable[[], None], *, keep: bool = False
    ) -> None:
        """Call back once, `delay_s` seconds from now; `keep` leaves one that is set as it is."""
        if name in self._timers:
            if keep:
                return
            self._timers[name].cancel()

        def ring() -> None:
            del self._timers[name]
            callback()

        self._timers[name] = self._loop.call_later(delay_s, ring)

    def cancel(self, name: str) -> None:
        """Do not ring, if it is set at all."""
        if name in self._timers:
            self._timers.pop(name).cancel()


def watch_signals(loop: Loop, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """Call an action from the loop whenever its signal comes, for the rest of the process's life.

    Several signals that come at once are handled in the order of `actions`. What was blocked so
    far comes now.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in actions:
        # The handler does nothing: Python writes the number to the descriptor by itself.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, actions)

    def arrived() -> None:
        numbers = os.read(reader, 64)
        for number, action in actions.items():
            if number in numbers:
                action()

    loop.watch(reader, arrived)
