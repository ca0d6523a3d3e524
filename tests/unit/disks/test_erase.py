"""Discarding all of a disk: with which command, in which steps, and what is said when it fails."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from gadgetd.disks.disk import Disk, Kind
from gadgetd.disks.erase import STEP_BYTES, Erased, erase
from gadgetd.disks.hold import Hold
from gadgetd.errors import DiskBusyError, GadgetdError
from tests.unit.fakes import open_fds

MIB = 1 << 20
DISCARD, SECURE, REREAD = 0x1277, 0x127D, 0x125F


class Medium:
    """A file in the place of a disk, and what the kernel would answer to each ioctl."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        node = path / "nvme0n1"
        with node.open("wb") as file:
            file.write(b"secret")
            file.truncate(size_bytes)
        self.disk = Disk("nvme0n1", Kind.NVME, node, size_bytes)
        self.queue = path / "block" / "nvme0n1" / "queue"
        self.queue.mkdir(parents=True)
        self.sys = path
        self.errors: dict[int, int] = {}
        self.fails_at = -1
        self.keeps = False
        self.asked: list[tuple[int, int, int]] = []
        self.progress: list[int] = []

    def control(self, fd: int, command: int, argument: bytes) -> None:
        if command == REREAD:
            self.asked.append((command, 0, 0))
            return
        start, size = struct.unpack("=QQ", argument)
        self.asked.append((command, start, size))
        if command in self.errors:
            raise OSError(self.errors[command], os.strerror(self.errors[command]))
        if start == self.fails_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if start == 0 and not self.keeps:
            os.pwrite(fd, bytes(16), 0)

    def erase(self) -> Erased:
        return erase(
            self.disk,
            lambda done, _: self.progress.append(done),
            control=self.control,
            sys=self.sys,
        )


@pytest.fixture
def medium(tmp_path: Path) -> Medium:
    return Medium(tmp_path, 600 * MIB)


def test_a_disk_is_discarded_securely_where_it_can_from_end_to_end(medium: Medium) -> None:
    erased = medium.erase()
    assert erased.secure
    assert erased.reads_as == "zeros"
    assert medium.asked == [
        (SECURE, 0, STEP_BYTES),
        (SECURE, STEP_BYTES, STEP_BYTES),
        (SECURE, 2 * STEP_BYTES, 600 * MIB - 2 * STEP_BYTES),
        (REREAD, 0, 0),
    ]
    assert medium.progress == [STEP_BYTES, 2 * STEP_BYTES, 600 * MIB]


def test_a_disk_that_cannot_do_it_securely_is_discarded_plainly(medium: Medium) -> None:
    medium.errors[SECURE] = errno.EOPNOTSUPP
    assert not medium.erase().secure
    assert [command for command, _, _ in medium.asked] == [SECURE, *[DISCARD] * 3, REREAD]
    assert sum(size for command, _, size in medium.asked if command == DISCARD) == 600 * MIB


def test_a_disk_that_cannot_discard_at_all_says_what_to_do_instead(medium: Medium) -> None:
    medium.errors = {SECURE: errno.EOPNOTSUPP, DISCARD: errno.EOPNOTSUPP}
    before = open_fds()
    with pytest.raises(GadgetdError, match=r"cannot discard.*nothing was changed") as caught:
        medium.erase()
    assert "dd if=/dev/zero" in caught.value.hint
    assert open_fds() == before


def test_a_disk_that_fails_half_way_says_that_a_part_may_be_erased(medium: Medium) -> None:
    medium.fails_at = STEP_BYTES
    before = open_fds()
    with pytest.raises(GadgetdError, match="a part of it may be erased"):
        medium.erase()
    assert open_fds() == before


def test_a_step_is_a_whole_number_of_the_mediums_units(medium: Medium) -> None:
    (medium.queue / "discard_granularity").write_text(f"{96 * MIB}\n")
    medium.erase()
    assert [size for _, _, size in medium.asked[:-1]] == [192 * MIB, 192 * MIB, 192 * MIB, 24 * MIB]


def test_a_unit_that_is_larger_than_a_step_is_a_step(medium: Medium) -> None:
    (medium.queue / "discard_granularity").write_text(f"{512 * MIB}\n")
    medium.erase()
    assert medium.asked[0] == (SECURE, 0, 512 * MIB)


def test_data_that_can_still_be_read_is_told(medium: Medium) -> None:
    medium.keeps = True
    assert medium.erase().reads_as == "data"


def test_a_medium_of_ones_is_told(tmp_path: Path) -> None:
    medium = Medium(tmp_path, MIB)
    medium.disk.node.write_bytes(b"\xff" * MIB)
    medium.keeps = True
    assert medium.erase().reads_as == "ones"


def test_a_disk_in_use_is_not_touched(medium: Medium) -> None:
    def busy(_: Disk) -> Hold:
        raise DiskBusyError("nvme0n1 is in use on the board")

    with pytest.raises(DiskBusyError):
        erase(medium.disk, lambda *_: None, hold=busy, control=medium.control)
    assert medium.asked == []
