"""A disk that lost data is taken from the host at once, so that the host hears of it."""

from __future__ import annotations

import errno
from itertools import pairwise
from pathlib import Path

import pytest

from gadgetd.daemon import Daemon
from gadgetd.disks.disk import Pending
from gadgetd.export.drive import QUIET_S
from gadgetd.export.drives import TICK_S
from gadgetd.export.reconnect import LET_GO_S
from gadgetd.led import ERROR, pattern_for
from gadgetd.show import sign
from gadgetd.show.events import events
from gadgetd.show.sign import sign_of
from gadgetd.status import to_json
from tests.unit.fakes import MIB, Bench, lives
from tests.unit.test_daemon import (
    READ_ERROR,
    REFUSED,
    WRITE_ERROR,
    advice,
    boot,
    hints,
    host_ejects,
    host_writes,
)


def fails(bench: Bench, *, times: int = 1) -> None:
    """Have the kernel lose data of the NVMe disk, and its fsync tell so."""
    bench.flush_result = errno.EIO
    for _ in range(times):
        bench.log.say(WRITE_ERROR)
        bench.loop.settle()


def refused(daemon: Daemon) -> bool:
    return REFUSED in advice(daemon)


def test_it_is_taken_and_told_before_any_time_has_passed(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.lun(1).locked = True
    before = bench.clock()
    fails(bench)
    assert bench.files() == {0: "mmcblk0", 1: ""}
    assert bench.clock() - before < 0.1
    assert refused(daemon)
    assert "gadgetd insert nvme0n1" in hints(daemon)
    bench.loop.run_for(5)
    assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "write error"}
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    assert not daemon.status.safe_to_unplug


def test_it_is_taken_before_what_else_has_happened_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    files: list[dict[int, str]] = []

    def pending() -> tuple[Pending, ...]:
        files.append(bench.files())
        return ()

    monkeypatch.setattr(daemon._scan, "pending", pending)
    bench.flush_result = errno.EIO
    bench.scan.announce()
    bench.log.say(WRITE_ERROR)
    bench.loop.settle()
    assert files[0] == {0: "mmcblk0", 1: ""}


def test_a_burst_of_errors_is_one_event(bench: Bench) -> None:
    boot(bench, "nvme0n1")
    host_writes(bench, "nvme0n1")
    before = len(bench.panel.statuses) - 1
    fails(bench, times=120)
    bench.loop.run_for(10)
    told = [
        event.text
        for old, new in pairwise(bench.panel.statuses[before:])
        for event in events(old, new)
        if event.fields["event"] == "advice" and "nvme0n1" in event.text
    ]
    assert len(told) == 1
    assert told[0].startswith(REFUSED)


def test_a_read_error_takes_nothing_for_the_host_hears_of_it_itself(bench: Bench) -> None:
    boot(bench, "nvme0n1")
    bench.log.say(READ_ERROR)
    bench.loop.run_for(5)
    assert bench.files() == {0: "nvme0n1"}


