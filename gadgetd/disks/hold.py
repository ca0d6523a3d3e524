"""A disk that is exported is held: nothing on the board may mount it, and fsync reaches it."""

from __future__ import annotations

import errno
import os

from gadgetd.child import Child
from gadgetd.disks.disk import Disk
from gadgetd.errors import DiskBusyError, GadgetdError


class Hold:
    """What keeps an exported disk from everyone else on the board, until `release`.

    `sync_fd` is a second, plain descriptor for fsync. A process that flushes through it may
    outlive the daemon without keeping the disk from the daemon's successor, and since it is open
    as long as the hold is, it learns of every write error in that time (source: errseq_t).
    """

    def __init__(self, exclusive_fd: int, sync_fd: int) -> None:
        self._exclusive_fd = exclusive_fd
        self.sync_fd = sync_fd

    def still(self, disk: Disk) -> bool:
        """Tell whether the disk is the one that is held, and not another with its name."""
        try:
            return os.path.samestat(os.fstat(self._exclusive_fd), disk.node.stat())
        except OSError:
            return False

    def lost_data(self) -> bool:
        """Tell whether the kernel failed to write what it still had in RAM for the disk.

        For a disk that has left. An fsync will not do, it also fails on a disk that was written
        completely, for that cannot empty its cache any more. An SD card's writes fail and tell
        (source: mmc_blk_remove, del_gendisk); of an NVMe disk's the kernel drops what it has not
        begun to write, and nothing tells (measured, docs/kernel.md). Source: sync_file_range(2).
        """
        import ctypes

        whole, everything = ctypes.c_int64(0), 0b111  # wait before, write, wait after
        return bool(ctypes.CDLL(None).sync_file_range(self.sync_fd, whole, whole, everything))

    def release(self) -> None:
        """Let go of the disk. Does no harm the second time."""
        if self.sync_fd >= 0:
            os.close(self._exclusive_fd)
            os.close(self.sync_fd)
            self.sync_fd = -1


def hold(disk: Disk) -> Hold:
    """Open the disk exclusively, so that the debug console cannot mount it meanwhile.

    The gadget does not claim the disk by itself. With the hold the kernel does not flush when the
    gadget closes the disk, so that is up to the holder.

    Raises DiskBusyError if the disk or a partition of it is mounted or in use, GadgetdError if it
    cannot be opened at all.
    Source: bd_prepare_to_claim in the kernel's block/bdev.c.
    """
    try:
        exclusive = os.open(disk.node, _access(disk) | os.O_EXCL | os.O_CLOEXEC)
        try:
            return Hold(exclusive, os.open(disk.node, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            os.close(exclusive)
            raise
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DiskBusyError(
                f"{disk.name} is in use on the board",
                hint="unmount it, and stop what holds it (swap, RAID, LVM)",
            ) from error
        raise GadgetdError(
            f"cannot open {disk.node}: {error.strerror}",
            hint="look for the disk in the kernel's log: dmesg",
        ) from error


def in_use(disk: Disk) -> bool:
    """Tell whether `hold` would be refused, without keeping anything open.

    Opens for reading alone: closing a writable descriptor makes udev look at the disk again.
    """
    try:
        os.close(os.open(disk.node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _access(disk: Disk) -> int:
    # The kernel refuses a writable open of a disk that is set read-only.
    return os.O_RDONLY if disk.read_only else os.O_RDWR


class Flush(Child):
    """An fsync under way, through a plain descriptor of the disk."""

    def __init__(self, fd: int) -> None:
        super().__init__(lambda: os.fsync(fd), fd)
