"""Discards all of a disk: tells it that nothing on it is needed any more."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

from gadgetd import sysfs
from gadgetd.disks.disk import Disk
from gadgetd.disks.hold import Hold, hold
from gadgetd.errors import GadgetdError
from gadgetd.frozen import Frozen

STEP_BYTES = 256 << 20
"""What is discarded at once: often enough for a progress, seldom enough to cost nothing."""
SAMPLE_BYTES = 1 << 20

_BLKRRPART, _BLKDISCARD, _BLKSECDISCARD = 0x125F, 0x1277, 0x127D
"""_IO(0x12, 95), _IO(0x12, 119) and _IO(0x12, 125) of include/uapi/linux/fs.h."""


class Erased(Frozen):
    """What was done to a disk."""

    secure: bool
    """The medium was asked to erase the copies too that it made for itself."""
    took_s: float
    reads_as: str
    """What its first and last MiB read as now: `zeros`, `ones`, or `data`, which proves nothing."""


def erase(
    disk: Disk,
    progress: Callable[[int, int], None],
    *,
    hold: Callable[[Disk], Hold] = hold,
    control: Callable[[int, int, bytes], object] = ioctl,
    sys: Path = Path("/sys"),
) -> Erased:
    """Discard a whole disk, securely where it can; `progress` gets bytes done and to do.

    Nobody else on the board can use the disk meanwhile, the daemon neither. Raises DiskBusyError
    if somebody does already, GadgetdError if the disk cannot discard or fails at it.
    Source: blkdev_common_ioctl in the kernel's block/ioctl.c.
    """
    begin = time.monotonic()
    held = hold(disk)
    try:
        fd = os.open(disk.node, os.O_RDWR | os.O_CLOEXEC)
        try:
            secure = _discard_all(disk, fd, _step(disk, sys), progress, control)
            os.fsync(fd)
            reads_as = _reads_as(fd, disk.size_bytes)
        finally:
            os.close(fd)
    except OSError as error:
        raise GadgetdError(
            f"cannot erase {disk.name}: {error.strerror}; a part of it may be erased",
            hint="see the kernel's log: dmesg",
        ) from error
    finally:
        held.release()
    _forget_partitions(disk, control)
    return Erased(secure, time.monotonic() - begin, reads_as)


def _step(disk: Disk, sys: Path) -> int:
    """How much to discard at once: whole units of the medium, which leaves alone what is less.

    Source: mmc_align_erase_size in drivers/mmc/core/core.c.
    """
    unit = 0
    with suppress(OSError, ValueError):
        unit = int(sysfs.read(sys / "block" / disk.name / "queue" / "discard_granularity"))
    unit = max(unit, disk.block_size)
    return max(unit, STEP_BYTES // unit * unit)


def _discard_all(
    disk: Disk,
    fd: int,
    step: int,
    progress: Callable[[int, int], None],
    control: Callable[[int, int, bytes], object],
) -> bool:
    """Discard from the first byte to the last; tells whether it was done securely."""
    command, done = _BLKSECDISCARD, 0
    while done < disk.size_bytes:
        size = min(step, disk.size_bytes - done)
        try:
            control(fd, command, struct.pack("=QQ", done, size))
        except OSError as error:
            if done or error.errno != errno.EOPNOTSUPP:
                raise
            if command == _BLKDISCARD:
                raise GadgetdError(
                    f"{disk.name} cannot discard what is on it: nothing was changed",
                    hint=f"overwrite it: dd if=/dev/zero of={disk.node} bs=1M",
                ) from error
            command = _BLKDISCARD
            continue
        done += size
        progress(done, disk.size_bytes)
    return command == _BLKSECDISCARD


def _reads_as(fd: int, size_bytes: int) -> str:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # What RAM remembers proves nothing.
    found = set()
    for offset in (0, max(0, size_bytes - SAMPLE_BYTES)):
        found |= set(os.pread(fd, SAMPLE_BYTES, offset))
    return {frozenset((0,)): "zeros", frozenset((0xFF,)): "ones"}.get(frozenset(found), "data")


def _forget_partitions(disk: Disk, control: Callable[[int, int, bytes], object]) -> None:
    """Have the kernel read the partition table that is not there any more."""
    with suppress(OSError):
        fd = os.open(disk.node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            control(fd, _BLKRRPART, b"")
        finally:
            os.close(fd)
