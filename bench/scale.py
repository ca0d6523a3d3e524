"""Scale: the start with more and more disks."""

from __future__ import annotations

from bench.boards import NO_HOST, booted, options
from bench.row import Judged, Kind, Row, Target, slope
from bench.sheet import Sheet
from bench.start import OURS, run
from emulator.options import MIB

AT_MOST = Target(15, Judged.VALUE)
"""Milliseconds of the daemon's own for each disk more."""
SIZE = 64 * MIB
CONTROLLER = ("-device", "nvme,id=many,serial=MANY")


def measure(sheet: Sheet) -> None:
    """Start the daemon on boards with one NVMe controller of so many namespaces."""
    wall: list[tuple[int, tuple[float, ...]]] = []
    cpu: list[tuple[int, tuple[float, ...]]] = []
    for count in sheet.effort.disks:
        arguments = [*CONTROLLER]
        for number in range(1, count + 1):
            arguments += ["-drive", f"if=none,id=n{number},driver=null-co,size={SIZE}"]
            arguments += ["-device", f"nvme-ns,bus=many,drive=n{number},nsid={number}"]
        machine = options(
            None, sd=None, nvme=(), udcs=0, hook=NO_HOST, qemu_arguments=tuple(arguments)
        )
        with booted(machine) as board:
            board.wait_until(f"[ -b /dev/nvme0n{count} ]")
            rounds = run(board, (OURS,), sheet.effort.rounds, count)
        wall.append((count, tuple(each[OURS.name][0] for each in rounds)))
        cpu.append((count, tuple(each[OURS.name][1] for each in rounds)))
        disks = f"{count} disk{'' if count == 1 else 's'}"
        sheet.add(Row(f"scale: start with {disks}", "s", wall[-1][1], kind=Kind.DETAIL))
    for name, points, target in (
        ("scale: the daemon's CPU time for a disk more", cpu, AT_MOST),
        ("scale: start, time for a disk more", wall, None),
    ):
        # A slope for each round, so that there is a spread.
        each_round = (
            tuple((count, values[index]) for count, values in points)
            for index in range(sheet.effort.rounds)
        )
        slopes = tuple(1000 * slope(line) for line in each_round)
        kind = Kind.FIGURE if target else Kind.DETAIL
        sheet.add(Row(name, "ms", slopes, target=target, kind=kind))
    sheet.pictures["scale"] = [[count, *values] for count, values in wall]
