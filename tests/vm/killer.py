"""Kills the daemon on the board again and again, at instants counted from its start.

Usage: python3 killer.py LOG SECONDS...   Each kill is a line in LOG, and `done` the last one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

COMMAND = b"/usr/bin/gadgetd\0run"
PAUSE_S = 0.01


def is_daemon(pid: int) -> bool:
    """Whether it is the daemon that init started: a session's leader, unlike its children."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        return COMMAND in words and os.getsid(pid) == pid
    except OSError:
        return False


def next_daemon(after: int) -> int:
    """Wait for a daemon that is not process `after`."""
    while True:
        pids = sorted((int(p) for p in os.listdir("/proc") if p.isdigit()), reverse=True)  # noqa: PTH208
        for pid in pids:
            if pid != after and is_daemon(pid):
                return pid
        time.sleep(PAUSE_S)


def main() -> None:
    """Kill as the command line says."""
    log, *delays = sys.argv[1:]
    pid = 0
    with Path(log).open("w", buffering=1) as file:
        for delay in map(float, delays):
            pid = next_daemon(pid)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            file.write(f"{pid} after {delay:.3f} s\n")
        file.write("done\n")


if __name__ == "__main__":
    main()
