"""The idle daemon: how often it wakes up, how much it computes, how much memory is its own.

It counts voluntary context switches: a wake-up on a real board is the same, only shorter. The
cable is a usbip-vudc's, which is really out before it is plugged in.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench.boards import GADGETD, PEER, Booted, booted, options
from bench.row import Judged, Kind, Row, Target
from bench.sheet import Sheet
from bench.text import number
from emulator import EmulatorError
from tests.vm import hostside

READY_S = 90
HOSTSIDE = "/usr/lib/hostside.py"
VUDC = "usbip-vudc.0"
DAEMON = "gadgetd*run"
"""How its command line looks to a shell."""
BOTH_IDLE = '[ "$(gadgetd status --json | grep -o \'"idle"\' | wc -l)" = 2 ]'
NO_HOST, HOST = "no host", "host attached"
WAKEUPS = {NO_HOST: Target(0.2, Judged.VALUE), HOST: Target(3.0, Judged.VALUE)}
"""Wake-ups a second."""
CPU = {NO_HOST: Target(0.1, Judged.VALUE), HOST: Target(1.5, Judged.VALUE)}
"""Per cent of one core."""
MEMORY = Target(12, Judged.VALUE)
"""MiB."""
COMPARED = {
    "a bare Python, for comparison": "pass",
    "a Python with pyudev, for comparison": "import pyudev",
}
STRETCHES = 3
"""An idle time is measured in so many parts, for a median and a spread."""
SAMPLE = r"""
for each in /proc/[0-9]*; do
    read -r line <$each/cmdline || :
    case $line in *gadgetd*run*) ;; *) continue;; esac
    while read -r name value; do
        [ "$name" = voluntary_ctxt_switches: ] && switches=$value
    done <$each/status
    # A kernel without schedstat, such as the image's, has it in hundredths of a second.
    read -r computed _ <$each/schedstat || {
        set -- $(cat $each/stat)
        computed=$(((${14} + ${15}) * 10000000))
    }
    echo "${each##*/} $switches $computed $(cat /proc/uptime)"
    break
done 2>/dev/null
"""
PSS_KIB = r"""
for each in /proc/[0-9]*; do
    read -r line <$each/cmdline || :
    case $line in *%s*) sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' $each/smaps_rollup;; esac
done 2>/dev/null
"""


@dataclass(frozen=True)
class Sample:
    """The daemon's counters at one moment."""

    pid: int
    switches: int
    computed_s: float
    uptime_s: float

    @classmethod
    def of(cls, said: str) -> Sample:
        """From what SAMPLE prints."""
        pid, switches, computed_ns, uptime, *_ = said.split()
        return cls(int(pid), int(switches), int(computed_ns) / 1e9, float(uptime))


def rates(before: Sample, after: Sample) -> tuple[float, float]:
    """Wake-ups a second, and per cent of a core, between two samples of one process."""
    if before.pid != after.pid:
        raise EmulatorError("the daemon has been started anew while it was measured")
    seconds = after.uptime_s - before.uptime_s
    switches = after.switches - before.switches
    return switches / seconds, 100 * (after.computed_s - before.computed_s) / seconds


def measure(sheet: Sheet) -> None:
    """Boot a board, and let it idle without a host and with one."""
    machine = options(
        GADGETD,
        udcs=0,
        hook="modprobe -a usbip-vudc vhci-hcd\n",
        files={HOSTSIDE: Path(hostside.__file__)},
    )
    with booted(machine) as board:
        board.uart.line.expect('"phase":"exported"', READY_S)
        # What was said last has been drawn, and all that has to be said about a missing host.
        board.uart.line.expect("no host: no USB cable", READY_S)
        _idle(sheet, board, NO_HOST)
        board.host.check(f"python3 -S -I {HOSTSIDE} plug {VUDC}")
        board.host.wait_for_blocks(2, READY_S)
        board.wait_until(BOTH_IDLE)
        _idle(sheet, board, HOST)
        memory = pss_mib(board, DAEMON)
    udevd = ""
    others: dict[str, float] = {}
    if sheet.effort.whole:
        with booted(options(PEER)) as board:
            board.wait_for_attached(2, READY_S)
            udevd = f"udevd: {number(pss_mib(board, 'udevd'))}"
            others = {name: _pss_of(board, code) for name, code in COMPARED.items()}
    sheet.add(
        Row("memory: PSS of the idle daemon", "MiB", (memory,), target=MEMORY, peer_says=udevd)
    )
    for name, size in others.items():
        sheet.add(Row(f"memory: PSS of {name}", "MiB", (size,), kind=Kind.DETAIL))


def _idle(sheet: Sheet, board: Booted, how: str) -> None:
    """Measure over times in which nothing happens."""
    wakeups, cpu = zip(*stretches(sheet, board, how), strict=True)
    sheet.add(Row(f"idle, {how}: wake-ups", "1/s", wakeups, target=WAKEUPS[how]))
    sheet.add(
        Row(
            f"idle, {how}: CPU on the emulated board",
            "%",
            cpu,
            target=CPU[how],
        )
    )


def stretches(sheet: Sheet, board: Booted, how: str) -> list[tuple[float, float]]:
    """Wake-ups a second and per cent of a core, in stretches in which nothing happens."""
    found = []
    sheet.say(f"idle, {how}: {STRETCHES} times {sheet.effort.idle_s / STRETCHES:.0f} s")
    for _ in range(STRETCHES):
        before = Sample.of(board.host.check(SAMPLE))
        time.sleep(sheet.effort.idle_s / STRETCHES)
        found.append(rates(before, Sample.of(board.host.check(SAMPLE))))
    return found


def _pss_of(board: Booted, code: str) -> float:
    """Memory of a Python that has imported something, the only Python on its board."""
    program = f"{code}; print('there', flush=True); import time; time.sleep({READY_S})"
    board.host.check(f'python3 -c "{program}" >/tmp/python & echo $! >/tmp/python.pid')
    board.wait_until("grep -q there /tmp/python")
    size = pss_mib(board, "time.sleep")
    board.host.check("kill $(cat /tmp/python.pid)")
    return size


def pss_mib(board: Booted, name: str) -> float:
    """Memory of all processes of that name, what is shared counted by its share."""
    said = board.host.check(PSS_KIB % name).split()
    return sum(map(int, said)) / 1024
