"""What is in doubt of a disk stays so, whatever the disk, the host or the daemon does meanwhile."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gadgetd.control.commands import Commands
from gadgetd.errors import GadgetError
from gadgetd.export.drives import TICK_S
from gadgetd.export.ending import RETRY_S
from gadgetd.export.reconnect import ASK_AGAIN_S, ASK_IN_USE_S, ASK_S, LET_GO_S
from tests.unit.export.test_reconnect_resets import reset, wake_ups
from tests.unit.fakes import Bench, lives
from tests.unit.test_daemon import WRITE_ERROR, advice, boot, host_ejects, host_writes, of


def away(bench: Bench, name: str) -> None:
    """Pull a disk, and plug it in again."""
    bench.remove(name)
    bench.loop.run_for(3)
    bench.add(name)
    bench.loop.run_for(3)


class TestADiskThatLeavesAndComesBack:
    def test_one_that_was_taken_while_it_was_open(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.lun(1).locked = True
        daemon.by_hand.eject(of(daemon, "nvme0n1"), force=True)
        bench.loop.run_for(5)
        away(bench, "nvme0n1")
        assert advice(daemon).count("nvme0n1 was taken from the host while it was open there") == 1
        host_ejects(bench, 0, 1)
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "ejected", "nvme0n1": "ejected"}
        assert not daemon.status.safe_to_unplug

    @pytest.mark.parametrize("killed", [False, True])
    def test_one_that_lost_data_waits_for_a_person(self, bench: Bench, killed: bool) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.flush_result = errno.EIO
        bench.log.say(WRITE_ERROR)
        bench.loop.run_for(5)
        bench.flush_result = 0
        if killed:
            bench.remove("nvme0n1")
            for _ in range(2):
                daemon = bench.daemon()
                bench.loop.run_for(3)
            bench.add("nvme0n1")
            bench.loop.run_for(3)
        else:
            away(bench, "nvme0n1")
        assert bench.files() == {0: "mmcblk0", 1: ""}
        assert lives(daemon)["nvme0n1"] == "write error"
        daemon.by_hand.insert(of(daemon, "nvme0n1"))
        bench.loop.run_for(3)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}

    def test_one_that_lost_data_and_was_excluded_for_a_time(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.flush_result = errno.EIO
        bench.log.say(WRITE_ERROR)
        bench.loop.run_for(5)
        bench.remove("nvme0n1")
        bench.loop.run_for(5)
        bench.configure("exclude:\n  - name: nvme0n1\n")
        daemon.reload()
        bench.add("nvme0n1")
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "idle"}
        bench.configure("")
        daemon.reload()
        bench.loop.run_for(5)
        assert bench.files() == {0: "mmcblk0", 1: ""}

    def test_a_card_that_lost_data_and_another_displaced(self, bench: Bench) -> None:
        card = bench.add("mmcblk1", serial="first")
        daemon = bench.daemon()
        bench.flush_result = errno.EIO
        bench.log.say(WRITE_ERROR.replace("nvme0n1", "mmcblk1"))
        bench.loop.run_for(5)
        bench.flush_result = 0
        bench.remove("mmcblk1")
        bench.loop.run_for(5)
        bench.add("mmcblk1", serial="second")
        bench.loop.run_for(5)
        assert "mmcblk1" in bench.files().values()
        bench.remove("mmcblk1")
        bench.loop.run_for(5)
        bench.add("mmcblk1", serial=card.serial)
        bench.loop.run_for(5)
        assert "mmcblk1" not in bench.files().values()
        assert lives(daemon)["mmcblk1"] == "write error"


class TestADaemonThatIsKilled:
    def test_while_it_flushes_what_a_stop_has_taken(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        bench.loop.run_for(10)
        bench.flush_result = None
        host_writes(bench, "mmcblk0")
        daemon.stop(lambda: None)
        bench.loop.settle()
        bench.flush_result = 0
        bench.lun(0).locked = False
        daemon = bench.daemon()
        host_ejects(bench, 0)
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "ejected"}
        assert not daemon.status.safe_to_unplug

    def test_while_a_disk_that_has_left_waits_to_be_taken_out(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.flush_result = None
        host_writes(bench, "nvme0n1")
        bench.kernel.thread_busy = True
        assert daemon._exporter.gadget.is_locked(1) is None
        bench.remove("nvme0n1")
        bench.loop.run_for(1)
        bench.flush_result = 0
        bench.kernel.thread_goes_on()
        daemon = bench.daemon()
        host_ejects(bench, 0)
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "ejected"}
        assert not daemon.status.safe_to_unplug

    def test_while_a_host_that_locks_nothing_writes(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        host_writes(bench, "mmcblk0")
        daemon = bench.daemon()
        bench.loop.run_for(8)
        bench.add("nvme0n1")
        bench.loop.settle()
        Commands(daemon, bench.panel.log).handle(
            {"command": "attach", "confirmed": True}, lambda _: None
        )
        bench.loop.run_for(5)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        host_ejects(bench, 0, 1)
        bench.loop.run_for(5)
        assert not daemon.status.safe_to_unplug

    def test_after_it_has_seen_a_lock_that_a_reset_clears(self, bench: Bench) -> None:
        boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        bench.loop.run_for(ASK_S + TICK_S * 2)
        bench.lun(0).locked = False
        bench.daemon()
        bench.add("nvme0n1")
        bench.loop.run_for(LET_GO_S * 3)
        assert bench.files() == {0: "mmcblk0"}


class TestADiskInConstantUse:
    """A host that never pauses is asked for its locks as well."""

    def use(self, bench: Bench, seconds: float) -> None:
        for _ in range(int(seconds)):
            bench.traffic("mmcblk0", read=4096)
            bench.loop.run_for(1)

    def test_its_lock_is_seen_before_a_reset_that_no_driver_tells_of(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        self.use(bench, ASK_IN_USE_S + 2)
        assert daemon.drives[0].opened
        bench.lun(0).locked = False
        bench.add("nvme0n1")
        bench.loop.run_for(LET_GO_S * 3)
        assert bench.files() == {0: "mmcblk0"}

    def test_what_looks_at_it_for_a_while_is_not_taken_for_what_has_it_open(
        self, bench: Bench
    ) -> None:
        boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        self.use(bench, ASK_IN_USE_S / 2)
        bench.lun(0).locked = False
        bench.add("nvme0n1")
        bench.loop.run_for(LET_GO_S * 2)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}

    def test_it_is_not_asked_all_the_time(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        asked: list[float] = []
        is_locked = daemon._exporter.gadget.is_locked

        def noting(number: int) -> bool | None:
            asked.append(bench.clock())
            return is_locked(number)

        monkeypatch.setattr(daemon._exporter.gadget, "is_locked", noting)
        self.use(bench, ASK_IN_USE_S + ASK_AGAIN_S + 30)
        assert [round(at - asked[0], -1) for at in asked] == [0, ASK_AGAIN_S]

    def test_after_a_reset_it_is_ejected_by_force_only(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        self.use(bench, 10)
        reset(bench)
        (drive,) = daemon.drives
        assert not drive.opened
        with pytest.raises(GadgetError, match="may have had it open when it reset the bus"):
            daemon.by_hand.eject(drive, force=False)
        daemon.by_hand.eject(drive, force=True)
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "ejected"}
        assert not daemon.status.safe_to_unplug

    def test_after_a_reset_it_is_excluded_in_doubt(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.lun(0).locked = True
        self.use(bench, 10)
        reset(bench)
        bench.configure("exclude:\n  - name: mmcblk0\n")
        daemon.reload()
        bench.loop.run_for(5)
        host_ejects(bench, 1)
        bench.loop.run_for(5)
        assert not daemon.status.safe_to_unplug


class TestAGadgetThatCannotBeRead:
    """The host has what it had, as far as anybody knows."""

    def test_a_disk_that_is_mounted_is_not_disconnected(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        bench.loop.run_for(10)
        read, failures = bench.kernel.read, 2
        bus = list(bench.kernel.bus)

        def failing(path: Path) -> str:
            nonlocal failures
            if failures and path.name == "idVendor":
                failures -= 1
                raise OSError(errno.ENFILE, "Too many open files in system")
            return read(path)

        monkeypatch.setattr(bench.kernel, "read", failing)
        daemon.reconcile()
        failures = 1
        daemon.reconcile()
        bench.loop.run_for(LET_GO_S * 2)
        assert bench.kernel.bus == bus

    def test_nor_one_that_was_to_be_changed_when_a_command_hung(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        wake_ups(bench, 100)
        bench.host_lets_go()
        bench.lun(0).locked = True
        bus = list(bench.kernel.bus)
        bench.configure("disks:\n  - kind: emmc\n    label: X\n  - kind: nvme\n")
        bench.kernel.thread_busy = True
        bench.add("nvme1n1")
        daemon.reload()
        bench.loop.run_for(20)
        assert bench.kernel.behind
        assert [drive.inserted for drive in daemon.drives] == [True, True, False]
        bench.kernel.thread_goes_on()
        bench.loop.run_for(LET_GO_S * 2)
        assert bench.kernel.bus == bus
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}

    def test_nor_one_that_another_disk_cannot_replace(self, bench: Bench) -> None:
        """The LUN holds what the daemon does not count as its own: a drive that is not empty."""
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True
        daemon.drives[0].inserted = False
        assert not daemon.reconnect.allowed()


class TestACommandThatHangs:
    def test_a_disk_that_loses_data_is_taken_behind_the_question_for_a_lock(
        self, bench: Bench
    ) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.lun(1).locked = True
        bench.kernel.thread_busy = True
        bench.loop.run_for(ASK_S + TICK_S * 2)
        assert bench.kernel.behind
        bench.flush_result = errno.EIO
        bench.log.say(WRITE_ERROR)
        bench.loop.settle()
        bench.kernel.thread_goes_on()
        assert bench.files() == {0: "mmcblk0", 1: ""}
        bench.loop.run_for(10)
        assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "write error"}

    def test_a_disk_that_lost_data_and_was_not_taken_is_taken_later(self, bench: Bench) -> None:
        boot(bench, "mmcblk0", "nvme0n1")
        bench.kernel.thread_busy = True
        bench.flush_result = errno.EIO
        bench.log.say(WRITE_ERROR)
        bench.loop.settle()
        bench.kernel.thread_busy = False
        bench.kernel.forget_behind()
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        bench.loop.run_for(RETRY_S + 1)
        assert bench.files() == {0: "mmcblk0", 1: ""}

    def test_a_forced_eject_that_comes_late_leaves_the_doubt_that_it_was_forced(
        self, bench: Bench
    ) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.kernel.thread_busy = True
        assert daemon._exporter.gadget.is_locked(0) is None
        bench.lun(0).locked = True
        drive = of(daemon, "mmcblk0")
        daemon.by_hand.eject(drive, force=True)
        assert drive.torn
        assert "torn" in bench.numbers.read_text()
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        assert drive.inserted
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert bench.files() == {0: "", 1: "nvme0n1"}
        assert lives(daemon)["mmcblk0"] == "ejected"
        host_ejects(bench, 1)
        bench.loop.run_for(5)
        assert not daemon.status.safe_to_unplug

    def test_a_forced_eject_that_fails_leaves_no_doubt_of_what_is_still_in(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.lun(0).locked = True

        def refusing(_path: Path, _text: str) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(bench.kernel, "_store", refusing)
        drive = of(daemon, "mmcblk0")
        drive.reset = True
        with pytest.raises(GadgetError, match="forced_eject"):
            daemon.by_hand.eject(drive, force=True)
        assert not drive.torn
        assert "torn" not in bench.numbers.read_text()
