"""The status as lines of text: all of it, as `gadgetd status` prints it. Pure."""

from __future__ import annotations

from gadgetd.errors import Problem
from gadgetd.show import wording
from gadgetd.status import DiskStatus, Status

SAFE = "SAFE TO UNPLUG"

PLAIN, BOLD, RED = "", "1", "1;31"
"""Attributes of a line (SGR). They only repeat what the words say."""

Line = tuple[str, str]
"""A line and its attributes."""

_BANNER_MAX = 80


def to_text(status: Status, columns: int = 80) -> str:
    """Give the status as text of any length, in printable ASCII. Ends with a line end."""

    def wrapped(words: str) -> list[str]:
        return wording.wrap(wording.plain(words), columns, "  ")

    lines = [*wrapped(f"gadgetd {status.version}  {wording.board(status)}"), ""]
    if status.safe_to_unplug:
        lines += [*_banner(columns), ""]
    # A message that the problem repeats says nothing new.
    lines += wrapped(status.message) if not repeats(status) else []
    lines += wrapped(_controller(status)) + wrapped(serial_console(status))
    if about := [line for line, _ in troubles(status, columns)]:
        lines += ["", *about]
    if table := _table(status.disks, columns):
        lines += ["", *table]
    told = [(row.disk.name, wording.health(row.health)) for row in status.disks if row.health]
    for name, words in told:
        lines += wrapped(f"Health of {name}: {words}")
    return "".join(f"{line}\n" for line in lines)


def repeats(status: Status) -> bool:
    """Whether the headline says nothing that the problem does not say."""
    return status.problem is not None and status.problem.message == status.message


def serial_console(status: Status) -> str:
    """Say that the host's serial port is a root shell; empty if there is none."""
    return wording.serial_console(status.serial_console) if status.serial_console else ""


def troubles(status: Status, columns: int) -> list[Line]:
    """Say what is wrong and what to do about it, the problem first."""
    lines = _trouble(status.problem, "PROBLEM", columns, RED) if status.problem else []
    for advice in status.advice:
        lines += _trouble(advice, "NOTE", columns, BOLD)
    return lines


def left_out(row: DiskStatus, columns: int) -> list[str]:
    """Say why a disk is not exported; nothing of one of the kernel's own, which nobody looks for.

    `gadgetd scan` has those as well.
    """
    disk = row.disk
    if disk.name.startswith(("loop", "ram", "zram", "nullb")) and not row.waits:
        return []
    names = f"  -  {wording.plain(disk.name)}  {disk.kind.caption} {wording.size(disk.size_bytes)}"
    reason = wording.plain(row.reason) or "no reason known"
    fate = "not yet" if row.waits else "left out"
    return wording.wrap(f"{names}: {fate}, {reason}", columns, " " * 9)


def _trouble(problem: Problem, title: str, columns: int, style: str) -> list[Line]:
    lines = wording.wrap(f"{title}: {wording.problem(problem)}", columns, "  ")
    result = [(line, style) for line in lines]
    hint = wording.plain(problem.hint).strip()
    if hint:
        result += [(line, PLAIN) for line in wording.wrap(f"  What to do: {hint}", columns, "    ")]
    return result


def _banner(columns: int) -> list[str]:
    width = min(columns, _BANNER_MAX)
    if width < len(SAFE) + 6:
        return wording.wrap(SAFE, width)
    return ["#" * width, "##" + SAFE.center(width - 4) + "##", "#" * width]


def _controller(status: Status) -> str:
    controller = status.controller
    if controller is None:
        return "USB controller: none in use"
    note = f" - {controller.note}" if controller.note else ""
    return f"USB controller {controller.name}: {wording.host(controller)}{note}"


def _table(disks: tuple[DiskStatus, ...], columns: int) -> list[str]:
    """Give the exported disks as a table, then those left out, each with its reason."""
    exported = sorted((row for row in disks if row.lun is not None), key=lun)
    lines = _grid(exported, columns) if exported else []
    for row in disks:
        lines += left_out(row, columns) if row.lun is None else []
    return lines


def lun(row: DiskStatus) -> int:
    """Give what exported disks are sorted by."""
    return row.lun if row.lun is not None else -1


def _grid(exported: list[DiskStatus], columns: int) -> list[str]:
    """Give the head and a line a disk. The model is shortened first, the state last."""
    titles = ["NO.", "NAME", "KIND", "MODEL", "SIZE", "RO", "STATE"]
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
    rows = [titles, *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    # Where there is room for it, the name under which the host's programs list a disk.
    names = ["ON THE HOST", *(wording.plain(row.inquiry).strip() for row in exported)]
    names_width = max(map(len, names))
    if any(names[1:]) and sum(widths) + names_width + 2 * len(widths) <= columns:
        for row, name in zip(rows, names, strict=True):
            row.insert(6, name)
        widths.insert(6, names_width)
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= columns else 1
    for column, least in ((3, 6), (1, 8)):
        excess = sum(widths) + gap * (len(widths) - 1) - columns
        widths[column] -= max(0, min(excess, widths[column] - least))
    return [grid_line(row, widths, " " * gap, columns, right=(0, 4)) for row in rows]


def grid_line(
    cells: list[str], widths: list[int], gap: str, columns: int, *, right: tuple[int, ...]
) -> str:
    """Give a line of a table, no wider than `columns`; `right` are the cells that hold numbers."""
    padded = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        cut = wording.clip(cell, width)
        padded.append(cut.rjust(width) if column in right else cut.ljust(width))
    return wording.clip(gap.join(padded).rstrip(), columns)
