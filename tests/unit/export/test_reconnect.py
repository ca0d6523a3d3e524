"""Never take a disk from a host that may be using it: when the daemon may disconnect it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from gadgetd.control.commands import Commands
from gadgetd.errors import ControlError
from gadgetd.export.drives import TICK_S
from gadgetd.export.reconnect import LET_GO_S
from gadgetd.usb.link import GONE_S
from tests.unit.fakes import CONTROLLER, Bench, lives
from tests.unit.test_daemon import advice, boot, host_ejects, host_writes

ALONE = {0: "mmcblk0"}
BOTH = {0: "mmcblk0", 1: "nvme0n1"}


def test_a_quiet_host_keeps_its_disks_for_as_long_as_it_may_have_data_of_its_own(
    bench: Bench,
) -> None:
    daemon = boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S - 1)
    assert bench.files() == ALONE
    assert "waits until the host lets go of the disks" in advice(daemon)
    bench.loop.run_for(5)
    assert bench.files() == BOTH
    assert "waits" not in advice(daemon)


def test_a_disk_that_the_host_has_open_is_never_taken_and_is_named(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 100)
    assert bench.files() == ALONE
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert "mmcblk0 open there" in advice(daemon)
    # The host may have closed it, or a reset that nobody saw has cleared the lock.
    bench.lun(0).locked = False
    bench.loop.run_for(LET_GO_S * 2)
    assert bench.files() == ALONE
    host_ejects(bench, 0)
    bench.loop.run_for(TICK_S * 3)
    assert bench.files() == {0: "", 1: "nvme0n1"}


def test_asking_for_the_lock_leaves_the_disk_where_it_is(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    gadget = daemon._exporter.gadget
    assert not gadget.is_locked(0)
    bench.lun(0).locked = True
    assert gadget.is_locked(0)
    assert bench.files() == ALONE


def test_what_cannot_be_told_of_a_lock_counts_as_locked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(bench, "mmcblk0")
    store = bench.kernel._store

    def failing(path: object, text: str) -> None:
        if text.startswith("/dev/.gadgetd"):
            raise OSError(errno.EIO, "Input/output error")
        store(path, text)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.kernel, "_store", failing)
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 3)
    assert bench.files() == ALONE


def test_when_all_is_ejected_nothing_waits(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    host_ejects(bench, 0)
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "", 1: "nvme0n1"}


def test_a_bus_reset_is_no_host_that_left(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.add("nvme0n1")
    bench.host_state("not attached")  # As dwc2 tells a reset.
    bench.loop.run_for(GONE_S - 1)
    bench.host_state("configured")
    bench.loop.run_for(GONE_S)
    assert bench.files() == ALONE
    bench.unplug()
    bench.loop.run_for(GONE_S + TICK_S)
    assert bench.files() == BOTH


class TestAttach:
    def test_it_says_what_it_takes_and_takes_it_only_when_that_is_confirmed(
        self, bench: Bench
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        bench.add("nvme0n1")
        bench.loop.settle()
        commands = Commands(daemon, bench.panel.log)
        replies: list[dict[str, Any]] = []
        commands.handle({"command": "attach"}, replies.append)
        assert replies[-1]["disks"] == ["mmcblk0"]
        assert bench.files() == ALONE
        commands.handle({"command": "attach", "confirmed": True}, replies.append)
        bench.loop.settle()
        assert bench.files() == BOTH
        # It was for this once.
        bench.lun(0).locked = True
        bench.add("nvme1n1")
        bench.loop.run_for(LET_GO_S * 3)
        assert bench.files() == BOTH

    def test_when_nothing_waits_it_says_so(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        with pytest.raises(ControlError, match="nothing waits"):
            Commands(daemon, bench.panel.log).handle({"command": "attach"}, lambda _: None)


def test_a_failed_flush_outlives_sigterm_and_the_next_daemon(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(5)
    assert lives(daemon) == {"mmcblk0": "write error"}
    for _ in range(2):
        daemon.stop(lambda: None)
        bench.loop.settle()
        bench.flush_result = 0
        daemon = bench.daemon()
        assert lives(daemon) == {"mmcblk0": "write error"}
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    assert not daemon.status.safe_to_unplug


def test_a_person_ends_it_with_stop_and_start(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(5)
    bench.flush_result = 0
    daemon.stop(lambda: None)
    bench.loop.settle()
    daemon.resume()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "idle"}


def test_without_a_disk_no_process_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.configure("usb: {acm: true}\n")
    daemon = bench.daemon()
    counts: list[float] = []

    def count() -> list[int]:
        counts.append(bench.clock())
        return []

    monkeypatch.setattr(daemon.reconnect._activity, "_count", count)
    assert bench.loop.run_for(10) > 15  # The host is there, and could eject.
    assert counts == []
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 2)
    assert counts
