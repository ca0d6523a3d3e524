"""Both consoles behind one door: a status screen on HDMI, and event lines on the UART."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gadgetd.events import Event, events
from gadgetd.render import render, to_text
from gadgetd.screen import Screen
from gadgetd.status import Problem, Status
from gadgetd.terminal import is_terminal
from gadgetd.uart import Uart

__all__ = ["Console", "Event", "Screen", "Uart", "events", "hdmi_device", "render", "to_text"]

AUTO, NONE = "auto", "none"


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
        self._told: Status | None = None

    @classmethod
    def open(
        cls,
        hdmi: str = AUTO,
        uart: str = AUTO,
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
        lines = Uart(str(uart_path), sequence=sequence) if uart_path else None
        return cls(screen, lines), advice

    def show(self, status: Status, now: float) -> None:
        """Show a status; `now` is a monotonic clock's time in seconds."""
        if self._screen:
            self._screen.show(status, now)
        if self._uart and status != self._told:
            self._uart.post(events(self._told, status), now)
        self._told = status

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
