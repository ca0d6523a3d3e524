"""I/O errors in the kernel's log."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.disks.kernel_log import IoError, KernelLog, parse
from tests.unit.fakes import FakeLog

READ_SDA, READ_CARD = IoError("sda", read_only=True), IoError("mmcblk0", read_only=True)


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (
            "3,1234,5678901,-;I/O error, dev nvme0n1, sector 2048 op 0x1:(WRITE) flags 0x0\n",
            IoError("nvme0n1"),
        ),
        (
            "3,1,2,-;blk_update_request: I/O error, dev sda, sector 8 op 0x0:(READ)\n",
            READ_SDA,
        ),
        (
            "2,1,2,-;critical medium error, dev mmcblk0, sector 8 op 0x0:(READ)\n",
            READ_CARD,
        ),
        ("3,1,2,-;Buffer I/O error on dev sda1, logical block 0, async page read\n", None),
        ("6,1,2,-;usb 1-1: new high-speed USB device number 2\n", None),
        ("", None),
        ("3,1,2,-;critical target error, dev sdb, sector 8 op 0x9:(WRITE_ZEROES)", IoError("sdb")),
        # What a device calls itself is no error of a disk.
        ("6,1,2,-;usb 1-1: Product: I/O error, dev mmcblk0, sector 8 op 0x1:(WRITE)", None),
        ("5,1,2,-;scsi 0:0:0:0: Direct-Access     I/O error, dev mmcblk0, sector 8", None),
        ("6,1,2,-;I/O error, dev mmcblk0", None),
        ("no semicolon: I/O error, dev sda, sector 8", None),
    ],
)
def test_the_disk_of_an_io_error_is_read_from_the_record(
    record: str, error: IoError | None
) -> None:
    assert parse(record) == error


@given(st.text())
def test_no_record_is_an_error(record: str) -> None:
    parse(record)


def test_only_what_is_said_from_now_on_counts(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("3,1,2,-;I/O error, dev sda, sector 8\n")
    log = KernelLog(path)
    assert list(log.io_errors()) == []
    with path.open("a") as file:
        file.write("3,1,2,-;I/O error, dev sdb, sector 8\n")
    assert list(log.io_errors()) == [IoError("sdb")]
    os.close(log.fileno())


def test_without_a_log_there_is_nothing_to_read(tmp_path: Path) -> None:
    log = KernelLog(tmp_path / "missing")
    assert log.fileno() == -1
    assert list(log.io_errors()) == []


def test_each_record_is_read_once_and_an_empty_log_is_left_alone() -> None:
    log = FakeLog()
    log.say("I/O error, dev sda, sector 8")
    assert list(log.io_errors()) == [IoError("sda")]
    assert list(log.io_errors()) == []
    log.close()


def test_messages_that_were_overwritten_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FakeLog()
    answers: list[bytes | OSError] = [
        BrokenPipeError(errno.EPIPE, ""),
        b"3,1,2,-;I/O error, dev sda, sector 8",
        BlockingIOError(errno.EAGAIN, ""),
    ]

    def read(*_: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        assert list(log.io_errors()) == [IoError("sda")]
    log.close()
