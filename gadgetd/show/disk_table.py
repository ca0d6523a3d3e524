"""The disks on HDMI: those that the PC sees as a table, then the others, each with its reason."""

from __future__ import annotations

from collections.abc import Callable

from gadgetd.show import letters, wording
from gadgetd.show.layout import BOLD, PLAIN, Line, grid_line, left_out, lun
from gadgetd.show.rates import MOVING
from gadgetd.status import DiskStatus

History = Callable[[DiskStatus], tuple[int, ...]]
"""Gives the rates of a disk in bytes a second, the last one last."""

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


class Table:
    """The rows of disks, for a width. Give `fit` the number of lines there is room for."""

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
        charts = (letters.chart(history, min(room, _CHART_MAX)) for history in histories)
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
            chart = letters.chart(self._lately(row), min(room, _CHART_MAX))
            lines[-1] = f"{lines[-1]}  {chart}".rstrip()
        return [wording.clip(f"{name}  {size}  {model}", self._columns), *lines]
