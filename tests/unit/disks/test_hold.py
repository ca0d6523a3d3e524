"""The hold on an exported disk."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gadgetd.disks.disk import Disk, Kind
from gadgetd.disks.hold import Flush, Hold, hold, in_use
from gadgetd.errors import DiskBusyError, GadgetdError
from tests.unit.fakes import open_fds


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    node = tmp_path / "mmcblk0"
    node.write_bytes(b"")
    return Disk("mmcblk0", Kind.EMMC, node, 1 << 20)


class Opens:
    """Notes how a disk is opened, and refuses as the kernel would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: int) -> None:
        self.flags: list[int] = []
        self._answers = list(answers)
        self._open = os.open
        monkeypatch.setattr(os, "open", self)

    def __call__(self, path: Path, flags: int, mode: int = 0o777) -> int:
        self.flags.append(flags)
        answer = self._answers.pop(0) if self._answers else 0
        if answer:
            raise OSError(answer, os.strerror(answer), str(path))
        return self._open(path, flags, mode)


def test_a_disk_is_held_exclusively_and_closed_in_programs_we_start(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = Opens(monkeypatch)
    held = hold(disk)
    assert opens.flags == [
        os.O_RDWR | os.O_EXCL | os.O_CLOEXEC,
        os.O_RDONLY | os.O_CLOEXEC,
    ]
    held.release()


def test_a_read_only_disk_is_held_without_asking_to_write(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = Opens(monkeypatch)
    hold(disk._replace(read_only=True)).release()
    assert opens.flags[0] == os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC


def test_what_flushes_does_not_keep_the_disk_from_a_later_daemon(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = Opens(monkeypatch)
    held = hold(disk)
    os.fsync(held.sync_fd)
    assert not opens.flags[1] & os.O_EXCL
    held.release()


def test_a_disk_in_use_is_said_to_be_in_use(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    Opens(monkeypatch, errno.EBUSY)
    with pytest.raises(DiskBusyError, match="mmcblk0 is in use on the board") as caught:
        hold(disk)
    assert caught.value.hint == "unmount it, and stop what holds it (swap, RAID, LVM)"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENXIO, errno.ENOMEDIUM, errno.EIO])
def test_a_disk_that_cannot_be_opened_is_an_error_with_the_reason(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    Opens(monkeypatch, number)
    with pytest.raises(GadgetdError, match=os.strerror(number)) as caught:
        hold(disk)
    assert not isinstance(caught.value, DiskBusyError)
    assert "dmesg" in caught.value.hint


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EBUSY, errno.EMFILE])
def test_half_a_hold_is_let_go(disk: Disk, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    before = open_fds()
    Opens(monkeypatch, 0, number)
    with pytest.raises(GadgetdError):
        hold(disk)
    assert open_fds() == before


def test_letting_go_closes_everything_and_does_no_harm_twice(disk: Disk) -> None:
    before = open_fds()
    held = hold(disk)
    assert len(open_fds()) == len(before) + 2
    held.release()
    assert open_fds() == before
    other = os.open(disk.node, os.O_RDONLY)  # It gets a number that the hold once had.
    held.release()
    os.fstat(other)
    os.close(other)


def test_a_disk_that_has_gone_is_not_the_one_that_is_held(disk: Disk) -> None:
    held = hold(disk)
    assert held.still(disk)
    disk.node.unlink()
    assert held.still(disk) is False
    held.release()


def test_data_that_is_written_is_not_lost_and_what_the_kernel_cannot_tell_is() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"data")
        file.flush()
        assert Hold(-1, file.fileno()).lost_data() is False
    reader, writer = os.pipe()
    os.close(reader)
    assert Hold(-1, writer).lost_data() is True  # ESPIPE
    os.close(writer)


@pytest.mark.parametrize(("answer", "lost"), [(0, False), (-1, True)])
def test_all_of_a_disk_that_has_left_is_to_be_written_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, answer: int, lost: bool
) -> None:
    # That the kernel tells of an SD card's lost writes so is for the emulated board to show.
    asked: list[tuple[int, int, int, int]] = []

    def sync_file_range(fd: int, offset: ctypes.c_int64, size: ctypes.c_int64, flags: int) -> int:
        asked.append((fd, offset.value, size.value, flags))
        return answer

    libc = SimpleNamespace(sync_file_range=sync_file_range)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {None: libc}[name])
    assert Hold(-1, 7).lost_data() is lost
    # SYNC_FILE_RANGE_WAIT_BEFORE, WRITE and WAIT_AFTER; a size of 0 is up to the end.
    assert asked == [(7, 0, 0, 1 | 2 | 4)]