def test_it_is_taken_if_its_flush_fails_though_the_log_says_nothing(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.flush_result = errno.EIO
    host_writes(bench, "nvme0n1")
    bench.loop.run_for(QUIET_S * 2)
    assert bench.files() == {0: "mmcblk0", 1: ""}
    assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "write error"}
    assert refused(daemon)
    bench.flush_result = 0
    daemon = bench.daemon()
    bench.loop.run_for(5)
    assert bench.files() == {0: "mmcblk0", 1: ""}
    daemon.by_hand.insert(daemon.drives[1])
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_a_flush_that_fails_since_the_disk_is_pulled_refuses_nothing(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    bench.flush_result = None
    host_writes(bench, "nvme0n1")
    bench.loop.run_for(QUIET_S * 2)
    bench.remove("nvme0n1")
    bench.scan.drain()  # Its uevent comes later.
    bench.flushes[-1].finish(errno.EIO)
    bench.loop.settle()
    assert not refused(daemon)


def test_an_fsync_that_says_all_is_well_is_not_believed(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    bench.log.say(WRITE_ERROR)
    bench.loop.run_for(5)
    assert lives(daemon) == {"nvme0n1": "write error"}
    assert not daemon.status.safe_to_unplug


def test_a_disk_that_the_kernel_leaves_with_the_host_is_an_error_for_people_too(
    bench: Bench,
) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    del bench.lun(1).attributes["forced_eject"]  # It came with Linux 6.0.
    bench.log.say(WRITE_ERROR)
    bench.loop.run_for(10)
    # Its own flush, which finds nothing left to write, is not believed.
    assert (bench.files()[1], lives(daemon)["nvme0n1"]) == ("nvme0n1", "flushed")
    assert sign_of(daemon.status) is sign.ERROR
    assert pattern_for(daemon.status) is ERROR
    assert [row["data_lost"] for row in to_json(daemon.status)["disks"]] == [False, True]
    daemon.stop(lambda: None)
    bench.loop.settle()
    daemon.resume()
    bench.loop.settle()
    assert sign_of(daemon.status) is sign.READY


def test_a_disk_that_left_with_data_is_an_error_though_another_goes_on(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.remove("nvme0n1")
    bench.loop.run_for(10)
    assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "gone"}
    assert sign_of(daemon.status) is sign.ERROR
    assert pattern_for(daemon.status) is ERROR


def test_a_person_can_try_it_once_more_and_it_is_taken_again(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    fails(bench)
    bench.loop.run_for(5)
    bench.flush_result = 0
    daemon.by_hand.insert(daemon.drives[0])
    bench.loop.run_for(5)
    assert bench.files() == {0: "nvme0n1"}
    assert not refused(daemon)
    fails(bench)
    assert bench.files() == {0: ""}
    assert refused(daemon)


@pytest.mark.parametrize("away_s", [0.2, 60])
def test_no_host_gets_it_back_unasked(bench: Bench, away_s: float) -> None:
    daemon = boot(bench, "nvme0n1")
    fails(bench)
    bench.loop.run_for(5)
    bench.unplug()
    bench.loop.run_for(away_s)
    bench.plug()
    bench.loop.run_for(LET_GO_S)
    assert bench.files() == {0: ""}
    assert lives(daemon) == {"nvme0n1": "write error"}


@pytest.mark.parametrize("in_order", [True, False])
def test_it_stays_out_though_the_daemon_ends(bench: Bench, in_order: bool) -> None:
    daemon = boot(bench, "nvme0n1")
    fails(bench)
    for _ in range(2):
        if in_order:
            daemon.stop(lambda: None)
            bench.loop.settle()
        daemon = bench.daemon()
        bench.loop.run_for(5)
        assert bench.files() == {0: ""}
        assert lives(daemon) == {"nvme0n1": "write error"}
        assert refused(daemon)
    daemon.by_hand.insert(daemon.drives[0])
    bench.loop.run_for(5)
    assert bench.files() == {0: "nvme0n1"}


def test_stop_and_start_give_it_back(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    fails(bench)
    daemon.stop(lambda: None)
    bench.loop.settle()
    daemon.resume()
    bench.loop.settle()
    assert bench.files() == {0: "nvme0n1"}


def test_what_is_lost_is_written_down_before_the_disk_is_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(bench, "nvme0n1")
    written: list[str] = []
    apart = bench.kernel.write_apart

    def noting(path: Path, text: str, wait_s: float = 0) -> None:
        written.append(bench.numbers.read_text())
        apart(path, text, wait_s)

    monkeypatch.setattr(bench.kernel, "write_apart", noting)
    fails(bench)
    assert "failed" in written[0]


def test_what_the_log_tells_while_a_flush_fails_is_counted_once(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    bench.flush_result = None
    host_writes(bench, "nvme0n1")
    bench.loop.run_for(QUIET_S + TICK_S)
    # Between the loop's look at the log and the flush's end.
    bench.log.say(WRITE_ERROR)
    bench.flushes[-1].finish(errno.EIO)
    daemon._flushing._end(daemon.drives[0], bench.flushes[-1].fileno())
    assert daemon.drives[0].io_errors == 1


class TestACommandThatDoesNotEnd:
    """The gadget's thread is busy, and all that asks of a LUN what is in it would wait for it."""

    def test_the_disk_is_taken_as_soon_as_it_ends_and_nobody_waits(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        host_writes(bench, "nvme0n1")
        bench.kernel.thread_busy = True
        fails(bench)
        assert refused(daemon)
        bench.flush_result = 0
        bench.traffic("mmcblk0", written=MIB)
        bench.loop.run_for(60)
        assert refused(daemon)
        assert daemon.status.phase == "exported"
        bench.kernel.thread_goes_on()
        bench.loop.run_for(10)
        assert bench.files() == {0: "mmcblk0", 1: ""}
        assert lives(daemon)["nvme0n1"] == "write error"

    def test_another_disk_that_comes_waits_and_disconnects_nobody(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.kernel.busy_functions = {"mass_storage.1"}
        fails(bench)
        bus = list(bench.kernel.bus)
        bench.add("nvme1n1")
        bench.loop.run_for(LET_GO_S * 2)
        assert bench.kernel.bus == bus
        assert "a disk does not answer" in advice(daemon)
        assert daemon.status.phase == "exported"
        bench.kernel.thread_goes_on()
        bench.loop.run_for(LET_GO_S + 10)
        assert bench.files() == {0: "mmcblk0", 1: "", 2: "nvme1n1"}
        assert "does not answer" not in advice(daemon)

    def test_a_lock_that_cannot_be_asked_for_counts_as_one_and_is_not_remembered(
        self, bench: Bench
    ) -> None:
        boot(bench, "mmcblk0")
        bench.kernel.thread_busy = True
        bench.add("nvme0n1")
        bench.loop.run_for(LET_GO_S * 2)
        assert bench.kernel.behind
        assert bench.files() == {0: "mmcblk0"}
        bench.kernel.thread_goes_on()
        bench.loop.run_for(LET_GO_S + TICK_S * 4)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
