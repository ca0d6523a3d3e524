"""What HDMI shows, in any size of screen: the sign, the disks, what else a person needs. Pure."""

from __future__ import annotations

from collections.abc import Callable

from gadgetd.frozen import Frozen
from gadgetd.show import wording
from gadgetd.show.layout import (
    BOLD,
    PLAIN,
    Line,
    grid_line,
    left_out,
    lun,
    repeats,
    serial_console,
    troubles,
)
from gadgetd.show.sign import LOWER, ROWS_MIN, SAFE, letters, sign_of
from gadgetd.status import MOVING, DiskStatus, Life, Status

History = Callable[[DiskStatus], tuple[int, ...]]
"""Gives the rates of a disk in bytes a second, the last one last."""

_MAKER = "Raspberry Pi "
_EJECT = "; eject there before you unplug"

_ALL = 1 << 30
_STEPS = (
    ("", _ALL),
    ("gaps", _ALL),
    # Head, three disks and "... and N more": fewer say too little, so other things go first.
    ("gaps footer", 5),
    ("gaps footer", 1),
    ("gaps footer board link", 1),
)
"""What is given up, and the least lines of a longer table, in this order, until the rest fits."""
_LAST = ("gaps footer board link headline", 0)


def picture(
    status: Status,
    columns: int,
    rows: int,
    history: History = lambda _: (),
    login: str = "",
) -> list[Line]:
    """Give at most `rows` lines of at most `columns` characters: ASCII, and block elements.

    `login` says how to log in on the board.
    Where not all fits, disks are counted instead of listed, then what surrounds them goes, and
    then the block letters. The word, problems and advice are what is cut last.
    """
    columns, rows = max(columns, 1), max(rows, 1)
    page = _Page(status, columns, rows, history, login)
    # The headline says the whole word where the letters do not, so it goes after them.
    for large, steps in ((True, _STEPS), (False, (*_STEPS, _LAST))):
        for dropped, table_min in steps:
            if lines := page.compose(dropped, table_min, large=large):
                return lines
    return (page.word + page.parts.troubles)[:rows]


class _Parts(Frozen):
    """What stands around the table, each part wrapped to the width already."""

    headline: list[Line]
    board: list[Line]
    link: list[Line]
    troubles: list[Line]
    footer: list[Line]


