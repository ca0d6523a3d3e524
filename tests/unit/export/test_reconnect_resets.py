"""A host that resets the bus or sleeps has let go of nothing; what is in doubt stays in doubt."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gadgetd.configfs import NO_FILE
from gadgetd.control.commands import Commands
from gadgetd.daemon import Daemon
from gadgetd.errors import GadgetError
from gadgetd.export.drives import TICK_S
from gadgetd.export.reconnect import ASK_AGAIN_S, ASK_S, LET_GO_S
from gadgetd.usb.link import GONE_S
from tests.unit.fakes import Bench, lives
from tests.unit.test_daemon import advice, boot, host_ejects, host_writes

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
    assert "disk 0 was taken from the host while it was open there" in advice(daemon)


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
    store = bench.kernel._store

    def counting(path: Path, text: str) -> None:
        if text == NO_FILE and "lun.0" in str(path):
            asked.append(bench.clock())
        store(path, text)

    monkeypatch.setattr(bench.kernel, "_store", counting)
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


def reset(bench: Bench, away_s: float = 0.2) -> None:
    """Reset the bus as the host does: the kernel forgets every lock."""
    for lun in bench.files():
        bench.lun(lun).locked = False
    bench.host_state("default")
    bench.loop.run_for(away_s)
    bench.host_state("configured")
    bench.loop.settle()


def wake_ups(bench: Bench, number: int) -> None:
    """Have the gadget's thread woken so often so far."""
    thread = bench.proc / "70"
    thread.mkdir(exist_ok=True)
    (thread / "comm").write_text("file-storage\n")
    (thread / "status").write_text(f"voluntary_ctxt_switches:\t{number}\n")


def test_a_mounted_disk_whose_lock_a_reset_has_cleared_is_not_taken_later(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    reset(bench)
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 3)
    assert bench.files() == ALONE
    assert "mmcblk0 open there" in advice(daemon)
    host_ejects(bench, 0)
    bench.loop.run_for(TICK_S * 3)
    assert bench.files() == {0: "", 1: "nvme0n1"}


def test_a_lock_is_seen_before_a_reset_that_no_driver_tells_of(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.loop.run_for(60)
    bench.traffic("mmcblk0", read=4096)
    bench.lun(0).locked = True  # It is mounted.
    bench.loop.run_for(ASK_AGAIN_S + ASK_S + TICK_S * 2)
    bench.lun(0).locked = False
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 3)
    assert bench.files() == ALONE


