"""Times starts on the board, in turns: each round starts every program once. Reads JSON on stdin.

A program is timed from just before its exec to the uevent of a USB device controller that a gadget
was bound to, or to its end. Prints a JSON list of rounds: name -> [seconds, CPU seconds, disks].
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, TypedDict

NETLINK_KOBJECT_UEVENT = 15
"""Source: include/uapi/linux/netlink.h; group 1 is what the kernel itself says."""
GADGETS = Path("/sys/kernel/config/usb_gadget")
LIMIT_S = 60


class Program(TypedDict):
    """A program to be timed."""

    name: str
    command: list[str]
    environment: dict[str, str]
    until: str  # "bound" or "end"
    before: str  # shell commands, not timed
    after: str


class Start(NamedTuple):
    """How long a start took, how much of that its process computed, and what it exported."""

    wall_s: float
    cpu_s: float
    disks: int


def main() -> None:
    """Do what stdin says: {"rounds": N, "programs": [...]}."""
    asked = json.load(sys.stdin)
    programs = asked["programs"]
    rounds = [{each["name"]: start(each) for each in programs} for _ in range(asked["rounds"])]
    print(json.dumps(rounds))


def start(program: Program) -> Start:
    """Start a program once, time it, and take it down again."""
    shell(program["before"])
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as uevents:
        uevents.bind((0, 1))
        environment = {**os.environ, **program["environment"]}
        begin = time.monotonic()
        pid = os.posix_spawn(program["command"][0], program["command"], environment)
        if program["until"] == "bound":
            wait_until_bound(uevents)
            wall_s, cpu_s = time.monotonic() - begin, computed_s(pid)
            disks = exported()
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        else:
            disks = 0
            _, status, used = os.wait4(pid, 0)
            wall_s, cpu_s = time.monotonic() - begin, used.ru_utime + used.ru_stime
            if status:
                raise SystemExit(f"{program['name']} ended with status {status}")
    shell(program["after"])
    return Start(wall_s, cpu_s, disks)


def wait_until_bound(uevents: socket.socket) -> None:
    """Wait for the uevent of a controller that has been given a driver."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if not select.select([uevents], (), (), 1)[0]:
            continue
        event = uevents.recv(1 << 16).split(b"\0")
        if b"SUBSYSTEM=udc" in event and any(e.startswith(b"USB_UDC_DRIVER=") for e in event):
            return
    raise SystemExit(f"no gadget was bound in {LIMIT_S} s")


def exported() -> int:
    """How many LUNs have a disk."""
    files = GADGETS.glob("*/functions/*/lun.*/file")
    return sum(bool(file.read_text().strip()) for file in files)


def computed_s(pid: int) -> float:
    """CPU seconds of a running process (source: the kernel's Documentation/scheduler)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def shell(commands: str) -> None:
    """Run shell commands, which have to succeed."""
    if commands:
        subprocess.run(["/bin/sh", "-ec", commands], check=True)


if __name__ == "__main__":
    main()