class _Page:
    """A status on a screen of a size."""

    def __init__(
        self, status: Status, columns: int, rows: int, history: History, login: str
    ) -> None:
        self._columns, self._rows = columns, rows
        self._sign = sign = sign_of(status)
        tail = status.board.tail

        def styled(words: str, style: str) -> list[Line]:
            return [(line, style) for line in wording.wrap(wording.plain(words), columns, "  ")]

        # A message that the problem repeats would only take room from it.
        message = "" if repeats(status) else status.message
        if sign is SAFE:
            message = f"{SAFE.word}: {message}".rstrip(": ")
        self.parts = _Parts(
            headline=styled(message, sign.style),
            board=[(wording.clip(_board(status, columns), columns), BOLD)],
            link=styled(_link(status, columns), PLAIN) + styled(serial_console(status), PLAIN),
            troubles=troubles(status, columns),
            footer=styled(f"gadgetd {status.version}{login and '; '}{login}", PLAIN),
        )
        self.word: list[Line] = [
            (line, f"{sign.style};7") for line in wording.wrap(sign.word, columns)
        ]
        self._table = _Table(status.disks, tail, columns, history)

    def compose(self, dropped: str, table_min: int, *, large: bool) -> list[Line]:
        """Give the whole page; [] if this is more than there is room for."""
        gone = set(dropped.split())
        gap: list[Line] = [] if "gaps" in gone else [("", PLAIN)]
        parts = self.parts._replace(**{name: [] for name in gone - {"gaps"}})
        below = [parts.headline + parts.board + parts.link, parts.troubles, parts.footer]
        table = len(self._table)
        # A gap above the word and above each part that is there.
        around = sum(len(part) + len(gap) for part in below if part)
        around += len(gap) * (1 + bool(table))
        least = ROWS_MIN if large else len(self.word)
        room = self._rows - around - least
        if room < min(table_min, table):
            return []
        shown = self._table.fit(room)
        word = self._large(self._rows - around - len(shown)) if large else self.word
        if not word:
            return []
        page = gap + word
        for part in (below[0], shown, *below[1:]):
            page += gap + part if part else []
        return page

    def _large(self, room: int) -> list[Line]:
        """Give the word in block letters, no higher than half of the screen."""
        room = min(room, -(-self._rows // 2))
        sign = self._sign
        drawn = letters(sign.spellings, self._columns, room)
        if not drawn and sign.short:
            drawn = letters([(sign.short,)], self._columns, room)
        return [(line, sign.style) for line in drawn]


def _board(status: Status, columns: int) -> str:
    """Give the board's name as the PC shows it, then its model, of which the end matters most."""
    model = status.board.model or "unknown board"
    name = wording.plain(f"{status.board.tail}  {model}".strip())
    return name if len(name) <= columns else name.replace(_MAKER, "")


def _link(status: Status, columns: int) -> str:
    """Say how it stands with the PC; nothing without a controller, which is told of elsewhere."""
    controller = status.controller
    if controller is None:
        return ""
    words = (
        f"PC: {wording.NO_PC if controller.state == 'not attached' else wording.host(controller)}"
    )
    out = (Life.EJECTING, Life.EJECTED, Life.FAILED, Life.GONE)
    has_disks = any(row.lun is not None and row.life not in out for row in status.disks)
    if controller.state == "configured" and has_disks and len(words) + len(_EJECT) <= columns:
        words += _EJECT
    return words


_TITLES = ("DISK", "SIZE", "MODEL", "WRITTEN", "READ", "NOW")
_NUMBERS = (1, 3, 4)
"""Columns that stand flush right."""
_DISPENSABLE = (2, 4, 3)
"""Columns that go where the screen is too narrow, the first one first."""
_NARROW = 60
"""In fewer columns a disk has two lines."""
_CHART_MIN, _CHART_MAX = 6, 30
_MODEL_MIN = 12
"""A model is not cut shorter than this for a chart's sake."""


class _Table:
    """The disks that the PC sees, then the others, each with its reason, for a width.

    Give `fit` the number of lines there is room for.
    """

    def __init__(
        self, disks: tuple[DiskStatus, ...], tail: str, columns: int, history: History
    ) -> None:
        """`tail` is the board's name, which each disk's name on the PC begins with."""
        self._columns = columns
        self._tail = tail
        self._history = history
        exported = sorted((row for row in disks if row.lun is not None), key=lun)
        self._head: list[Line] = []
        self._blocks: list[list[str]] = []
        self._short: list[str] = []
        """Each block in one line; what that lacks, `gadgetd status` has."""
        if columns < _NARROW:
            for row in exported:
                self._add(self._narrow(row), f"{self._name(row)}  {wording.doing(row)}")
        elif exported:
            title, *lines = self._grid(exported)
            self._head = [(title, BOLD)]
            for line in lines:
                self._add([line], line)
        for row in disks:
            if row.lun is None and (lines := left_out(row, columns)):
                self._add(lines, " ".join([lines[0], *map(str.strip, lines[1:])]))

    def _add(self, block: list[str], short: str) -> None:
        self._blocks.append(block)
        self._short.append(wording.clip(short, self._columns))

    def __len__(self) -> int:
        return len(self._head) + sum(map(len, self._blocks))

    def fit(self, room: int) -> list[Line]:
        """Give the table in at most `room` lines; what does not fit is counted."""
        full = self._head + [(line, PLAIN) for block in self._blocks for line in block]
        if room <= 0 or len(full) <= room:
            return full if room > 0 else []
        head, short = self._head if room > 2 else [], self._short
        if len(head) + len(short) > room:
            short = short[: room - len(head) - 1]
            more = f"... and {len(self._short) - len(short)} more: gadgetd status"
            if not short:
                more = f"{len(self._short)} disks: gadgetd status"
            short = [*short, wording.clip(more, self._columns)]
        return head + [(line, PLAIN) for line in short]

    def _cells(self, row: DiskStatus) -> list[str]:
        now = wording.doing(row)
        return [
            self._name(row),
            wording.size(row.disk.size_bytes),
            wording.plain(row.disk.model).strip() or "-",
            wording.size(row.written_bytes) if row.written_bytes else "-",
            wording.size(row.read_bytes) if row.read_bytes else "-",
            f"{now}, read-only" if row.read_only else now,
        ]

    def _name(self, row: DiskStatus) -> str:
        """Give the name on the PC, less the board's, and the kernel's where it is another."""
        name = wording.plain(row.disk.name)
        shown = wording.plain(row.inquiry).strip()
        shown = shown.removeprefix(wording.plain(self._tail)).strip()
        if not shown:
            return f"{row.disk.kind.caption} {name}"
        return shown if name in shown else f"{shown} ({name})"

    def _lately(self, row: DiskStatus) -> tuple[int, ...]:
        """Give the rates that are worth a chart; those of a disk at rest would only puzzle."""
        return self._history(row) if row.life in MOVING else ()

    def _grid(self, exported: list[DiskStatus]) -> list[str]:
        """Give the titles and a line a disk. The model is shortened first, the state last."""
        rows = [list(_TITLES), *(self._cells(row) for row in exported)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
        kept = list(range(len(_TITLES)))

        def excess() -> int:
            return sum(widths[column] for column in kept) + 2 * (len(kept) - 1) - self._columns

        histories = [self._lately(row) for row in exported]
        # A short chart says more than the end of a long model.
        chart = 2 + _CHART_MIN if any(histories) else 0
        if 0 < excess() + chart <= widths[2] - _MODEL_MIN:
            widths[2] -= excess() + chart
        widths[2] -= max(0, min(excess(), widths[2] - 8))
        for column in _DISPENSABLE:
            if excess() > 0:
                kept.remove(column)
        widths[0] -= max(0, min(excess(), widths[0] - 8))
        right = tuple(at for at, column in enumerate(kept) if column in _NUMBERS)
        lines = [
            grid_line(
                [row[column] for column in kept],
                [widths[column] for column in kept],
                "  ",
                self._columns,
                right=right,
            )
            for row in rows
        ]
        room = -excess() - 2
        if room < _CHART_MIN:
            return lines
        start = self._columns - room
        charts = (bars(history, min(room, _CHART_MAX)) for history in histories)
        return [
            lines[0],
            *(
                f"{line:{start}}{chart}".rstrip()
                for line, chart in zip(lines[1:], charts, strict=True)
            ),
        ]

    def _narrow(self, row: DiskStatus) -> list[str]:
        """Give a disk in two lines or three."""
        name, size, model, written, read, now = self._cells(row)
        moved = [f"{written} written"] * bool(row.written_bytes)
        moved += [f"{read} read"] * bool(row.read_bytes)
        lines = wording.wrap(f"  {', '.join([now, *moved])}", self._columns, "  ")
        room = self._columns - len(lines[-1]) - 2
        if room >= _CHART_MIN:
            chart = bars(self._lately(row), min(room, _CHART_MAX))
            lines[-1] = f"{lines[-1]}  {chart}".rstrip()
        return [wording.clip(f"{name}  {size}  {model}", self._columns), *lines]


def bars(values: tuple[int, ...], width: int) -> str:
    """Draw the last values as a line of bars, none of which touches the line above."""
    shown = values[-width:] if width > 0 else ()
    most = max(shown, default=0)
    return "".join(_bar(value, most) for value in shown)


def _bar(value: int, most: int) -> str:
    if value and value * 2 >= most:
        return LOWER
    return "_" if value else " "
