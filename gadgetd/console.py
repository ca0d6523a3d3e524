"""What a person sees: a screen on HDMI, event lines on the UART, the LED, and the log of it all."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from gadgetd.config.settings import AUTO, NONE, Config, Consoles, UartLines
from gadgetd.errors import Problem
from gadgetd.eventloop import WRITABLE, Loop, Timer
from gadgetd.led import Blinker, find, give_back, pattern_for
from gadgetd.show.events import Event, events
from gadgetd.show.screen import Screen
from gadgetd.show.snapshot import Display
from gadgetd.show.tty import is_terminal
from gadgetd.show.uart import Uart
from gadgetd.status import Status


def hdmi_device(wanted: str = AUTO, dev: Path = Path("/dev")) -> Path | None:
    """Give the terminal of the status screen: the first virtual console, or the named one."""
    return _named(wanted, dev / "tty1")


def uart_device(
    wanted: str = AUTO,
    sys_class_tty: Path = Path("/sys/class/tty"),
    dev: Path = Path("/dev"),
) -> Path | None:
    """Give the terminal of the event lines: the serial console of the kernel's command line.

    The last console that is no virtual console: the last `console=` is the one that boot
    messages and the root shell use, so a reader of the UART is there. None without one.
    Source: Documentation/admin-guide/serial-console.rst; /sys/class/tty/console/active.
    """
    try:
        names = (sys_class_tty / "console" / "active").read_text("ascii", "replace").split()
    except OSError:
        names = []
    serial = [name for name in names if not _is_virtual(name) and "/" not in name]
    automatic = dev / serial[-1] if serial else None
    # /dev/console is no terminal of its own, but another name for this one.
    return automatic if wanted == str(dev / "console") else _named(wanted, automatic)


def _named(wanted: str, automatic: Path | None) -> Path | None:
    if wanted == AUTO:
        return automatic
    return None if wanted == NONE else Path(wanted)


def _is_virtual(name: str) -> bool:
    """`tty0` to `tty63` are virtual consoles, `ttynull` is none at all; `ttyS0` is serial."""
    return name == "ttynull" or name.removeprefix("tty").isdigit()


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are the same terminal, also through a link or another node."""
    try:
        return os.stat(one).st_rdev == os.stat(other).st_rdev != 0
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


