"""I/O errors of disks, from the kernel's log: no sysfs file counts them for all kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_RECORD_BYTES = 8192
"""The kernel gives one record a read and refuses a buffer that is too small for it."""


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

    def io_errors(self) -> Iterator[str]:
        """Read all new messages and give a disk's kernel name for each I/O error among them.

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
            name = failed_disk(record.decode("utf-8", "replace"))
            if name:
                yield name


def failed_disk(record: str) -> str:
    """Give the disk that a log record reports an I/O error of; empty for any other record.

    A record is `level,number,time,flags;text`, and the text `I/O error, dev nvme0n1, sector 8 ...`
    (source: blk_print_req_error in the kernel's block/blk-mq.c; it names the whole disk).
    """
    text = record.partition(";")[2]
    _, found, rest = text.partition("error, dev ")
    return rest.partition(",")[0].strip() if found else ""
