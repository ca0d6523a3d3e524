"""Wording that the screen, the UART and `gadgetd status` share: sizes, states, plain ASCII, JSON.

Everything shown may come from hardware (a disk's model) or a file, so it goes through `plain`
before it reaches a terminal. What a person can do about a state is in `advice`.
"""

from __future__ import annotations

from gadgetd.disks.disk import Health
from gadgetd.errors import Problem
from gadgetd.status import MOVING, Controller, DiskStatus, Life, Status

_SPEEDS = {
    "low-speed": "1.5 Mb/s",
    "full-speed": "12 Mb/s",
    "high-speed": "480 Mb/s",
    "super-speed": "5 Gb/s",
    "super-speed-plus": "10 Gb/s",
}
"""As include/linux/usb/ch9.h names them in /sys/class/udc/X/current_speed."""

_STATES = {
    "": "state unknown",
    "not attached": "no host: cable out, or host off",
    "attached": "not set up by a host yet",
    "powered": "not set up by a host yet",
    "reconnecting": "reconnecting",
    "unauthenticated": "host does not accept the device yet",
    "default": "not set up by a host, or no more",
    "addressed": "not set up by a host, or no more",
    "configured": "connected",
    "suspended": "suspended: host asleep, or cable out",
}
"""Documentation/ABI/stable/sysfs-class-udc, `state`; what drivers make of it: docs/kernel.md."""
NO_PC = "none: cable out, or PC off"
"""`not attached` on HDMI, after "PC:", where there is less room."""
CHANGES = {
    "gone": "host gone: cable out, host off, or a reset",
    "attached": "cable in, or a host begins",
    "reset": "host gone, or it resets the port",
    "addressed": "host is setting it up",
    "configured": "host connected",
    "suspended": "suspended: host asleep, or cable out",
    "resumed": "host resumed the device",
    "speed": "link speed changed",
    "other": "host state changed",
}
"""The steps between those states, on the UART."""

LIVES = {
    Life.WAITING: ("waiting for host", "waiting for host"),
    Life.IDLE: ("idle", "idle"),
    Life.READING: ("reading", "host reads"),
    Life.WRITING: ("writing", "host writes"),
    Life.FLUSHING: ("flushing: do not unplug", "flushing, do not unplug"),
    Life.FLUSHED: ("flushed", "flushed, everything is on the disk"),
    Life.EJECTING: ("ejected, flushing: do not unplug", "ejected, flushing, do not unplug"),
    Life.EJECTED: ("ejected, flushed", "ejected, everything is on the disk"),
    Life.FAILED: (
        "WRITE ERROR, data lost",
        "WRITE ERROR: the disk lost data that the host believes written",
    ),
    Life.GONE: ("gone, number kept", "the disk is gone; its number is kept for it"),
}
"""What a disk does, as it stands on the screen and as an event tells of it."""

_UNITS = ("kB", "MB", "GB", "TB", "PB")


class _Plain(dict[int, str]):
    """A str.translate table: printable ASCII stays, some typography is spelt, the rest is `?`."""

    def __missing__(self, code: int) -> str:
        return chr(code) if 0x20 <= code <= 0x7E else "?"


_PLAIN = _Plain(
    {ord(mark): " " for mark in "\t\n\v\f\r\x85\xa0\u2028\u2029"}
    | {ord(mark): "'" for mark in "\u2018\u2019"}
    | {ord(mark): '"' for mark in "\u201c\u201d"}
    | {ord(mark): "-" for mark in "\u2010\u2011\u2012\u2013\u2014"}
    | {0x2026: "...", 0x2192: "->"}
)


def plain(text: str) -> str:
    """Return the text as printable ASCII in one line, safe for any terminal.

    Escape sequences lose their ESC, line ends become spaces, and what has no ASCII spelling
    becomes `?`: the Linux console's default font has few other characters, and a serial
    terminal may be in any encoding.
    """
    if text.isascii() and text.isprintable():  # As a rule, and that is known at once.
        return text
    return text.translate(_PLAIN)


