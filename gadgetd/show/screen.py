"""A Linux console that shows a status: HDMI; and how fast each disk was lately."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from gadgetd.show.tty import open_terminal
from gadgetd.status import MOVING, DiskStatus, Life, Status

Line = tuple[str, str]
"""A line and its attributes (SGR)."""

_INIT = b"\x1b[0m\x1b%G\x1b[?25l\x1b[?7l\x1b[9;0]\x1b[14;0]\x1b[13]"
"""No attributes, UTF-8, no cursor, no wrapping; no blanking, no power-down; unblank now.

Source: console_codes(4).
"""
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h"


class Screen:
    """Shows a status on a Linux console, and redraws what changed.

    It never waits and never raises for the terminal's sake: a screen that is missing, hung up or
    stopped is tried again at the next change. All times are seconds of a monotonic clock.
    """

    INTERVAL_S = 0.5
    """Shortest time between two drawings."""
    NUMBERS_S = 1.0
    """The same where only numbers have moved: a drawing takes computing from who moves them."""
    STOPPED_RETRY_S = 5.0
    """A terminal stopped with Scroll Lock shows an old word; so look when it runs again."""

    def __init__(
        self,
        path: str = "/dev/tty1",
        *,
        open_fd: Callable[[str], int] = open_terminal,
        write: Callable[[int, bytes], int] = os.write,
        passwd: Path = Path("/etc/passwd"),
    ) -> None:
        self._path = path
        self._passwd = passwd
        self._open_fd = open_fd
        self._write = write
        self._fd = -1
        self._status: Status | None = None
        self._shown: Status | None = None
        self._rates = Rates()
        self._lines: list[Line] | None = None
        """What the terminal shows; None if that is not known."""
        self._geometry = (0, 0)
        self._login = ""
        self._due: float | None = None
        self._drawn_at = float("-inf")

    def show(self, status: Status, now: float) -> None:
        """Show a status: at once, or a moment later if the last drawing was just now."""
        if status == self._status:
            return
        self._status = status
        self._rates.note(status, now)
        numbers = self._shown is not None and _state(status) == _state(self._shown)
        due = self._drawn_at + (self.NUMBERS_S if numbers else self.INTERVAL_S)
        # Nobody may pull the cable on a word that is no longer true.
        if self._shown and self._shown.safe_to_unplug and not status.safe_to_unplug:
            due = now
        self._due = due
        self.tick(now)

    def next_draw(self, now: float) -> float | None:
        """Give the time at which `tick` has something to draw; None if there is nothing."""
        return None if self._due is None else max(self._due, now)

    def tick(self, now: float) -> None:
        """Draw if a drawing is due."""
        if self._due is None or now < self._due or self._status is None:
            return
        self._due = None
        self._drawn_at = now
        try:
            self._draw(self._status)
        except BlockingIOError:
            self._lines = None
            self._due = now + self.STOPPED_RETRY_S
        except OSError:
            self._drop()

    def close(self) -> None:
        """Give the terminal back; the last status stays on it."""
        if self._fd >= 0:
            row = min(len(self._lines or ()) + 1, self._geometry[1])
            with contextlib.suppress(OSError):
                self._write(self._fd, _LEAVE + f"\x1b[{row}H".encode())
        self._drop()

    def _draw(self, status: Status) -> None:
        try:
            self._draw_once(status)
        except BlockingIOError:
            raise
        except OSError:
            # A hung-up terminal (a session on it ended) is as good as new once opened again.
            self._drop()
            self._draw_once(status)

    def _draw_once(self, status: Status) -> None:
        if self._fd < 0:
            self._fd = self._open_fd(self._path)
            self._lines = None
            self._login = _login(self._passwd)
        geometry = _geometry(self._fd)
        if geometry != self._geometry or _scene(status) != _scene(self._shown):
            # Kernel messages land on this terminal too: draw over them now and then.
            self._lines = None
        # Here, not above: the first picture comes after the disks are with the host.
        from gadgetd.show.picture import picture

        lines = picture(status, *geometry, self._rates.of, self._login)
        self._write_all(_changes(self._lines, lines, geometry))
        self._lines, self._geometry, self._shown = lines, geometry, status

    def _write_all(self, data: bytes) -> None:
        while data:
            count = self._write(self._fd, data)
            if count <= 0:
                raise BlockingIOError
            data = data[count:]

    def _drop(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1
        self._lines = None


_STEP_S = 1.0
"""Time that one bar stands for, in seconds."""
_PAUSE_S = 5.0
"""After so long without traffic a gap is drawn. While nothing moves, nothing is drawn at all."""
_KEPT = 120
_Key = tuple[int | None, str]
"""A disk's number and its kernel name."""


