"""Boot: from init's first instruction to both disks usable on the host; the sides take turns."""

from __future__ import annotations

import re
from statistics import median
from typing import NamedTuple

from bench import kmsg
from bench.boards import GADGETD, PEER, Booted, booted, options
from bench.row import Kind, Row, Target
from bench.sheet import Sheet
from emulator import EmulatorError, MachineOptions

AT_MOST = Target(0.5)
MISSED_S = 60
"""After the peer has looked for disks it never looks again."""
STARTED = r"""
for each in /proc/[0-9]*; do
    read -r line <$each/cmdline || :
    case $line in *gadgetd*run*) cut -d' ' -f22 $each/stat; break;; esac
done 2>/dev/null
"""
TICKS = 100
"""A second, in /proc/PID/stat (source: proc(5), sysconf(_SC_CLK_TCK))."""
EXPORTED = re.compile(r"^\[ *([\d.]+)\] \d+ disks? exported", re.MULTILINE)


class Phase(NamedTuple):
    """A part of a boot."""

    name: str
    seconds: float


class Boot(NamedTuple):
    """A boot: when both disks were usable after init began, and what the time went to."""

    usable_s: float
    told_s: float  # the peer's LED has stopped flashing; 0 for gadgetd
    phases: list[Phase]


def measure(sheet: Sheet) -> None:
    """Boot both sides in turns. A pair counts only if both boots came to their end."""
    boots: dict[str, list[Boot]] = {GADGETD: [], PEER: []}
    left_out: list[str] = []
    for pair in range(1, sheet.effort.pairs + 1):
        both: dict[str, Boot] = {}
        for side in boots:
            try:
                both[side] = boot(side, options(side))
            except EmulatorError as error:
                left_out.append(f"{side} in pair {pair}: {error.message.partition(chr(10))[0]}")
                sheet.say(f"left out: {left_out[-1]}")
                break
            sheet.say(f"pair {pair} of {sheet.effort.pairs}: {side} {both[side].usable_s:.2f} s")
        else:
            for side, each in both.items():
                boots[side].append(each)
    if not boots[PEER]:
        raise EmulatorError("no pair of boots came to its end")
    ours, theirs = boots[GADGETD], boots[PEER]
    sheet.add(
        Row(
            "boot: init → both disks usable on the host",
            "s",
            tuple(each.usable_s for each in ours),
            tuple(each.usable_s for each in theirs),
            AT_MOST,
            note=f"left out: {'; '.join(left_out)}" if left_out else "",
        )
    )
    sheet.add(
        Row(
            "boot: init → disks usable, or the peer's LED done if that is later",
            "s",
            tuple(each.usable_s for each in ours),
            tuple(max(each.usable_s, each.told_s) for each in theirs),
            kind=Kind.DETAIL,
        )
    )
    sheet.pictures["boot"] = {
        side: [
            [phase.name, round(median(b.phases[index].seconds for b in boots[side]), 3)]
            for index, phase in enumerate(boots[side][0].phases)
        ]
        for side in boots
    }


def boot(side: str, machine: MachineOptions) -> Boot:
    """Boot once. Raises EmulatorError if the host never sees both disks, or the board hangs."""
    with booted(machine) as board:
        if not board.wait_for_attached(2, MISSED_S):
            raise EmulatorError(f"the host has not seen two disks in {MISSED_S} s")
        return (_of_gadgetd if side == GADGETD else _of_peer)(board)


def _of_gadgetd(board: Booted) -> Boot:
    """The boot of a board that runs gadgetd."""
    log = board.log()
    init, usable = kmsg.first(log, kmsg.INIT), kmsg.last(log, kmsg.ATTACHED, 2)
    board.uart.line.expect('"phase":"exported"', MISSED_S)
    started = int(board.host.check(STARTED)) / TICKS
    exported = EXPORTED.search(board.host.check("gadgetd log"))
    if exported is None:
        raise EmulatorError("gadgetd's log does not say that disks are exported")
    there, found = kmsg.last(log, kmsg.DISK_THERE, 2), kmsg.first(log, kmsg.FOUND_BY_HOST)
    # Our own log tells when the word was said, which is a little after the bind; the host takes
    # a tenth of a second to notice that, so the bind lies before `found` in any case.
    bound = min(float(exported[1]), found)
    return Boot(
        usable - init,
        0,
        [
            Phase("file systems", started - init),
            Phase("gadgetd, until the last disk is there", max(0.0, min(there, bound) - started)),
            Phase(
                "gadgetd, with disks there, until bound", bound - max(started, min(there, bound))
            ),
            Phase("host finds the device", found - bound),
            Phase("host reads the disks", usable - found),
        ],
    )


def _of_peer(board: Booted) -> Boot:
    """The boot of a board that runs the peer."""
    board.wait_until(f"dmesg | grep -q '{kmsg.LED_DONE}'")
    log = board.log()
    init, usable = kmsg.first(log, kmsg.INIT), kmsg.last(log, kmsg.ATTACHED, 2)
    udev, settled = kmsg.first(log, kmsg.UDEV_BEGINS), kmsg.first(log, kmsg.UDEV_SETTLED)
    found = kmsg.first(log, kmsg.FOUND_BY_HOST)
    return Boot(
        usable - init,
        kmsg.first(log, kmsg.LED_DONE) - init,
        [
            Phase("file systems", udev - init),
            Phase("udevd, coldplug and settle", settled - udev),
            Phase("script, until the host finds the device", found - settled),
            Phase("host reads the disks", usable - found),
        ],
    )
