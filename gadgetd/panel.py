"""What a person sees of gadgetd: both consoles, the LED, and the log of all that was said."""

from __future__ import annotations

from collections import deque
from itertools import count
from pathlib import Path

from gadgetd.config import Config, Consoles
from gadgetd.console import Console
from gadgetd.events import events
from gadgetd.led import Blinker, find, pattern_for
from gadgetd.loop import WRITABLE, Loop, Timer
from gadgetd.status import Problem, Status

LOG_LINES = 500


class Panel:
    """Shows each status and keeps the consoles and the LED going from the loop. Decides nothing."""

    def __init__(
        self,
        loop: Loop,
        board_model: str,
        *,
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
    ) -> None:
        self._loop = loop
        self._board_model = board_model
        self._sys = sys
        self._dev = dev
        self._console = Console()
        self._blinker = Blinker(None)
        self._timer: Timer | None = None
        self._writable_fd = -1
        self._shown: Status | None = None
        self._consoles: Consoles | None = None
        self._led: str | None = None
        self._sequence = count(1)  # It goes on when the configuration names another UART.
        self._about_consoles: tuple[Problem, ...] = ()
        self._about_led: tuple[Problem, ...] = ()
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        """Each line begins with the loop's clock in seconds, as the kernel's own log does."""

    @property
    def advice(self) -> tuple[Problem, ...]:
        """What is odd about the consoles or the LED that the configuration names."""
        return (*self._about_consoles, *self._about_led)

    def choose(self, config: Config) -> None:
        """Use the consoles and the LED that the configuration names; the same ones go on."""
        if config.consoles != self._consoles:
            self._consoles = config.consoles
            self._forget_fd()
            self._console.close()
            self._console, self._about_consoles = Console.open(
                config.consoles.hdmi,
                config.consoles.uart,
                sys_class_tty=self._sys / "class" / "tty",
                dev=self._dev,
                sequence=self._sequence,
            )
        if config.led != self._led:
            self._led = config.led
            self._blinker.release()
            led, about = find(self._sys / "class" / "leds", config.led, self._board_model)
            self._blinker = Blinker(led)
            self._about_led = (about,) if about else ()

    def show(self, status: Status) -> None:
        """Show a status everywhere."""
        now = self._loop.clock()
        if status != self._shown:
            self.log.extend(f"[{now:10.3f}] {event.text}" for event in events(self._shown, status))
            self._shown = status
        # The LED first: it is the quickest, and all that some people have.
        pattern = pattern_for(status)
        if pattern is None:
            self._blinker.release()
        else:
            self._blinker.start(pattern, now)
        self._console.show(status, now)
        self._arm()

    def close(self) -> None:
        """Let go of the terminals. The screen keeps its last picture, the LED its last light."""
        self._forget_fd()
        if self._timer is not None:
            self._timer.cancel()
        self._console.close()

    def _tick(self) -> None:
        now = self._loop.clock()
        self._blinker.step(now)
        self._console.tick(now)
        self._arm()

    def _arm(self) -> None:
        now = self._loop.clock()
        if self._timer is not None:
            self._timer.cancel()
        due = [t for t in (self._blinker.step(now), self._console.next_call(now)) if t is not None]
        self._timer = self._loop.call_at(min(due), self._tick) if due else None
        self._forget_fd()
        if self._console.wants_write:
            self._writable_fd = self._console.fileno()
            self._loop.watch(self._writable_fd, self._tick, WRITABLE)

    def _forget_fd(self) -> None:
        if self._writable_fd >= 0:
            self._loop.unwatch(self._writable_fd)
            self._writable_fd = -1
