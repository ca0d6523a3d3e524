"""Throughput: what the host reads and writes, one disk and two at once, both sides in turns."""

from __future__ import annotations

import json
from typing import Any

from bench.boards import DISK, PYTHON, TOOLS, Booted, booted, options
from bench.row import Kind, Row, Target
from bench.sheet import Sheet
from bench.start import READY

AT_LEAST = Target(1.0, at_least=True)
LIMIT_S = 600
WAIT_S = 120
OPERATIONS_A_MIB = 16
KERNELS_OWN = {
    "dirty_background_ratio": 10,
    "dirty_ratio": 20,
    "dirty_expire_centisecs": 3000,
    "dirty_writeback_centisecs": 500,
}
"""What the peer runs with: Linux's defaults, which gadgetd changes."""
PREPARE_PEER = "".join(
    f"echo {value} >/proc/sys/vm/{name}\n" for name, value in KERNELS_OWN.items()
)
SCRIPT = 'disks="nvme0n1 nvme1n1" FLASH_S=0 {}/etc/init.d/S99gadget'
SIDES = {
    "gadgetd": ("gadgetd run >/dev/null 2>&1 & echo $! >/tmp/gadgetd.pid", None),
    "peer": (PREPARE_PEER + SCRIPT.format(""), "/etc/init.d/S99gadget undo"),
    "one function": (
        PREPARE_PEER + SCRIPT.format("ONE_FUNCTION=1 "),
        "/etc/init.d/S99gadget undo",
    ),
}
"""How each is started and taken down."""
STOP_GADGETD = """
read -r pid </tmp/gadgetd.pid
kill "$pid"
while [ -e "/proc/$pid" ]; do usleep 50000; done
rm -rf /run/gadgetd
"""

AT_WORK = "[ -S /run/gadgetd/control ]"
"""gadgetd gives the host its disks first and imports the rest then; the socket is the end of it."""

Rates = dict[str, float]


def measure(sheet: Sheet) -> None:
    """On one board, start each side in turns and have the host move data."""
    effort = sheet.effort
    # To tell one function from two apart is worth its time only in a whole run.
    sides = SIDES if effort.whole else {side: SIDES[side] for side in ("gadgetd", "peer")}
    found: dict[str, list[Rates]] = {side: [] for side in sides}
    # Both are NVMe: while QEMU writes to an SD card, the board's CPU waits.
    with booted(options(None, sd=None, nvme=(DISK, DISK))) as board:
        board.wait_until("[ -b /dev/nvme0n1 ] && [ -b /dev/nvme1n1 ]")
        board.wait_until(READY)
        for number in range(effort.transfers):
            for side in sides:
                sheet.say(f"round {number + 1} of {effort.transfers}: {side}")
                found[side].append(_transfers(board, side, effort.transfer_mib))

    def row(what: str, name: str, side: str, **more: Any) -> Row:
        unit = "MB/s" if "sequential" in name else "1/s"
        ours, theirs = (tuple(each[name] for each in found[s]) for s in (side, "peer"))
        return Row(f"{what}, {name}", unit, ours, theirs, **more)

    for name in found["gadgetd"][0]:
        sheet.add(row("throughput", name, "gadgetd", target=AT_LEAST))
    for name in found["gadgetd"][0]:
        if name.startswith("two") and effort.whole:
            sheet.add(row("one function instead of two", name, "one function", kind=Kind.IDEA))


def _transfers(board: Booted, side: str, mib: int) -> Rates:
    """One side's rates."""
    start, stop = SIDES[side]
    board.host.check(start)
    blocks = board.host.wait_for_blocks(2, WAIT_S)
    if side == "gadgetd":
        board.wait_until(AT_WORK)
    found: Rates = {}
    for name, devices in (
        ("one disk", blocks[:1]),
        ("two disks at once", blocks),
    ):
        names = " ".join(block.device for block in devices)
        said = board.host.check(
            f"{PYTHON} {TOOLS}/disks.py transfer {mib} {mib * OPERATIONS_A_MIB} {names}", LIMIT_S
        )
        found |= {f"{name}: {what}": rate for what, rate in json.loads(said).items()}
    board.host.check(stop or STOP_GADGETD, WAIT_S)
    board.host.wait_for_blocks(0, WAIT_S)
    return found
