"""The status as a screen of text, in any size of screen. Pure."""

from __future__ import annotations

from typing import NamedTuple

from gadgetd.errors import Problem
from gadgetd.show import wording
from gadgetd.status import DiskStatus, Status

SAFE = "SAFE TO UNPLUG"
FOOTER = "UART or Alt+F2: log in as root, no password. gadgetd status | scan | log"

PLAIN, BOLD, GREEN, RED = "", "1", "1;32", "1;31"
"""Attributes of a line (SGR). They only repeat what the words say."""

Line = tuple[str, str]
"""A line and its attributes."""

_BANNER_MAX = 80
_TABLE_MIN = 5
"""Head, three disks and "... and N more": fewer say too little, so other things go first."""


def to_text(status: Status, columns: int = 80) -> str:
    """Give the status as text of any length, for `gadgetd status`. Ends with a line end."""
    lines = [line for line, _ in layout(status, columns, 1 << 30, footer=False)]
    told = [(row.disk.name, wording.health(row.health)) for row in status.disks if row.health]
    for name, words in told:
        lines += wording.wrap(f"Health of {wording.plain(name)}: {words}", columns, "  ")
    return "".join(f"{line}\n" for line in lines)


class _Parts(NamedTuple):
    """What a screen is made of, each part wrapped to the width already."""

    header: list[Line]
    banner: list[Line]
    headline: list[Line]
    controller: list[Line]
    troubles: list[Line]
    footer: list[Line]


def layout(status: Status, columns: int, rows: int, *, footer: bool = True) -> list[Line]:
    """Give at most `rows` lines of at most `columns` printable ASCII characters, and how they look.

    Where they do not all fit, disks are counted instead of listed, then what surrounds them
    goes. SAFE TO UNPLUG, problems and advice are what is cut last.
    """
    columns, rows = max(columns, 1), max(rows, 1)

    def styled(words: str, style: str, indent: str = "  ") -> list[Line]:
        return [(line, style) for line in wording.wrap(wording.plain(words), columns, indent)]

    troubles: list[Line] = []
    if status.problem:
        troubles += _trouble(status.problem, "PROBLEM", columns, RED)
    for advice in status.advice:
        troubles += _trouble(advice, "NOTE", columns, BOLD)
    parts = _Parts(
        header=styled(f"gadgetd {status.version}  {wording.board(status)}", PLAIN),
        banner=_banner(columns) if status.safe_to_unplug else [],
        # A message that the problem repeats would only take room from it.
        headline=styled(status.message, BOLD) if not _repeats(status) else [],
        controller=styled(_controller(status), PLAIN) + styled(_serial_console(status), PLAIN),
        troubles=troubles,
        footer=styled(FOOTER, PLAIN) if footer else [],
    )
    table = _Table(status.disks, columns)
    # What is given up, in this order, until the rest fits.
    for dropped, table_min in (
        ("", len(table) + 1),
        ("gaps", _TABLE_MIN),
        ("gaps header", _TABLE_MIN),
        ("gaps header banner", _TABLE_MIN),
        ("gaps header banner", 1),
        ("gaps header banner footer controller", 1),
        ("gaps header banner footer controller headline", 1),
        ("gaps header banner footer controller headline", 0),
    ):
        above, below = _frame(parts, dropped)
        room = rows - len(above) - len(below)
        if room >= min(table_min, len(table) and len(table) + ("gaps" not in dropped)):
            return above + table.fit(room, gap="gaps" not in dropped) + below
    return above[:rows]


def _frame(parts: _Parts, dropped: str) -> tuple[list[Line], list[Line]]:
    """Put together what stands above and below the table."""
    gap: list[Line] = [] if "gaps" in dropped else [("", PLAIN)]

    def unless(name: str, lines: list[Line]) -> list[Line]:
        return [] if name in dropped.split() else lines

    banner = parts.banner
    if "banner" in dropped:
        banner = [line for line in banner if line[0].strip("# ")]
    above = unless("header", parts.header) + gap
    above += banner + (gap if banner else [])
    above += unless("headline", parts.headline) + unless("controller", parts.controller)
    above += (gap if parts.troubles else []) + parts.troubles
    below = unless("footer", parts.footer)
    return above, gap + below if below else below


def _repeats(status: Status) -> bool:
    return status.problem is not None and status.problem.message == status.message


def _banner(columns: int) -> list[Line]:
    width = min(columns, _BANNER_MAX)
    if width < len(SAFE) + 6:
        return [(line, GREEN) for line in wording.wrap(SAFE, width)]
    frame = "#" * width
    return [
        (frame, GREEN),
        ("##" + SAFE.center(width - 4) + "##", GREEN),
        (frame, GREEN),
    ]


