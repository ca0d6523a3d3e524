"""What happens at the worst moment: disks that vanish, kernels that refuse, daemons that die."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gadgetd.cli import FAILED, main
from gadgetd.control import client
from gadgetd.control.commands import Commands
from gadgetd.daemon import Daemon
from gadgetd.disks.hold import Hold
from gadgetd.errors import ControlError
from gadgetd.export.drive import QUIET_S, Drive
from gadgetd.export.drives import TICK_S
from gadgetd.export.ending import RETRY_S
from gadgetd.export.outcome import Waits
from gadgetd.export.retry import REFUSED_S
from gadgetd.status import Life, Phase, to_json
from gadgetd.usb import controllers
from gadgetd.usb.link import Activity
from tests.unit.fakes import CONTROLLER, MIB, Bench, lives

WORDS = "nvme0n1 does not have all that the host had written"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with Bench(tmp_path, monkeypatch) as made:
        yield made


def boot(bench: Bench, *names: str) -> Daemon:
    for name in names:
        bench.add(name)
    return bench.daemon()


def export_of(daemon: Daemon, name: str) -> Drive:
    return next(each for each in daemon.drives if each.name == name and each.hold)


def host_ejects(bench: Bench, *luns: int) -> None:
    for lun in luns:
        bench.host_ejects(lun)
    bench.loop.run_for(TICK_S * 1.1)
    bench.loop.settle()


def host_writes(bench: Bench, name: str) -> None:
    bench.traffic(name, written=MIB)
    bench.loop.run_for(TICK_S * 1.1)


def advice(daemon: Daemon) -> list[str]:
    return [each.message for each in daemon.status.advice]


def refuse_disk(bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gadget not open this disk, though we can."""
    store = bench.kernel._store

    def refusing(path: Path, text: str) -> None:
        if path.name == "file" and name in text:
            raise OSError(errno.EIO, "Input/output error")
        store(path, text)

    monkeypatch.setattr(bench.kernel, "_store", refusing)


def unbinds(bench: Bench) -> int:
    return sum(each.startswith("unbind") for each in bench.kernel.bus)


