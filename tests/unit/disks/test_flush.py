"""fsync beside the loop."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gadgetd.disks.flush import Flush
from tests.unit.fakes import open_fds


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
        from gadgetd.disks.flush import Flush
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
