"""A host that resets the bus or sleeps has let go of nothing; what is in doubt stays in doubt."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gadgetd.configfs import NO_FILE
from gadgetd.daemon import TICK_S
from gadgetd.export.reconnect import LET_GO_S
from tests.unit.fakes import Bench, lives
from tests.unit.test_daemon import boot, host_ejects, host_writes

ALONE = {0: "mmcblk0"}


def test_a_lock_that_a_reset_has_cleared_is_no_leave_to_disconnect(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 2)
    assert bench.files() == ALONE
    # The kernel forgets the lock at a reset; see handle_exception in f_mass_storage.c.
    bench.lun(0).locked = False
    bench.host_state("not attached")
    bench.loop.run_for(TICK_S * 2)
    assert bench.files() == ALONE


def test_a_disk_that_is_excluded_while_the_host_has_it_open_keeps_the_word_back(
    bench: Bench,
) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "mmcblk0")
    bench.lun(0).locked = True
    bench.configure("exclude:\n  - name: mmcblk0\n")
    daemon.reload()
    bench.loop.run_for(5)
    assert bench.files()[0] == ""
    host_ejects(bench, 1)
    bench.loop.run_for(5)
    assert not daemon.status.safe_to_unplug


def test_a_stop_in_the_moment_of_a_reset_is_a_stop_under_a_host(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.lun(0).locked = True
    bench.host_state("not attached")
    bench.loop.run_for(0.1)
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert not daemon.status.safe_to_unplug


def test_the_kernels_log_is_not_filled_by_asking_for_locks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(bench, "mmcblk0", "nvme0n1")
    bench.lun(1).locked = True
    asked: list[float] = []
    write = bench.kernel.write

    def counting(path: Path, text: str) -> None:
        if text == NO_FILE and "lun.0" in str(path):
            asked.append(bench.clock())
        write(path, text)

    monkeypatch.setattr(bench.kernel, "write", counting)
    bench.add("nvme1n1")
    bench.loop.run_for(3600)
    assert len(asked) < 3


def test_a_host_that_sleeps_is_not_disconnected(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(5)
    bench.host_state("suspended")
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 2)
    assert bench.files() == ALONE


def test_the_sleep_of_a_host_is_no_silence_that_counts(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(5)
    bench.host_state("suspended")
    bench.loop.run_for(LET_GO_S * 2)
    bench.host_state("configured")
    bench.loop.settle()
    bench.add("nvme0n1")
    bench.loop.run_for(5)
    assert bench.files() == ALONE


def test_a_second_stop_forgets_no_failed_flush(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(5)
    assert lives(daemon) == {"mmcblk0": "write error"}
    rmdir = bench.kernel.rmdir

    def refusing(_path: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(bench.kernel, "rmdir", refusing)
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert daemon.shutdown.stop.error is not None
    monkeypatch.setattr(bench.kernel, "rmdir", rmdir)
    bench.flush_result = 0
    daemon.stop(lambda: None)  # SIGTERM
    bench.loop.settle()
    daemon = bench.daemon()
    assert lives(daemon) == {"mmcblk0": "write error"}