def clip(text: str, width: int) -> str:
    """Cut the text to a width; `...` says that something is missing."""
    if len(text) <= width:
        return text
    return text[: width - 3] + "..." if width > 6 else text[:width]


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Break a text at spaces into lines of at most `width`; lines after the first are indented.

    A word longer than a line is broken. An empty text gives no line. (textwrap would cost the
    start an import.)
    """
    if len(indent) * 2 > width:
        indent = ""
    lines: list[str] = []
    body = text.lstrip(" ")
    margin = " " * min(len(text) - len(body), width // 2)
    line = margin
    for word in body.split(" "):
        if line.strip() and len(line) + 1 + len(word) <= width:
            line += " " + word
            continue
        if line.strip():
            lines.append(line)
        line = (indent if lines else margin) + word
        while len(line) > width:
            lines.append(line[:width])
            line = indent + line[width:]
    if line.strip():
        lines.append(line)
    return lines


def size(size_bytes: int) -> str:
    """Return a size as disk makers and Raspberry Pi Imager count, in powers of 1000: `31.3 GB`."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value, unit = size_bytes / 1000, 0
    # 999.5 would print as 1000 and belongs to the next unit.
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def speed(name: str) -> str:
    """Return a link speed in words, `high-speed (480 Mb/s)`; empty where there is no link."""
    if name in ("", "UNKNOWN"):
        return ""
    return f"{plain(name)} ({_SPEEDS[name]})" if name in _SPEEDS else plain(name)


def host(controller: Controller) -> str:
    """Return what the host is doing: `connected, high-speed (480 Mb/s)`."""
    state = _STATES.get(controller.state) or plain(controller.state)
    link = speed(controller.speed)
    # In any other state there may be no cable, and some drivers go on naming a speed.
    return f"{state}, {link}" if link and controller.state == "configured" else state


def doing(row: DiskStatus) -> str:
    """Return what a LUN is doing: `writing 12.3 MB/s`."""
    words = LIVES[row.life][0]
    # Between two looks nothing may have moved, though it goes on.
    moves = row.life in MOVING and row.rate_bytes_s
    return f"{words} {size(row.rate_bytes_s)}/s" if moves else words


def life(row: DiskStatus) -> str:
    """Return what a LUN is doing, with what was moved so far: `writing 12.3 MB/s, 1.20 GB`."""
    words = doing(row)
    if row.life in MOVING:
        moved = row.read_bytes if row.life is Life.READING else row.written_bytes
        return f"{words}, {size(moved)}"
    if row.life in (Life.IDLE, Life.FLUSHED) and row.written_bytes:
        return f"{words}, {size(row.written_bytes)} written"
    return words


def health(told: Health | None) -> str:
    """Return what a disk tells of its wear: `3 % worn, spare 100 % (low below 10 %), 38 C`.

    Empty where it tells nothing.
    """
    if told is None:
        return ""
    parts = []
    if told.worn_percent is not None:
        parts.append(f"{told.worn_percent} % worn")
    if told.spare_percent is not None:
        low = f" (low below {told.spare_low_percent} %)" if told.spare_low_percent else ""
        parts.append(f"spare {told.spare_percent} %{low}")
    if told.temperature_c is not None:
        parts.append(f"{told.temperature_c} C")
    if told.media_errors is not None:
        noun = "error" if told.media_errors == 1 else "errors"
        parts.append(f"{told.media_errors or 'no'} media {noun}")
    parts += (f"warns: {name.replace('_', ' ')}" for name in told.warnings)
    return ", ".join(parts)


def serial_console(tty: str) -> str:
    """Return that the host's serial port is a root shell, and what either end is called."""
    return (
        f"Serial console on the USB cable: log in as root, after Enter ({plain(tty)} here,"
        " ttyACM0 or a COM port on the host)"
    )


def board(status: Status) -> str:
    """Return which module this is: `Raspberry Pi Compute Module 4 Rev 1.1  serial ...a1b2c3d4`."""
    model = plain(status.board.model) or "unknown board"
    tail = plain(status.board.tail)
    if not tail:
        return model
    cut = "..." if len(status.board.serial) > len(status.board.tail) else ""
    return f"{model}  serial {cut}{tail}"


def problem(trouble: Problem) -> str:
    """Return a problem in one sentence; a place in a file comes first, as compilers put it.

    What the message says already (a ConfigError's message names its place) is not said twice.
    """
    text = plain(trouble.message)
    key = plain(trouble.key)
    if key and key not in text:
        text = f"{key}: {text}"
    place = plain(trouble.file)
    if place and trouble.line:
        place += f":{trouble.line}" + (f":{trouble.column}" if trouble.column else "")
    if place and place not in text:
        text = f"{place}: {text}"
    expected = plain(trouble.expected)
    if expected and expected not in text:
        text += f"; expected {expected}"
    return text


def json_line(fields: dict[str, str | int | bool | None]) -> str:
    """Encode a flat object as one line of ASCII JSON.

    `import json` costs some 20 ms on the emulated board, before the first line is out; a flat
    object of strings, integers and booleans needs this much only.
    """
    return "{" + ",".join(f"{_string(key)}:{_value(fields[key])}" for key in fields) + "}"


def _value(value: str | int | bool | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, int) else _string(value)


def _string(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    if 0x20 <= code <= 0x7E:
        return character
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    # JSON escapes know 16 bits: beyond them, a surrogate pair (RFC 8259, section 7).
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"