def test_another_host_has_opened_nothing_yet(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    reset(bench)
    bench.unplug()
    bench.loop.run_for(GONE_S + 1)
    bench.plug()
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S + 3)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_what_a_host_has_open_outlives_a_kill(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    reset(bench)
    bench.loop.run_for(TICK_S * 2)
    bench.daemon()
    bench.add("nvme0n1")
    bench.loop.run_for(LET_GO_S * 3)
    assert bench.files() == ALONE


def test_a_disk_that_was_open_before_a_reset_is_ejected_by_force_only(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    bench.loop.run_for(ASK_S + TICK_S * 2)
    reset(bench)
    (drive,) = daemon.drives
    with pytest.raises(GadgetError, match="had it open when it reset the bus"):
        daemon.by_hand.eject(drive, force=False)
    daemon.by_hand.eject(drive, force=True)
    bench.loop.run_for(5)
    assert not daemon.status.safe_to_unplug


@pytest.mark.parametrize("away_s", [0.2, 1.5])
def test_a_reset_brings_back_nothing_that_was_ejected(bench: Bench, away_s: float) -> None:
    daemon = boot(bench, "mmcblk0")
    host_ejects(bench, 0)
    bench.loop.run_for(5)
    assert daemon.status.safe_to_unplug
    reset(bench, away_s)
    bench.loop.run_for(5)
    assert bench.files() == {0: ""}
    assert daemon.status.safe_to_unplug


def test_a_host_that_is_slow_after_our_own_reconnect_gets_nothing_back(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0)
    bench.host_lets_go()
    bench.slow_host = True
    bench.add("nvme1n1")
    bench.loop.run_for(20)
    bench.plug()
    bench.loop.run_for(5)
    assert bench.files() == {0: "", 1: "nvme0n1", 2: "nvme1n1"}
    assert lives(daemon)["mmcblk0"] == "ejected"


class TestAHostThatBeginsToWrite:
    def test_the_new_disk_is_not_counted_among_those_it_asks_for_media(self, bench: Bench) -> None:
        wake_ups(bench, 100)
        boot(bench, "mmcblk0")
        bench.host_lets_go()
        wake_ups(bench, 105)
        bench.add("nvme0n1")
        bench.loop.settle()
        assert bench.files() == ALONE

    def test_a_single_command_is_waited_for_until_it_has_shown_what_it_was(
        self, bench: Bench
    ) -> None:
        wake_ups(bench, 100)
        boot(bench, "mmcblk0")
        bench.host_lets_go()
        wake_ups(bench, 102)
        bench.add("nvme0n1")
        bench.loop.settle()
        assert bench.files() == ALONE
        bench.loop.run_for(1.5)
        bench.traffic("mmcblk0", written=4096)  # It was a write.
        bench.loop.run_for(LET_GO_S - 5)
        assert bench.files() == ALONE

    def test_a_host_that_only_asks_for_media_is_not_waited_for_long(self, bench: Bench) -> None:
        wake_ups(bench, 100)
        boot(bench, "mmcblk0")
        bench.host_lets_go()
        bench.add("nvme0n1")
        for number in range(101, 107):  # Never a half-second without.
            wake_ups(bench, number)
            bench.loop.run_for(TICK_S)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


class TestTakenWhileInUse:
    """What the host still held is not known, so SAFE TO UNPLUG is not said until a person acts."""

    def attach(self, bench: Bench) -> Daemon:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        bench.loop.run_for(LET_GO_S + 5)
        bench.add("nvme0n1")
        bench.loop.settle()
        commands = Commands(daemon, bench.panel.log)
        bench.slow_host = True
        commands.handle({"command": "attach", "confirmed": True}, lambda _: None)
        bench.lun(0).locked = False
        bench.loop.run_for(5)
        bench.plug()
        bench.loop.run_for(5)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        return daemon

    def test_an_attach_is_remembered_and_told(self, bench: Bench) -> None:
        daemon = self.attach(bench)
        assert "mmcblk0 was taken from the host while it was open there" in advice(daemon)
        host_ejects(bench, 0, 1)
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "ejected", "nvme0n1": "ejected"}
        assert not daemon.status.safe_to_unplug

    @pytest.mark.parametrize("in_order", [True, False])
    def test_it_outlives_the_daemon(self, bench: Bench, in_order: bool) -> None:
        daemon = self.attach(bench)
        if in_order:
            daemon.stop(lambda: None)
            bench.loop.settle()
        daemon = bench.daemon()
        host_ejects(bench, 0, 1)
        bench.loop.run_for(5)
        assert not daemon.status.safe_to_unplug

    def test_a_person_ends_it_with_an_insert_and_the_board_does_not(self, bench: Bench) -> None:
        bench.configure("on_ejected: reinsert\nreinsert_after_s: 2\n")
        daemon = self.attach(bench)
        host_ejects(bench, 0, 1)
        bench.loop.run_for(10)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        host_ejects(bench, 0, 1)
        bench.loop.run_for(1)
        assert not daemon.status.safe_to_unplug
        bench.loop.run_for(10)
        host_ejects(bench, 0)
        bench.loop.run_for(1)
        daemon.by_hand.insert(daemon.drives[0])
        host_ejects(bench, 0, 1)
        bench.loop.run_for(1)
        assert daemon.status.safe_to_unplug

    def test_a_person_ends_it_with_stop_and_start(self, bench: Bench) -> None:
        daemon = self.attach(bench)
        daemon.stop(lambda: None)
        bench.loop.settle()
        daemon.resume()
        bench.loop.settle()
        host_ejects(bench, 0, 1)
        bench.loop.run_for(5)
        assert daemon.status.safe_to_unplug

    def test_a_plug_ends_it_not(self, bench: Bench) -> None:
        daemon = self.attach(bench)
        host_ejects(bench, 0, 1)
        bench.unplug()
        bench.loop.run_for(10)
        bench.plug()
        bench.loop.run_for(2)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        host_ejects(bench, 0, 1)
        bench.loop.run_for(5)
        assert not daemon.status.safe_to_unplug

    def test_an_attach_that_takes_nothing_leaves_no_doubt(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.add("nvme0n1")
        bench.loop.settle()
        monkeypatch.setattr(daemon, "reconcile", lambda: None)
        commands = Commands(daemon, bench.panel.log)
        commands.handle({"command": "attach", "confirmed": True}, lambda _: None)
        assert not any(drive.torn for drive in daemon.drives)

    def test_sigterm_under_a_host_that_writes_is_no_better(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        host_writes(bench, "mmcblk0")
        daemon.stop(lambda: None)
        bench.loop.settle()
        daemon = bench.daemon()
        host_ejects(bench, 0)
        bench.loop.run_for(5)
        assert not daemon.status.safe_to_unplug

    def test_sigterm_under_a_host_that_has_let_go_leaves_no_doubt(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.host_lets_go()
        daemon.stop(lambda: None)
        bench.loop.settle()
        daemon = bench.daemon()
        host_ejects(bench, 0)
        bench.loop.run_for(5)
        assert daemon.status.safe_to_unplug

    def test_a_card_that_another_has_displaced_is_doubted_after_sigterm(self, bench: Bench) -> None:
        card = bench.add("mmcblk1", serial="first")
        daemon = bench.daemon()
        host_writes(bench, "mmcblk1")
        bench.remove("mmcblk1")
        bench.loop.run_for(5)
        bench.add("mmcblk1", serial="second")
        bench.loop.run_for(5)
        daemon.stop(lambda: None)
        bench.loop.settle()
        daemon = bench.daemon()
        bench.remove("mmcblk1")
        bench.loop.run_for(5)
        bench.add("mmcblk1", serial=card.serial)
        bench.loop.run_for(5)
        assert lives(daemon)["mmcblk1"] == "write error"
