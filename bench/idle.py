"""How often the idle daemon wakes up, with a host attached and with none. Run: make bench-idle.

It counts the daemon's voluntary context switches on an emulated board; a wake-up on a real one is
the same, only shorter. The cable is a usbip-vudc's, which is really out before it is plugged in.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from emulator import Drive, HostShell, Machine, MachineOptions, UartShell
from tests.vm import hostside

MIB = 1 << 20
BOOT_S, READY_S = 180, 60
HOSTSIDE = "/usr/lib/hostside.py"
VUDC = "usbip-vudc.0"
LIMITS = {"no host": 0.2, "a host attached": 3.0}
"""Wake-ups a second at most."""
COUNT = r"""
for each in /proc/[0-9]*; do
    read -r line <$each/cmdline || :
    case $line in *gadgetd*run*) ;; *) continue;; esac
    while read -r name value; do
        [ "$name" = voluntary_ctxt_switches: ] && echo "${each##*/} $value $(cat /proc/uptime)"
    done <$each/status
    break
done 2>/dev/null
"""


def main() -> int:
    """Boot a board, measure twice, print, and return 1 if it woke up too often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long each time (60)")
    seconds = parser.parse_args().seconds
    options = MachineOptions(
        sd=Drive(64 * MIB),
        nvme=(Drive(64 * MIB),),
        udcs=0,
        hook="modprobe -a usbip-vudc vhci-hcd\n",
        files={HOSTSIDE: Path(hostside.__file__)},
    )
    with Machine(options) as machine:
        uart, host = UartShell(machine.uart_path), HostShell(machine.host_path)
        machine.go()
        uart.line.expect('"phase":"exported"', BOOT_S)
        found = {}
        # What was said last has been drawn, and all that has to be said about a missing host.
        uart.line.expect("no host: no USB cable", READY_S)
        found["no host"] = measure(host, seconds)
        host.check(f"python3 -S -I {HOSTSIDE} plug {VUDC}")
        host.wait_for_blocks(2, READY_S)
        wait_for(lambda: host.check("gadgetd status --json").count('"idle"') == 2)
        found["a host attached"] = measure(host, seconds)
        uart.close()
        host.close()
    worst = 0
    for name, rate in found.items():
        over = rate > LIMITS[name]
        worst |= over
        verdict = "TOO MANY" if over else "good"
        print(f"{name:16} {rate:5.2f} wake-ups/s  (at most {LIMITS[name]:g})  {verdict}")
    return int(worst)


def measure(host: HostShell, seconds: float) -> float:
    """Wake-ups a second of the daemon, over so many seconds in which nothing happens."""
    pid, before, begin = sample(host)
    time.sleep(seconds)
    again, after, end = sample(host)
    if pid != again:
        raise SystemExit("the daemon has been started anew meanwhile")
    return (after - before) / (end - begin)


def sample(host: HostShell) -> tuple[int, int, float]:
    """The daemon's process, its wake-ups so far and the board's uptime in seconds."""
    pid, count, uptime, *_ = host.check(COUNT).split()
    return int(pid), int(count), float(uptime)


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask again and again until it is so; ends the program after READY_S."""
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the board does not become idle")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
