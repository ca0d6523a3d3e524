"""What the host does to disks, timed. Runs on the emulated board; prints JSON.

Usage: disks.py transfer MIB OPERATIONS DEVICE...   MB/s and operations/s, all disks at once
       disks.py fill BYTES DEVICE                   writes, and says how long the longest took

Past the host's cache (O_DIRECT): all that is cached is on the board's side.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIB = 1 << 20
SMALL = 4096
SLOW_BLOCK = 1_000_000 // SMALL * SMALL
SEED = 1


class Disk:
    """A disk of the host's."""

    def __init__(self, device: str) -> None:
        self.fd = os.open(device, os.O_RDWR | os.O_DIRECT)
        self.large = mmap.mmap(-1, MIB)
        self.small = mmap.mmap(-1, SMALL)
        self.large[:] = os.urandom(MIB)
        self.small[:] = os.urandom(SMALL)

    def write(self, mib: int) -> None:
        """Write from the beginning, and flush."""
        for index in range(mib):
            os.pwrite(self.fd, self.large, index * MIB)
        os.fsync(self.fd)

    def read(self, mib: int) -> None:
        """Read from the beginning."""
        for index in range(mib):
            os.preadv(self.fd, [self.large], index * MIB)

    def small_writes(self, count: int, mib: int) -> None:
        """Write 4 KiB here and there, and flush."""
        for offset in places(count, mib):
            os.pwrite(self.fd, self.small, offset)
        os.fsync(self.fd)

    def small_reads(self, count: int, mib: int) -> None:
        """Read 4 KiB here and there."""
        for offset in places(count, mib):
            os.preadv(self.fd, [self.small], offset)


def places(count: int, mib: int) -> list[int]:
    """So many places within the first MiB, the same every time."""
    chance = random.Random(SEED)
    return [chance.randrange(mib * MIB // SMALL) * SMALL for _ in range(count)]


def transfer(mib: int, count: int, devices: list[str]) -> dict[str, float]:
    """Rates of all the disks together: MB/s, and operations a second of the random ones."""
    disks = [Disk(device) for device in devices]
    million = len(disks) * mib * MIB / 1e6
    return {
        "sequential write": million / timed(disks, lambda disk: disk.write(mib)),
        "sequential read": million / timed(disks, lambda disk: disk.read(mib)),
        "4 KiB random write": len(disks)
        * count
        / timed(disks, lambda disk: disk.small_writes(count, mib)),
        "4 KiB random read": len(disks)
        * count
        / timed(disks, lambda disk: disk.small_reads(count, mib)),
    }


def timed(disks: list[Disk], work: Callable[[Disk], None]) -> float:
    """Seconds until all disks are done, each with a thread; the board's cache is empty before."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    with ThreadPoolExecutor(len(disks)) as threads:
        begin = time.monotonic()
        list(threads.map(work, disks))  # which raises what a thread has raised
        return time.monotonic() - begin


def fill(size: int, device: str) -> dict[str, object]:
    """Write so many bytes and flush; tells the longest wait, or where it ended and why."""
    fd = os.open(device, os.O_RDWR | os.O_DIRECT)
    block = mmap.mmap(-1, SLOW_BLOCK)
    begin = time.monotonic()
    stall_s, written, error = 0.0, 0, ""
    begin_flush = None
    try:
        while written < size:
            block[:] = os.urandom(SLOW_BLOCK)
            before = time.monotonic()
            try:
                written += os.pwrite(fd, block, written)
            finally:
                stall_s = max(stall_s, time.monotonic() - before)
        begin_flush = time.monotonic()
        os.fsync(fd)
    except OSError as failed:
        error = str(failed)
    end = time.monotonic()
    return {
        "write_s": (begin_flush or end) - begin,
        "stall_s": stall_s,
        "flush_s": end - begin_flush if begin_flush else None,
        "written": written,
        "error": error,
    }


if __name__ == "__main__":
    what, *more = sys.argv[1:]
    if what == "transfer":
        print(json.dumps(transfer(int(more[0]), int(more[1]), more[2:])))
    else:
        print(json.dumps(fill(int(more[0]), more[1])))