def _controller(status: Status) -> str:
    controller = status.controller
    if controller is None:
        return "USB controller: none in use"
    note = f" - {controller.note}" if controller.note else ""
    return f"USB controller {controller.name}: {wording.host(controller)}{note}"


def _serial_console(status: Status) -> str:
    return wording.serial_console(status.serial_console) if status.serial_console else ""


def _trouble(problem: Problem, title: str, columns: int, style: str) -> list[Line]:
    lines = wording.wrap(f"{title}: {wording.problem(problem)}", columns, "  ")
    result = [(line, style) for line in lines]
    hint = wording.plain(problem.hint).strip()
    if hint:
        result += [(line, PLAIN) for line in wording.wrap(f"  What to do: {hint}", columns, "    ")]
    return result


class _Table:
    """The disks: exported ones as a table, then those left out, each with its reason."""

    def __init__(self, disks: tuple[DiskStatus, ...], columns: int) -> None:
        self._columns = columns
        exported = sorted((row for row in disks if row.lun is not None), key=_lun)
        left_out = [row for row in disks if row.lun is None and not _unsought(row)]
        grid = _grid(exported, columns)
        self._head: list[Line] = [(grid[0], BOLD)] if exported else []
        self._blocks = [[line] for line in grid[1:]]
        for row in left_out:
            disk = row.disk
            what = f"{disk.kind.caption} {wording.size(disk.size_bytes)}"
            names = f"  -  {wording.plain(disk.name)}  {what}"
            reason = wording.plain(row.reason) or "no reason known"
            fate = "not yet" if row.waits else "left out"
            self._blocks.append(wording.wrap(f"{names}: {fate}, {reason}", columns, " " * 9))

    def __len__(self) -> int:
        return len(self._head) + sum(len(block) for block in self._blocks)

    def fit(self, room: int, *, gap: bool) -> list[Line]:
        """Give the table in at most `room` lines; what does not fit is counted."""
        full = self._head + [(line, PLAIN) for block in self._blocks for line in block]
        if not full or room <= 0:
            return []
        if gap and len(full) < room:
            return [("", PLAIN), *full]
        if len(full) <= room:
            return full
        # One line a disk: a long reason is cut, `gadgetd status` has it whole.
        short = [
            wording.clip(" ".join([block[0], *map(str.strip, block[1:])]), self._columns)
            for block in self._blocks
        ]
        if len(self._head) + len(short) <= room:
            return self._head + [(line, PLAIN) for line in short]
        head = self._head if room > 2 else []
        shown = short[: room - len(head) - 1]
        more = f"... and {len(short) - len(shown)} more: gadgetd status"
        if not shown:
            more = f"{len(short)} disks: gadgetd status"
        return [
            *head,
            *((line, PLAIN) for line in shown),
            (wording.clip(more, self._columns), PLAIN),
        ]


def _unsought(row: DiskStatus) -> bool:
    """Whether it is the kernel's own, which nobody looks for; `gadgetd scan` has these as well."""
    return row.disk.name.startswith(("loop", "ram", "zram", "nullb")) and not row.waits


def _lun(row: DiskStatus) -> int:
    return row.lun if row.lun is not None else -1


def _grid(exported: list[DiskStatus], columns: int) -> list[str]:
    """Give the head and a line a disk. The model is shortened first, the state last."""
    titles = ["LUN", "NAME", "KIND", "MODEL", "SIZE", "RO", "STATE"]
    cells = [
        [
            str(row.lun),
            wording.plain(row.disk.name),
            row.disk.kind.caption,
            wording.plain(row.disk.model).strip() or "-",
            wording.size(row.disk.size_bytes),
            "ro" if row.read_only else "rw",
            wording.life(row),
        ]
        for row in exported
    ]
    shown_names = [wording.plain(row.inquiry).strip() for row in exported]
    rows = [titles, *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    # On a wide screen there is room for the name under which the host's programs list a disk.
    names_width = max([len("ON THE HOST"), *map(len, shown_names)])
    if any(shown_names) and sum(widths) + names_width + 2 * len(widths) <= columns:
        for row, name in zip(rows, ["ON THE HOST", *shown_names], strict=True):
            row.insert(6, name)
        widths.insert(6, names_width)
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= columns else 1
    for column, least in ((3, 6), (1, 8)):
        excess = sum(widths) + gap * (len(widths) - 1) - columns
        widths[column] -= max(0, min(excess, widths[column] - least))
    return [_grid_line(row, widths, " " * gap, columns) for row in rows]


def _grid_line(cells: list[str], widths: list[int], gap: str, columns: int) -> str:
    padded = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        cut = wording.clip(cell, width)
        # Numbers stand flush right: LUN and SIZE.
        padded.append(cut.rjust(width) if column in (0, 4) else cut.ljust(width))
    return wording.clip(gap.join(padded).rstrip(), columns)