class Rates:
    """Remembers how fast each disk was lately, in bytes a second, for the small charts."""

    def __init__(self) -> None:
        self._values: dict[_Key, list[int]] = {}
        self._last: dict[_Key, float] = {}

    def note(self, status: Status, now: float) -> None:
        """Take over the rates of a status; `now` is a monotonic clock's time in seconds."""
        # What comes into the LUN of a disk that has gone may be another one.
        there = {_key_of(row) for row in status.disks if row.life is not Life.GONE}
        for key in self._values.keys() - there:
            del self._values[key], self._last[key]
        for row in status.disks:
            if row.life in MOVING and row.lun is not None:
                self._note(_key_of(row), row.rate_bytes_s, now)

    def of(self, row: DiskStatus) -> tuple[int, ...]:
        """Give the rates of a disk, the last one last."""
        return tuple(self._values.get(_key_of(row), ()))

    def _note(self, key: _Key, rate: int, now: float) -> None:
        values = self._values.setdefault(key, [])
        last = self._last.get(key, now)
        if values and now - last >= _PAUSE_S:
            values.append(0)
        if values and int(now / _STEP_S) == int(last / _STEP_S):
            values[-1] = rate
        else:
            values.append(rate)
        del values[:-_KEPT]
        self._last[key] = now


def _key_of(row: DiskStatus) -> _Key:
    """Give what tells this disk in its LUN from others."""
    return row.lun, row.disk.name


def _scene(status: Status | None) -> object:
    """What stays the same while only numbers move."""
    if status is None:
        return None
    headline = (status.phase, status.message, status.problem, status.advice)
    return (*headline, status.controller, status.safe_to_unplug, len(status.disks))


def _state(status: Status) -> object:
    """What a person waits for, and not only watches."""
    return _scene(status), [row.life for row in status.disks]


def _login(passwd: Path) -> str:
    """Say how to log in on the board; empty if root cannot. The image's users are in this file.

    Source: passwd(5): an empty field asks for no password, `!` and `*` are no password's hash.
    """
    try:
        users = passwd.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    root = next((user.split(":") for user in users if user.startswith("root:")), [])
    if len(root) < 2 or root[1].startswith(("!", "*")):
        return ""
    return f"log in on the UART or with Alt+F2: root{'' if root[1] else ', no password'}"


def _geometry(fd: int) -> tuple[int, int]:
    """Give the terminal's columns and rows; 80 by 25 where it does not know (TIOCGWINSZ)."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        columns, rows = 0, 0
    return columns or 80, rows or 25


def _changes(old: list[Line] | None, new: list[Line], geometry: tuple[int, int]) -> bytes:
    """Give what turns the shown lines into the new ones; all of it if the shown are unknown."""
    columns, rows = geometry
    output = _INIT + b"\x1b[H" if old is None else b""
    before = old or []
    for row in range(max(len(new), len(before))):
        line, style = new[row] if row < len(new) else ("", "")
        if old is not None and row < len(before) and before[row] == (line, style):
            continue
        # Erasing at the last column would take the last character with it.
        erase = "\x1b[K" if len(line) < columns else ""
        marked = f"\x1b[{style}m{line}\x1b[0m" if style else line
        output += f"\x1b[{row + 1}H{marked}{erase}".encode()
    # The cursor rests below the text: a kernel message then leaves the status in its place.
    rest = f"\x1b[{min(len(new) + 1, rows)}H"
    if old is None and len(new) < rows:
        rest += "\x1b[J"
    return output + rest.encode() if output else b""