def test_the_first_descriptor_of_all_is_closed_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    held = Hold(5, 0)
    held.release()
    held.release()
    assert closed == [5, 0]


def test_looking_whether_a_disk_is_in_use_opens_it_for_reading_alone_and_keeps_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_fds()
    opens = Opens(monkeypatch)
    assert in_use(disk) is False
    assert opens.flags == [os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC]
    assert open_fds() == before


@pytest.mark.parametrize(("number", "expected"), [(errno.EBUSY, True), (errno.ENOMEDIUM, False)])
def test_a_disk_is_in_use_if_the_kernel_says_so(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, number: int, expected: bool
) -> None:
    Opens(monkeypatch, number)
    assert in_use(disk) is expected


# fsync beside the loop


def wait(flush: Flush) -> None:
    poll = select.poll()
    poll.register(flush.fileno(), select.POLLIN)
    assert poll.poll(10_000)


def test_an_fsync_that_is_over_says_so_on_its_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        file.write(b"x" * 4096)
        file.flush()
        flush = Flush(file.fileno())
        wait(flush)
        assert flush.result() == 0


def test_a_flush_leaves_no_descriptor_and_no_child_behind(tmp_path: Path) -> None:
    with (tmp_path / "disk").open("wb") as file:
        before = open_fds()
        flush = Flush(file.fileno())
        flush.result()
        assert open_fds() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_flush_that_cannot_be_watched_leaves_no_child_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with (tmp_path / "disk").open("wb") as file:
        before = open_fds()
        with pytest.raises(OSError, match="Too many"):
            Flush(file.fileno())
        assert open_fds() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_fsync_that_fails_gives_the_kernels_errno() -> None:
    reader, writer = os.pipe()
    flush = Flush(reader)  # A pipe cannot be synced.
    wait(flush)
    assert flush.result() == errno.EINVAL
    os.close(reader)
    os.close(writer)


def test_a_flush_that_is_killed_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(60))
    with (tmp_path / "disk").open("wb") as file:
        flush = Flush(file.fileno())
        os.kill(flush._pid, signal.SIGKILL)
        wait(flush)
        assert flush.result() != 0


def test_an_error_that_nobody_foresaw_is_a_failure_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(_: int) -> None:
        raise MemoryError

    monkeypatch.setattr(os, "fsync", explode)
    with (tmp_path / "disk").open("wb") as file:
        flush = Flush(file.fileno())
        wait(flush)
        assert flush.result() != 0


def test_a_flush_keeps_nothing_open_but_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A daemon that is killed meanwhile must find its lock and its disks free when it comes back.
    report = tmp_path / "report"
    syncing = os.fsync

    def tell(fd: int) -> None:
        # The one that lists the directory is closed again by now.
        listed = [name for name in open_fds() if int(name) > 2]
        open_now = [name for name in listed if Path(f"/proc/self/fd/{name}").exists()]
        report.write_text(" ".join(sorted(open_now)))
        syncing(fd)

    monkeypatch.setattr(os, "fsync", tell)
    others = [os.open(tmp_path, os.O_RDONLY) for _ in range(5)]
    disk = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    more = [os.open(tmp_path, os.O_RDONLY) for _ in range(5)]
    flush = Flush(disk)
    wait(flush)
    assert flush.result() == 0
    assert report.read_text() == str(disk)
    for fd in (*others, disk, *more):
        os.close(fd)


def test_sigterm_to_the_whole_group_ends_no_flush(tmp_path: Path) -> None:
    # As init does before it powers off, while the daemon's handlers are installed.
    code = textwrap.dedent("""
        import os, signal, sys, time
        from gadgetd.disks.hold import Flush
        from gadgetd.eventloop import Loop
        from gadgetd.eventloop import watch_signals
        os.setpgid(0, 0)
        watch_signals(Loop(), {signal.SIGTERM: lambda: None})
        syncing = os.fsync
        os.fsync = lambda fd: (time.sleep(0.2), syncing(fd))
        flush = Flush(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT))
        time.sleep(0.05)
        os.killpg(0, signal.SIGTERM)
        print(flush.result())
    """)
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "disk")],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert result.stdout == "0\n"