class TestNothingIsCalledSafeThatIsNot:
    """SAFE TO UNPLUG is a promise about bytes."""

    def test_a_disk_that_left_with_data_and_comes_back_is_not_trusted(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        host_writes(bench, "nvme0n1")
        bench.remove("nvme0n1")
        bench.loop.settle()
        assert WORDS in advice(daemon)
        bench.add("nvme0n1")
        bench.loop.settle()
        assert WORDS in advice(daemon)
        assert lives(daemon)["nvme0n1"] == Life.FAILED
        host_ejects(bench, 0, 1)
        assert not daemon.status.safe_to_unplug
        done: list[bool] = []
        daemon.stop(lambda: done.append(daemon.status.safe_to_unplug))
        bench.loop.settle()
        assert done == [False]

    def test_until_somebody_begins_anew(self, bench: Bench) -> None:
        daemon = boot(bench, "nvme0n1")
        host_writes(bench, "nvme0n1")
        bench.remove("nvme0n1")
        bench.loop.settle()
        bench.add("nvme0n1")
        bench.loop.settle()
        host_ejects(bench, 0)
        daemon.by_hand.insert(export_of(daemon, "nvme0n1"))
        bench.loop.settle()
        assert advice(daemon) == []
        host_writes(bench, "nvme0n1")
        host_ejects(bench, 0)
        assert daemon.status.safe_to_unplug

    @pytest.mark.parametrize("torn_down", [True, False])
    def test_a_failed_disk_stays_one_for_the_next_daemon(
        self, bench: Bench, torn_down: bool
    ) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.flush_result = errno.EIO
        host_writes(bench, "nvme0n1")
        bench.loop.run_for(QUIET_S * 2)
        assert lives(daemon)["nvme0n1"] == Life.FAILED
        if torn_down:
            bench.flush_result = None
            daemon.stop(lambda: None)
            bench.loop.settle()
        bench.kill()
        bench.flush_result = 0
        daemon = bench.daemon()
        host_ejects(bench, 0, 1)
        assert lives(daemon) == {"mmcblk0": Life.EJECTED, "nvme0n1": Life.FAILED}
        assert not daemon.status.safe_to_unplug

    def test_what_the_kernel_could_not_write_is_lost_even_if_it_was_not_counted(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Hold, "lost_data", lambda hold: "nvme" in _file_of(hold))
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.loop.run_for(5)
        bench.remove("nvme0n1")
        bench.loop.settle()
        assert WORDS in advice(daemon)
        host_ejects(bench, 0)
        assert not daemon.status.safe_to_unplug

    def test_a_disk_that_took_everything_and_left_is_no_loss(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.remove("nvme0n1")
        bench.loop.settle()
        host_ejects(bench, 0)
        assert daemon.status.safe_to_unplug

    def test_a_card_that_was_changed_between_two_looks_is_held_and_flushed_itself(
        self, bench: Bench
    ) -> None:
        daemon = boot(bench, "mmcblk1")
        before = export_of(daemon, "mmcblk1").hold
        bench.remove("mmcblk1")
        bench.add("mmcblk1")
        bench.lun(0).file += " (deleted)"
        bench.loop.settle()
        hold = export_of(daemon, "mmcblk1").hold
        assert hold is not before
        assert hold is not None
        assert os.path.samestat(os.fstat(hold.sync_fd), (bench.dev / "mmcblk1").stat())

    def test_a_disk_that_the_next_daemon_cannot_hold_keeps_the_word_back(
        self, bench: Bench
    ) -> None:
        boot(bench, "mmcblk0", "nvme0n1")
        bench.kill()
        bench.busy.add("nvme0n1")
        daemon = bench.daemon()
        assert bench.files() == {0: "mmcblk0", 1: ""}
        host_ejects(bench, 0)
        assert not daemon.status.safe_to_unplug
        assert any(text.startswith("disk 1 is out of reach") for text in advice(daemon))
        bench.busy.clear()
        bench.loop.run_for(RETRY_S * 2)
        host_ejects(bench, 1)
        assert daemon.status.safe_to_unplug
        assert bench.flushes[-1].name == "nvme0n1"

    def test_a_disk_that_is_gone_when_the_next_daemon_starts_likewise(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        host_writes(bench, "nvme0n1")
        bench.kill()
        bench.remove("nvme0n1")
        daemon = bench.daemon()
        host_ejects(bench, 0)
        assert not daemon.status.safe_to_unplug

    def test_another_card_in_the_slot_is_trusted_and_the_first_one_still_is_not(
        self, bench: Bench
    ) -> None:
        daemon = boot(bench, "mmcblk1")
        host_writes(bench, "mmcblk1")
        for serial, trusted in (("another", True), ("serial-mmcblk1", False), ("third", True)):
            bench.remove("mmcblk1")
            bench.loop.settle()
            bench.add("mmcblk1", serial=serial)
            bench.loop.settle()
            assert bench.files() == {0: "mmcblk1"}
            host_ejects(bench, 0)
            assert daemon.status.safe_to_unplug == trusted, serial
            daemon.by_hand.insert(export_of(daemon, "mmcblk1"))
            if not trusted:
                host_writes(bench, "mmcblk1")

    def test_a_flush_of_another_card_says_nothing_of_the_one_that_was_there_at_the_kill(
        self, bench: Bench
    ) -> None:
        boot(bench, "mmcblk1")
        bench.kill()
        bench.remove("mmcblk1")
        bench.add("mmcblk1", serial="another")
        daemon = bench.daemon()
        host_ejects(bench, 0)
        bench.remove("mmcblk1")
        bench.loop.settle()
        bench.add("mmcblk1")
        bench.loop.settle()
        host_ejects(bench, 0)
        assert not daemon.status.safe_to_unplug

    def test_a_disk_in_doubt_that_the_gadget_cannot_open_keeps_the_word_back(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        host_writes(bench, "nvme0n1")
        bench.flush_result = errno.EIO
        daemon.stop(lambda: None)
        bench.loop.settle()
        bench.kill()
        bench.flush_result = 0
        refuse_disk(bench, "nvme0n1", monkeypatch)
        daemon = bench.daemon()
        bench.loop.run_for(RETRY_S * 4)
        assert bench.files() == {0: "mmcblk0"}
        host_ejects(bench, 0)
        assert not daemon.status.safe_to_unplug

    def test_one_that_was_ejected_and_flushed_before_does_not(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        host_ejects(bench, 1)
        assert lives(daemon)["nvme0n1"] == Life.EJECTED
        bench.kill()
        bench.remove("nvme0n1")
        daemon = bench.daemon()
        host_ejects(bench, 0)
        assert daemon.status.safe_to_unplug

    def test_a_stop_with_a_broken_file_after_a_kill_is_not_called_safe(self, bench: Bench) -> None:
        boot(bench, "nvme0n1")
        bench.kill()
        bench.configure("nonsense: 1\n")
        daemon = bench.daemon()
        assert daemon.status.phase is Phase.CONFIG_ERROR
        daemon.stop(lambda: None)
        bench.loop.settle()
        assert not daemon.status.safe_to_unplug

    def test_the_word_is_taken_back_before_the_host_has_a_disk(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        host_ejects(bench, 0, 1)
        assert daemon.status.safe_to_unplug
        shown: list[bool] = []
        store = bench.kernel._store

        def watched(path: Path, text: str) -> None:
            shown.append(bench.panel.statuses[-1].safe_to_unplug)
            store(path, text)

        monkeypatch.setattr(bench.kernel, "_store", watched)
        daemon.by_hand.insert(export_of(daemon, "nvme0n1"))
        host_ejects(bench, 1)
        daemon.stop(lambda: None)
        bench.loop.settle()
        assert bench.panel.statuses[-1].safe_to_unplug
        shown.clear()
        daemon.resume()
        assert shown
        assert not any(shown)

    def test_a_disk_is_not_inserted_while_a_stop_flushes(self, bench: Bench) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.flush_result = errno.EIO
        host_writes(bench, "nvme0n1")
        bench.loop.run_for(QUIET_S * 2)
        host_ejects(bench, 1)
        bench.flush_result = None
        daemon.stop(lambda: None)
        with pytest.raises(ControlError, match="stopping"):
            Commands(daemon, bench.panel.log).handle({"command": "insert", "disk": "1"}, _nobody)

    def test_a_flush_that_could_not_be_forked_is_not_forgotten(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "nvme0n1")
        bench.flush_result = None
        host_writes(bench, "nvme0n1")
        bench.loop.run_for(QUIET_S * 1.5)
        bench.unplug()
        bench.loop.settle()
        with monkeypatch.context() as patch:
            patch.setattr("gadgetd.export.drive.Flush", _no_process)
            bench.flushes[-1].finish(0)
            bench.loop.settle()
            bench.plug()
            bench.loop.settle()
            bench.unplug()
            bench.loop.settle()
        bench.flush_result = 0
        bench.loop.run_for(RETRY_S * 2)
        assert lives(daemon)["nvme0n1"] == Life.WAITING


class TestTheHostIsLeftInPeace:
    """What cannot be done is not tried again and again at the host's cost."""

    @pytest.mark.parametrize("slow_host", [True, False])
    def test_a_change_that_the_kernel_refuses_costs_two_disconnections_at_most(
        self, bench: Bench, slow_host: bool
    ) -> None:
        bench.kernel.functions = ("mass_storage",)
        daemon = boot(bench, "mmcblk0")
        bench.host_lets_go()
        bench.slow_host = slow_host
        bench.configure("usb: {acm: true}\n")
        daemon.reload()
        bench.loop.run_for(REFUSED_S / 2)
        assert unbinds(bench) <= 2
        assert daemon.status.phase is Phase.EXPORTED
        assert any("acm.usb0" in text for text in advice(daemon))
        assert bench.files() == {0: "mmcblk0"}

    def test_a_refusal_that_passes_is_over_after_the_second_try(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        bench.host_lets_go()
        with monkeypatch.context() as patch:
            refuse_disk(bench, "nvme0n1", patch)
            bench.add("nvme0n1")
            bench.loop.run_for(RETRY_S / 2)
            assert unbinds(bench) == 1
            assert daemon.status.message == "1 disk exported, 1 disk waits"
            (row,) = [row for row in daemon.status.disks if row.disk.name == "nvme0n1"]
            assert (row.lun, row.waits) == (None, True)
            assert row.reason.startswith("the kernel refused")
        bench.host_lets_go()
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        assert not any("lun.1" in text for text in advice(daemon))

    def test_the_word_comes_though_a_disk_was_refused_that_no_host_has_seen(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0")
        mkdir = bench.kernel.mkdir

        def refusing(path: Path) -> None:
            if path.name == "mass_storage.1":
                raise OSError(errno.ENOMEM, "Cannot allocate memory")
            mkdir(path)

        monkeypatch.setattr(bench.kernel, "mkdir", refusing)
        bench.add("nvme0n1")
        for _ in range(3):
            bench.host_lets_go()
        host_ejects(bench, 0)
        assert daemon.status.safe_to_unplug

    def test_another_file_ends_it(self, bench: Bench) -> None:
        bench.kernel.functions = ("mass_storage",)
        daemon = boot(bench, "mmcblk0")
        bench.configure("usb: {acm: true}\n")
        daemon.reload()
        bench.loop.run_for(RETRY_S * 2)
        bench.configure("{}\n")
        daemon.reload()
        bench.loop.settle()
        assert not any("acm.usb0" in text for text in advice(daemon))

    def test_a_ninth_disk_without_endpoints_disturbs_eight_no_more(self, bench: Bench) -> None:
        bench.kernel.udcs[CONTROLLER].in_endpoints = 1
        daemon = boot(bench, *(f"nvme{number}n1" for number in range(8)))
        bench.loop.run_for(RETRY_S)
        bench.add("nvme8n1")
        bench.loop.run_for(REFUSED_S * 3)
        assert unbinds(bench) <= 2
        assert daemon.status.phase is Phase.EXPORTED
        assert len(bench.files()) == 8

    def test_a_disk_that_the_gadget_cannot_open_keeps_no_other_out(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_disk(bench, "nvme0n1", monkeypatch)
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.loop.run_for(RETRY_S * 3)
        assert bench.files() == {0: "mmcblk0"}
        assert daemon.status.phase is Phase.EXPORTED
        (row,) = [row for row in daemon.status.disks if row.disk.name == "nvme0n1"]
        assert row.lun is None
        assert "mass_storage.1/lun.0/file" in row.reason

    @pytest.mark.parametrize("slots", [0, 2])
    def test_one_that_arrives_likewise(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, slots: int
    ) -> None:
        refuse_disk(bench, "nvme0n1", monkeypatch)
        bench.configure(f"slots: {slots}\n")
        daemon = boot(bench, "mmcblk0")
        bench.add("nvme0n1")
        bench.loop.run_for(REFUSED_S * 2)
        assert unbinds(bench) <= 2
        assert daemon.status.phase is Phase.EXPORTED
        host_ejects(bench, 0)
        assert daemon.status.safe_to_unplug

    def test_and_has_another_chance_when_it_comes_again_or_the_file_is_read_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            refuse_disk(bench, "nvme0n1", patch)
            daemon = boot(bench, "mmcblk0", "nvme0n1")
            bench.loop.run_for(RETRY_S * 3)
        daemon.reload()
        bench.host_lets_go()
        assert set(bench.files().values()) == {"mmcblk0", "nvme0n1"}

    def test_an_eject_beside_a_lun_that_fails_is_noticed_and_stays(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        refuse_disk(bench, "nvme0n1", monkeypatch)
        bench.configure(
            "disks:\n  - {kind: emmc, read_only: true}\n  - {kind: nvme, read_only: true}\n"
        )
        daemon.reload()
        host_ejects(bench, 0)
        bench.loop.run_for(RETRY_S * 3)
        assert bench.files()[0] == ""
        assert lives(daemon)["mmcblk0"] == Life.EJECTED

    def test_a_file_attribute_that_cannot_be_read_does_not_make_it_spin(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        boot(bench, "nvme0n1")
        read = bench.kernel.read

        def refusing(path: Path) -> str:
            if path.name == "file":
                raise OSError(errno.EIO, "Input/output error")
            return read(path)

        monkeypatch.setattr(bench.kernel, "read", refusing)
        looks = len(bench.scan.asked_with)
        bench.loop.run_for(RETRY_S * 12)
        assert 1 <= len(bench.scan.asked_with) - looks <= 30

    def test_a_new_function_counts_as_traffic(self, tmp_path: Path) -> None:
        def thread(pid: int, wake_ups: int) -> None:
            (tmp_path / str(pid)).mkdir(exist_ok=True)
            (tmp_path / str(pid) / "comm").write_text("file-storage\n")
            (tmp_path / str(pid) / "status").write_text(f"voluntary_ctxt_switches:\t{wake_ups}\n")

        activity = Activity(tmp_path)
        thread(10, 5)
        activity.look()
        thread(11, 0)
        activity.forget()
        activity.look()
        thread(11, 5000)
        assert activity.busy(9)


class TestAfterAKill:
    """The next daemon takes over, whatever has changed meanwhile."""

    @pytest.mark.parametrize("how", ["excluded", "in use", "mounted"])
    def test_a_disk_that_must_not_be_exported_any_more_does_not_wait_for_an_idle_host(
        self, bench: Bench, how: str
    ) -> None:
        boot(bench, "mmcblk0", "nvme0n1")
        bench.kill()
        # Something else has changed too, which disconnects all disks and so has to wait.
        text = "usb: {product: other}\n"
        if how == "excluded":
            text += "exclude:\n  - name: nvme0n1\n"
        elif how == "in use":
            bench.busy.add("nvme0n1")
        else:
            found = bench.scan.found["nvme0n1"]
            bench.scan.found["nvme0n1"] = found._replace(refusal="mounted at /mnt")
        bench.configure(text)
        daemon = bench.daemon()
        host_writes(bench, "mmcblk0")
        assert bench.files() == {0: "mmcblk0", 1: ""}
        assert daemon.status.phase is Phase.EXPORTED

    def test_an_eject_is_seen_while_a_change_waits(self, bench: Bench) -> None:
        boot(bench, "mmcblk0", "nvme0n1")
        bench.kill()
        bench.configure("usb: {product: other}\n")
        daemon = bench.daemon()
        for _ in range(4):
            host_writes(bench, "mmcblk0")
        assert daemon.outcome.waits is Waits.IDLE
        assert [row.lun for row in daemon.status.disks] == [0, 1]
        host_ejects(bench, 1)
        bench.loop.run_for(RETRY_S * 2)
        assert bench.files() == {0: "mmcblk0", 1: ""}
        assert lives(daemon)["nvme0n1"] == Life.EJECTED

    def test_an_eject_is_seen_while_another_disk_waits_for_its_lun(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        boot(bench, "mmcblk0")
        bench.kill()
        bench.add("nvme0n1")
        monkeypatch.setattr(Activity, "busy", lambda *_: True)
        daemon = bench.daemon()
        bench.loop.run_for(RETRY_S)
        assert [row.lun for row in daemon.status.disks] == [0, None]
        host_ejects(bench, 0)
        bench.scan.announce()
        bench.loop.run_for(RETRY_S)
        assert bench.files() == {0: ""}
        assert lives(daemon)["mmcblk0"] == Life.EJECTED

    def test_an_eject_before_is_not_another_disks(self, bench: Bench) -> None:
        boot(bench, "mmcblk0", "mmcblk1")
        host_ejects(bench, 1)
        bench.kill()
        bench.remove("mmcblk1")
        bench.add("mmcblk1", serial="another")
        daemon = bench.daemon()
        assert bench.files() == {0: "mmcblk0", 1: "mmcblk1"}
        bench.remove("mmcblk1")
        bench.loop.settle()
        bench.add("mmcblk1", serial="another")
        bench.loop.settle()
        assert bench.files() == {0: "mmcblk0", 1: "mmcblk1"}
        assert lives(daemon)["mmcblk1"] != Life.EJECTED

    def test_what_the_host_ejected_before_stays_out_even_if_the_disk_was_busy(
        self, bench: Bench
    ) -> None:
        boot(bench, "mmcblk0", "nvme0n1")
        host_ejects(bench, 1)
        bench.kill()
        bench.busy.add("nvme0n1")
        daemon = bench.daemon()
        bench.busy.clear()
        bench.loop.run_for(RETRY_S * 2)
        assert bench.files() == {0: "mmcblk0", 1: ""}
        assert lives(daemon)["nvme0n1"] == Life.EJECTED

    @pytest.mark.parametrize("by_host", [True, False])
    def test_a_power_off_follows_the_hosts_eject_and_no_other(
        self, bench: Bench, by_host: bool
    ) -> None:
        bench.configure("on_ejected: poweroff\n")
        daemon = boot(bench, "nvme0n1")
        bench.flush_result = None
        if by_host:
            host_ejects(bench, 0)
        else:
            daemon.by_hand.eject(export_of(daemon, "nvme0n1"), force=False)
        bench.loop.settle()
        bench.kill()
        bench.flush_result = 0
        daemon = bench.daemon()
        bench.loop.run_for(RETRY_S)
        assert bool(bench.power) == by_host

    def test_a_file_with_one_lun_for_two_disks_is_set_right(self, bench: Bench) -> None:
        bench.numbers.parent.mkdir(parents=True)
        boot(bench, "mmcblk0", "nvme0n1")
        bench.kill()
        lines = bench.numbers.read_text().replace("1\t", "0\t")
        bench.numbers.write_text(lines)
        daemon = bench.daemon()
        bench.scan.announce()
        bench.loop.settle()
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        assert [drive.number for drive in daemon.drives] == [0, 1]


def test_a_disk_that_was_in_use_is_exported_when_it_is_free_again(bench: Bench) -> None:
    bench.busy.add("nvme0n1")
    boot(bench, "mmcblk0", "nvme0n1")
    bench.busy.clear()
    bench.host_lets_go()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_a_reinsertion_does_not_undo_what_a_person_ejected(bench: Bench) -> None:
    bench.configure("on_ejected: reinsert\nreinsert_after_s: 30\n")
    daemon = boot(bench, "nvme0n1")
    host_ejects(bench, 0)
    daemon.by_hand.insert(export_of(daemon, "nvme0n1"))
    bench.loop.run_for(5)
    daemon.by_hand.eject(export_of(daemon, "nvme0n1"), force=False)
    bench.loop.run_for(60)
    assert bench.files() == {0: ""}
    assert daemon.status.safe_to_unplug


def test_a_disk_that_has_grown_is_exported_with_its_new_size(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk1")
    found = bench.scan.found["mmcblk1"]
    before = export_of(daemon, "mmcblk1")
    bench.scan.found["mmcblk1"] = found._replace(disk=found.disk._replace(size_bytes=32 * MIB))
    bench.scan.announce()
    bench.loop.settle()
    assert daemon.status.disks[0].disk.size_bytes == 32 * MIB
    assert export_of(daemon, "mmcblk1") is not before


def test_a_controller_that_left_and_came_back_between_two_looks_is_followed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = controllers.read_state
    monkeypatch.setattr(
        controllers, "read_state", lambda fd: "" if "(deleted)" in _link_of(fd) else real(fd)
    )
    daemon = boot(bench, "nvme0n1")
    gadget = bench.kernel.udcs[CONTROLLER].gadget
    bench.remove_udc(CONTROLLER)
    bench.add_udc(CONTROLLER)
    bench.kernel.udcs[CONTROLLER].gadget = gadget
    bench.plug()
    bench.loop.run_for(RETRY_S)
    host_ejects(bench, 0)
    assert daemon.status.safe_to_unplug


def test_gadgetd_eject_does_not_call_a_disk_ejected_that_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = boot(bench, "nvme0n1")
    monkeypatch.setattr(client, "fetch_status", lambda: to_json(daemon.status))
    monkeypatch.setattr(client, "send", lambda *_, **__: {"ok": True})
    host_writes(bench, "nvme0n1")
    assert main(["eject", "nvme0n1"]) == FAILED
    assert "with the host again" in capsys.readouterr().err


def _nobody(_: dict[str, Any]) -> None:
    raise AssertionError("a refusal is raised")


def _no_process(_: int) -> Callable[[], None]:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


def _link_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def _file_of(hold: Hold) -> str:
    return _link_of(hold.sync_fd)
