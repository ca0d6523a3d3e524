"""I/O errors of disks, from the kernel's log: no sysfs file counts them for all kinds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from gadgetd.frozen import Frozen

_RECORD_BYTES = 8192
"""The kernel gives one record a read and refuses a buffer that is too small for it."""

# Compiled with the first record: a start need not wait for that.
_IO_ERROR = r"(?:\w+: )?[\w /-]+ error, dev ([^\s,]+), sector \d+(?: op \w+:\((\w+)\))?"


class IoError(Frozen):
    """What the kernel says of one command that failed."""

    disk: str
    """The whole disk's kernel name."""
    read_only: bool = False
    """It was to read: what was written is not in doubt for its sake."""


class KernelLog:
    """The kernel's log from now on. Without /dev/kmsg there is nothing to read and no error.

    Source: Documentation/ABI/testing/dev-kmsg.
    """

    def __init__(self, path: Path = Path("/dev/kmsg")) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self._fd = -1

    def fileno(self) -> int:
        """Give the descriptor that is readable when there are new messages; -1 without a log."""
        return self._fd

    def io_errors(self) -> Iterator[IoError]:
        """Read all new messages and give the I/O errors among them.

        The kernel limits how many it prints, so the count is a lower bound.
        """
        while self._fd >= 0:
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # Messages were overwritten before we came; the next read goes on.
            except OSError:
                return
            if not record:
                return
            error = parse(record.decode("utf-8", "replace"))
            if error is not None:
                yield error


def parse(record: str) -> IoError | None:
    """Give the I/O error that a log record reports; None for any other record.

    A record is `level,number,time,flags;text`, and the text begins with
    `I/O error, dev nvme0n1, sector 8 op 0x1:(WRITE)`, on older kernels after their function's
    name (source: blk_print_req_error in the kernel's block/blk-mq.c; it names the whole disk).
    What comes from a device, as a USB product's name does, has that driver's words before it.
    """
    match = re.match(_IO_ERROR, record.partition(";")[2])
    return IoError(match[1], read_only=match[2] == "READ") if match else None