class Console:
    """Shows each status on the screen, and what it changes on the UART. Either may be missing.

    Nothing here waits, raises or decides: the daemon calls `show` with each new status, `tick`
    when `next_call` says so or when `fileno` is ready while `wants_write`.
    """

    def __init__(self, screen: Screen | None = None, uart: Uart | None = None) -> None:
        self._screen = screen
        self._uart = uart

    @classmethod
    def open(
        cls,
        hdmi: str = AUTO,
        uart: str = AUTO,
        lines: UartLines = UartLines.BOTH,
        *,
        sys_class_tty: Path = Path("/sys/class/tty"),
        dev: Path = Path("/dev"),
        sequence: Iterator[int] | None = None,
    ) -> tuple[Console, tuple[Problem, ...]]:
        """Give the consoles that the configuration names, and what is odd about that, if any.

        `sequence` numbers the UART's events.
        """
        screen_path = hdmi_device(hdmi, dev)
        uart_path = uart_device(uart, sys_class_tty, dev)
        advice = tuple(
            Problem(
                f"consoles.{key}: {wanted} is not there, or is no terminal",
                "name a terminal below /dev in gadgetd.yaml, or auto, or none",
            )
            for key, wanted in (("hdmi", hdmi), ("uart", uart))
            if wanted not in (AUTO, NONE) and not is_terminal(wanted)
        )
        if screen_path and uart_path and _same(screen_path, uart_path):
            # A screen drawn over lines would spoil both; only the lines can be parsed.
            both = Problem(
                f"{screen_path} is both the screen and the UART: it gets the UART's lines",
                "in gadgetd.yaml, give consoles.hdmi and consoles.uart two terminals, or none",
            )
            advice = (*advice, both)
            screen_path = None
        screen = Screen(str(screen_path)) if screen_path else None
        if uart_path is None:
            return cls(screen), advice
        text, json = lines is not UartLines.JSON, lines is not UartLines.TEXT
        return cls(screen, Uart(str(uart_path), sequence=sequence, text=text, json=json)), advice

    def show(self, status: Status, changes: list[Event], now: float) -> None:
        """Show a status, and say what has changed; `now` is a monotonic clock's time in seconds."""
        if self._screen:
            self._screen.show(status, now)
        if self._uart:
            self._uart.post(changes, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self._screen:
            self._screen.tick(now)
        if self._uart:
            due = self._uart.next_poll(now)
            if self._uart.wants_write or (due is not None and due <= now):
                self._uart.pump(now)

    def next_call(self, now: float) -> float | None:
        """Give the time at which `tick` has something to do; None if there is nothing."""
        times = (
            self._screen.next_draw(now) if self._screen else None,
            self._uart.next_poll(now) if self._uart else None,
        )
        return min((time for time in times if time is not None), default=None)

    def fileno(self) -> int:
        """Give the descriptor to wait for (POLLOUT) while `wants_write`."""
        return self._uart.fileno() if self._uart else -1

    @property
    def wants_write(self) -> bool:
        """The UART has taken a part of the lines and waits for room."""
        return self._uart is not None and self._uart.wants_write

    def close(self) -> None:
        """Let go of both. The screen keeps the last status."""
        if self._screen:
            self._screen.close()
        if self._uart:
            self._uart.close()


LOG_LINES = 500


class Panel(Display):
    """Shows each status and keeps the consoles and the LED going from the loop. Decides nothing."""

    def __init__(
        self,
        loop: Loop,
        board_model: str,
        *,
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
        led_memory: Path | None = None,
    ) -> None:
        """`led_memory` is the file that `Blinker` remembers the LED's own trigger in."""
        self._loop = loop
        self._board_model = board_model
        self._sys = sys
        self._dev = dev
        self._led_memory = led_memory
        self._console = Console()
        self._blinker = Blinker(None)
        self._timer: Timer | None = None
        self._writable_fd = -1
        self._shown: Status | None = None
        self._consoles: Consoles | None = None
        self._anew = False
        """The consoles have been told nothing yet."""
        self._led: str | None = None
        self._sequence = count(1)  # It goes on when the configuration names another UART.
        self._about_consoles: tuple[Problem, ...] = ()
        self._about_led: tuple[Problem, ...] = ()
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        """Each line begins with the loop's clock in seconds, as the kernel's own log does."""

    @property
    def advice(self) -> tuple[Problem, ...]:
        """What is odd about the consoles or the LED that the configuration names, now."""
        self._look_for_led()
        return (*self._about_consoles, *self._about_led)

    def choose(self, config: Config) -> None:
        """Use the consoles and the LED that the configuration names; the same ones go on."""
        if config.consoles != self._consoles:
            self._consoles, self._anew = config.consoles, True
            self._forget_fd()
            self._console.close()
            self._console, self._about_consoles = Console.open(
                config.consoles.hdmi,
                config.consoles.uart,
                config.consoles.uart_lines,
                sys_class_tty=self._sys / "class" / "tty",
                dev=self._dev,
                sequence=self._sequence,
            )
        if config.led != self._led:
            self._led = config.led
            self._blinker.release()
            self._blinker = Blinker(None)
            give_back(self._sys / "class" / "leds", self._led_memory)
            self._look_for_led()

    def show(self, status: Status) -> None:
        """Show a status everywhere."""
        now = self._loop.clock()
        changes = events(self._shown, status) if status != self._shown else []
        self.log.extend(f"[{now:10.3f}] {event.text}" for event in changes)
        if self._anew:  # What a UART that is new has not been told.
            changes, self._anew = events(None, status), False
        self._shown = status
        # The LED first: it is the quickest, and all that some people have.
        pattern = pattern_for(status)
        if pattern is None:
            self._blinker.release()
        else:
            self._blinker.start(pattern, now)
        self._console.show(status, changes, now)
        self._arm()

    def close(self) -> None:
        """Let go of the terminals. The screen keeps its last picture, the LED its last light."""
        self._forget_fd()
        if self._timer is not None:
            self._timer.cancel()
        self._console.close()

    def _look_for_led(self) -> None:
        """Use a LED that has come since; its driver may be a module that is loaded late."""
        if self._led is None or self._blinker.has_led:
            return
        led, about = find(self._sys / "class" / "leds", self._led, self._board_model)
        self._about_led = (about,) if about else ()
        self._blinker = Blinker(led, kept=self._led_memory)

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
