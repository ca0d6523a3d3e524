"""The gadget on a kernel in memory: started, adopted, changed in place, killed at every instant."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadgetd.config.settings import Config, DiskMatch, DiskRule, Usb
from gadgetd.configfs import ConfigFs
from gadgetd.disks.disk import Disk, Kind, Verdict
from gadgetd.disks.hold import Hold
from gadgetd.errors import GadgetError
from gadgetd.export import choosing
from gadgetd.export.drive import Drive, Signal
from gadgetd.export.exporter import Exporter
from gadgetd.export.outcome import Outcome, Waits
from gadgetd.export.retry import PAUSE_S
from gadgetd.status import Life
from gadgetd.usb.gadget import NAME
from tests.contract.faulty import FaultyKernel, Killed
from tests.fake_configfs import ROOT
from tests.unit.fakes import CONTROLLER, Bench, open_fds

DISKS = ("mmcblk0", "nvme0n1")
CONFIG = Config()
ALL = Config(disks=(DiskRule(DiskMatch(name="*")),))

ASKING = ("read", "read_apart", "directories", "links")
"""Calls that change nothing."""


def fill(bench: Bench, *names: str) -> None:
    for name in names or DISKS:
        bench.add(name)


def judge(bench: Bench, config: Config = CONFIG) -> tuple[Verdict, ...]:
    return choosing.choose(bench.scan.disks(), config)


def bring_up(
    exporter: Exporter, bench: Bench, config: Config = CONFIG, *, may_disconnect: bool = True
) -> Waits:
    """Do once what the daemon does whenever something has changed."""
    outcome = reconcile(exporter, bench, config, may_disconnect=may_disconnect)
    if outcome.error is not None:
        raise outcome.error
    return outcome.waits


def reconcile(
    exporter: Exporter, bench: Bench, config: Config = CONFIG, *, may_disconnect: bool = True
) -> Outcome:
    return exporter.reconcile(config, judge(bench, config), lambda: may_disconnect)


def start(bench: Bench, config: Config = CONFIG) -> Exporter:
    exporter = bench.exporter()
    exporter.prepare()
    bring_up(exporter, bench, config)
    return exporter


def of(exporter: Exporter, name: str) -> Drive:
    return next(e for e in exporter.drives.values() if e.name == name and e.hold)


def flushed(exporter: Exporter, name: str) -> int:
    """Flush a disk as the daemon does when it is time."""
    drive = of(exporter, name)
    drive.start_flush()
    return exporter.drives.end_flush(drive)


def snapshot(bench: Bench) -> object:
    """All that stands in configfs, attributes included."""
    gadget = ConfigFs(ROOT, bench.kernel).read_back(NAME)
    return gadget, bench.bound, bench.tree


# Start and end


def test_every_disk_gets_a_lun_in_the_order_of_the_plan(bench: Bench) -> None:
    fill(bench, "nvme10n1", "nvme2n1", "mmcblk1", "mmcblk0")
    exporter = start(bench)
    assert bench.files() == {0: "mmcblk0", 1: "mmcblk1", 2: "nvme2n1", 3: "nvme10n1"}
    assert (bench.bound, exporter.udc, exporter.gadget.note) == (
        CONTROLLER,
        CONTROLLER,
        "the only controller",
    )
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_ten_disks_share_the_nine_functions_that_the_kernel_binds_and_have_no_gap(
    bench: Bench,
) -> None:
    fill(bench, *(f"nvme{n}n1" for n in range(10)))
    start(bench)
    assert bench.files() == {n: f"nvme{n}n1" for n in range(10)}
    gadget = ConfigFs(ROOT, bench.kernel).read_back(NAME)
    assert gadget is not None
    assert [len(function.luns) for function in gadget.functions] == [2, *[1] * 8]


def test_a_read_only_disk_is_exported_read_only(bench: Bench) -> None:
    bench.add("mmcblk1", read_only=True)
    start(bench)
    assert bench.lun(0).read_only
    assert bench.lun(0).asked_read_only


def test_every_exported_disk_is_held_and_no_other(bench: Bench) -> None:
    fill(bench)
    bench.add("sda")
    exporter = start(bench)
    assert [drive.name for drive in exporter.drives.values()] == list(DISKS)
    assert all(drive.hold for drive in exporter.drives.values())


def test_a_disk_that_cannot_be_held_is_left_out_and_says_why(bench: Bench) -> None:
    fill(bench)
    bench.busy.add("mmcblk0")
    exporter = bench.exporter()
    exporter.prepare()
    judged = reconcile(exporter, bench).verdicts
    assert [(v.disk.name, v.exported, v.reason) for v in judged] == [
        ("mmcblk0", False, "mmcblk0 is in use on the board"),
        ("nvme0n1", True, "exported by the default"),
    ]
    assert bench.files() == {0: "nvme0n1"}


def test_a_disk_that_is_let_go_on_the_board_is_exported_then(bench: Bench) -> None:
    fill(bench)
    bench.busy.add("mmcblk0")
    exporter = start(bench)
    bench.busy.clear()
    bring_up(exporter, bench)
    assert bench.files() == {0: "nvme0n1", 1: "mmcblk0"}


def test_without_a_disk_there_is_no_gadget(bench: Bench) -> None:
    exporter = start(bench)
    assert bench.tree == []
    assert not reconcile(exporter, bench).wants_gadget


def test_slots_alone_are_a_gadget(bench: Bench) -> None:
    start(bench, CONFIG._replace(slots=2))
    assert bench.files() == {0: "", 1: ""}
    assert bench.bound


def test_a_serial_console_alone_is_a_gadget(bench: Bench) -> None:
    start(bench, CONFIG._replace(usb=Usb(acm=True)))
    assert bench.bound
    assert "gadgetd/functions/acm.usb0" in bench.tree


def test_closing_leaves_nothing_behind_and_lets_go_of_the_disks(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    before = open_fds()
    exporter.close()
    assert bench.tree == []
    assert bench.kernel.bus == [f"bind {CONTROLLER}", f"unbind {CONTROLLER}"]
    assert len(open_fds()) == len(before) - 4
    assert exporter.drives == {}
    assert bench.numbers.read_text() == ""
    exporter.close()


def test_the_disks_are_let_go_even_if_the_gadget_cannot_be_removed(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    kernel = FaultyKernel(bench.kernel, dict.fromkeys(range(500), errno.EIO))
    exporter.gadget._configfs = ConfigFs(ROOT, kernel)
    with pytest.raises(GadgetError):
        exporter.close()
    assert exporter.drives == {}
    assert exporter.udc == ""


def test_disconnecting_keeps_the_disks_held_so_that_they_can_be_flushed(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    exporter.gadget.disconnect()
    assert bench.bound == ""
    assert all(drive.hold for drive in exporter.drives.values())


def test_the_gadgets_removal_is_told_when_it_is_off_the_bus(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    seen: list[str] = []
    exporter.gadget.before_removal = lambda: seen.append(bench.bound or "off the bus")
    exporter.close()
    assert seen == ["off the bus"]


# After a daemon that was killed


def test_a_gadget_that_stands_is_adopted_and_nothing_is_unbound(bench: Bench) -> None:
    fill(bench)
    start(bench)
    before = snapshot(bench)
    kernel = FaultyKernel(bench.kernel)
    again = bench.exporter(kernel)
    again.prepare()
    assert (again.udc, again.gadget.note) == (CONTROLLER, "taken over from an earlier run")
    assert bring_up(again, bench) is Waits.NOTHING
    assert snapshot(bench) == before
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    changing = [call for call in kernel.calls if call[0] not in ASKING]
    assert changing == []


def test_what_was_not_flushed_when_the_daemon_was_killed_counts_as_written(bench: Bench) -> None:
    fill(bench)
    start(bench)
    again = start(bench)
    assert {drive.life for drive in again.drives.values()} == {Life.WRITING}
    assert all(drive.adopted for drive in again.drives.values())


def test_what_a_host_ejected_stays_ejected_after_a_kill(bench: Bench) -> None:
    fill(bench)
    start(bench)
    bench.host_ejects(0)
    again = start(bench)
    assert bench.files() == {0: "", 1: "nvme0n1"}
    assert of(again, "mmcblk0").life is Life.EJECTING
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_write_error_outlives_a_kill(bench: Bench) -> None:
    fill(bench, "mmcblk0", "nvme0n1", "nvme1n1")
    exporter = start(bench)
    exporter.drives.eject(of(exporter, "nvme0n1"), force=False)
    bench.flush_result = errno.EIO
    for name in ("mmcblk0", "nvme0n1"):
        assert flushed(exporter, name) == errno.EIO
    bench.flush_result = 0
    for _ in range(2):  # And a second one.
        bench.kill()
        again = start(bench)
        lives = {drive.name: drive.life for drive in again.drives.values()}
        assert lives == {
            "mmcblk0": Life.FAILED,
            "nvme0n1": Life.FAILED,
            "nvme1n1": Life.WRITING,
        }
        assert bench.files() == {0: "", 1: "", 2: "nvme1n1"}
    again.drives.insert(of(again, "nvme0n1"))
    bring_up(again, bench)
    bench.kill()
    assert of(start(bench), "nvme0n1").life is Life.WRITING


def test_a_write_error_outlives_two_kills_though_the_disk_was_away_in_between(
    bench: Bench,
) -> None:
    fill(bench, "mmcblk1", "nvme0n1")
    exporter = start(bench)
    bench.flush_result = errno.EIO
    flushed(exporter, "mmcblk1")
    bench.flush_result = 0
    bench.kill()
    bench.remove("mmcblk1")
    start(bench)
    bench.kill()
    bench.add("mmcblk1")
    assert of(start(bench), "mmcblk1").life is Life.FAILED


def test_a_disk_that_is_not_there_for_the_gadget_is_tried_on(bench: Bench) -> None:
    # The uevent of its removal has not come yet, or it has only just come back.
    fill(bench)
    node = str(bench.dev / "nvme0n1")
    disk = bench.kernel.disks.pop(node)
    exporter = bench.exporter()
    exporter.prepare()
    for _ in range(3):
        assert reconcile(exporter, bench).error is not None
        bench.clock.now += PAUSE_S + 1
    bench.kernel.disks[node] = disk
    assert reconcile(exporter, bench).error is None
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_a_write_error_is_not_of_the_card_that_came_into_its_place(bench: Bench) -> None:
    fill(bench, "mmcblk1")
    exporter = start(bench)
    bench.flush_result = errno.EIO
    flushed(exporter, "mmcblk1")
    bench.kill()
    bench.remove("mmcblk1")
    bench.add("mmcblk1", serial="another card")
    again = start(bench)
    assert of(again, "mmcblk1").number == 0
    assert of(again, "mmcblk1").life is not Life.FAILED


@pytest.mark.parametrize("reason", ["excluded", "in use", "left"])
def test_what_an_earlier_run_exported_and_we_do_not_is_forced_out(
    bench: Bench, reason: str
) -> None:
    fill(bench)
    start(bench)
    bench.kill()
    bench.lun(1).locked = True
    config = CONFIG
    if reason == "excluded":
        config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    elif reason == "in use":
        bench.busy.add("nvme0n1")
    else:
        bench.remove("nvme0n1")
    again = bench.exporter()
    again.prepare()
    assert bring_up(again, bench, config, may_disconnect=False) is Waits.NOTHING
    assert bench.files() == {0: "mmcblk0", 1: ""}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_disk_keeps_its_lun_after_a_kill_though_others_came_before_it(bench: Bench) -> None:
    fill(bench, "nvme0n1")
    exporter = start(bench)
    bench.add("mmcblk0")
    bring_up(exporter, bench)
    assert bench.files() == {0: "nvme0n1", 1: "mmcblk0"}
    start(bench)
    assert bench.files() == {0: "nvme0n1", 1: "mmcblk0"}
    assert len(bench.kernel.bus) == 3  # bound, and once disconnected for the arrival


def test_an_unbound_leftover_is_taken_down(bench: Bench) -> None:
    fill(bench)
    start(bench).gadget.disconnect()
    again = bench.exporter()
    again.prepare()
    assert bench.tree == []
    assert again.udc == ""


def test_a_half_built_leftover_is_taken_down(bench: Bench) -> None:
    bench.kernel.mkdir(ROOT / "usb_gadget" / NAME)
    bench.kernel.mkdir(ROOT / "usb_gadget" / NAME / "functions" / "mass_storage.0")
    bench.kernel.mkdir(ROOT / "usb_gadget" / f"{NAME}.old")
    bench.exporter().prepare()
    assert bench.tree == []


def test_gadgets_of_others_are_left_alone(bench: Bench) -> None:
    bench.kernel.mkdir(ROOT / "usb_gadget" / "theirs")
    fill(bench)
    start(bench).close()
    assert bench.tree == ["theirs"]


def test_a_standing_gadget_of_another_configuration_is_changed(bench: Bench) -> None:
    fill(bench)
    start(bench)
    start(bench, CONFIG._replace(usb=Usb(product="Another")))
    gadget = ConfigFs(ROOT, bench.kernel).read_back(NAME)
    assert gadget is not None
    assert gadget.product == "Another"
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_a_standing_gadget_of_another_configuration_waits_for_its_host(bench: Bench) -> None:
    fill(bench)
    start(bench)
    again = bench.exporter()
    again.prepare()
    config = CONFIG._replace(usb=Usb(product="Another"))
    assert bring_up(again, bench, config, may_disconnect=False) is Waits.IDLE
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


# Hot-plug


def test_an_arrival_is_bound_anew_when_that_is_allowed(bench: Bench) -> None:
    fill(bench, "mmcblk0")
    exporter = start(bench)
    bench.add("nvme0n1")
    outcome = reconcile(exporter, bench)
    assert (outcome.waits, outcome.error) == (Waits.NOTHING, None)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert outcome.reconnected


def test_an_arrival_waits_where_disks_would_be_disconnected(bench: Bench) -> None:
    fill(bench, "mmcblk0")
    exporter = start(bench)
    bench.add("nvme0n1")
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.IDLE
    assert bench.files() == {0: "mmcblk0"}
    assert exporter.gadget.luns == {0}
    assert of(exporter, "nvme0n1").hold  # Nobody may mount it meanwhile.
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert bring_up(exporter, bench) is Waits.NOTHING
    assert exporter.gadget.luns == {0, 1}


def test_a_disk_that_waits_is_not_taken_for_ejected(bench: Bench) -> None:
    fill(bench, "mmcblk0")
    exporter = start(bench)
    bench.add("nvme0n1")
    for _ in range(3):
        bring_up(exporter, bench, may_disconnect=False)
        exporter.drives.look()
    assert of(exporter, "nvme0n1").life is Life.WAITING


@pytest.mark.parametrize("may_disconnect", [False, True])
def test_with_a_slot_an_arrival_is_a_medium_inserted_and_no_reconnect(
    bench: Bench, may_disconnect: bool
) -> None:
    config = CONFIG._replace(slots=1)
    fill(bench, "mmcblk0")
    exporter = start(bench, config)
    assert bench.files() == {0: "mmcblk0", 1: ""}
    bench.add("nvme0n1")
    outcome = reconcile(exporter, bench, config, may_disconnect=may_disconnect)
    assert (outcome.waits, outcome.error) == (Waits.NOTHING, None)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert not outcome.reconnected


def test_with_all_slots_taken_an_arrival_reconnects(bench: Bench) -> None:
    config = CONFIG._replace(slots=1)
    fill(bench, "mmcblk0")
    exporter = start(bench, config)
    for name in ("nvme0n1", "nvme1n1"):
        bench.add(name)
        bring_up(exporter, bench, config)
    assert list(bench.files().values())[:3] == ["mmcblk0", "nvme0n1", "nvme1n1"]
    assert len(bench.kernel.bus) == 3


def test_a_disk_that_leaves_takes_only_its_own_medium_along(bench: Bench) -> None:
    fill(bench, "mmcblk0", "nvme0n1", "nvme1n1")
    exporter = start(bench)
    bench.lun(1).locked = True
    before = [bench.lun(n).inquiry for n in range(3)]
    bench.remove("nvme0n1")
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.NOTHING
    assert bench.files() == {0: "mmcblk0", 1: "", 2: "nvme1n1"}
    assert [bench.lun(n).inquiry for n in range(3)] == before
    assert exporter.drives[1].life is Life.GONE
    assert exporter.drives[1].hold is None
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_disk_that_comes_back_gets_its_lun_back(bench: Bench) -> None:
    fill(bench, "mmcblk0", "nvme0n1", "nvme1n1")
    exporter = start(bench)
    bench.remove("nvme0n1")
    bring_up(exporter, bench, may_disconnect=False)
    bench.add("nvme0n1")
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.NOTHING
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1", 2: "nvme1n1"}
    assert of(exporter, "nvme0n1").hold
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_another_disk_under_the_same_name_is_another_disk(bench: Bench) -> None:
    fill(bench, "sda", "sdb")
    exporter = start(bench, ALL)
    bench.remove("sda")
    bench.add("sda", serial="another", location="elsewhere")
    bring_up(exporter, bench, ALL)
    assert bench.files() == {0: "", 1: "sdb", 2: "sda"}
    bench.remove("sda")
    bench.add("sda")
    bring_up(exporter, bench, ALL)
    assert bench.files() == {0: "sda", 1: "sdb", 2: ""}


def test_twelve_cards_in_one_slot_are_one_lun(bench: Bench) -> None:
    fill(bench, "mmcblk1", "nvme0n1")
    exporter = start(bench)
    for n in range(12):
        bench.remove("mmcblk1")
        bring_up(exporter, bench, may_disconnect=False)
        assert bench.files() == {0: "", 1: "nvme0n1"}
        bench.add("mmcblk1", serial=f"card {n}")
        assert bring_up(exporter, bench, may_disconnect=False) is Waits.NOTHING
        assert bench.files() == {0: "mmcblk1", 1: "nvme0n1"}
        assert of(exporter, "mmcblk1").number == 0
    assert len(exporter.drives) == 2
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_card_swapped_between_two_looks_is_noticed(bench: Bench) -> None:
    # One removal and one arrival, and a single look after both.
    fill(bench, "mmcblk1")
    exporter = start(bench)
    first = of(exporter, "mmcblk1")
    bench.lun(0).locked = True
    bench.remove("mmcblk1")
    bench.add("mmcblk1", serial="another card")
    bring_up(exporter, bench)
    assert first.life is Life.GONE
    assert first.hold is None
    assert exporter.drives == {0: of(exporter, "mmcblk1")}
    assert of(exporter, "mmcblk1").verdict.disk.serial == "another card"
    assert bench.files() == {0: "mmcblk1"}
    # The host was shown an empty drive in between, and so knows of the change.
    assert not bench.lun(0).locked


def test_a_disk_that_left_between_the_look_and_the_build_leaves_nothing_half_done(
    bench: Bench,
) -> None:
    fill(bench)
    exporter = bench.exporter()
    exporter.prepare()

    def hold_and_lose(disk: Disk) -> Hold:
        held = bench.hold(disk)
        if disk.name == "nvme0n1":
            bench.remove("nvme0n1")
        return held

    exporter.drives._hold = hold_and_lose
    outcome = reconcile(exporter, bench)
    assert all(verdict.exported for verdict in outcome.verdicts)
    assert "there is no such disk" in str(outcome.error)
    assert bench.tree == []
    bring_up(exporter, bench)
    assert bench.files() == {0: "mmcblk0", 1: ""}


# Eject and insert


def test_a_hosts_eject_is_noticed_once(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    assert exporter.drives.look() == []
    bench.host_ejects(1)
    assert [drive.name for drive in exporter.drives.look()] == ["nvme0n1"]
    assert exporter.drives.look() == []
    assert of(exporter, "nvme0n1").life is Life.EJECTING
    assert of(exporter, "nvme0n1").ejected_by_host


def test_what_was_ejected_is_not_put_back_by_whatever_comes_next(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.host_ejects(0)
    bring_up(exporter, bench)  # Nobody has looked since the eject.
    bench.add("nvme1n1")
    bring_up(exporter, bench)
    bring_up(exporter, bench, CONFIG._replace(usb=Usb(product="Another")))
    assert bench.files() == {0: "", 1: "nvme0n1", 2: "nvme1n1"}
    assert of(exporter, "mmcblk0").life is Life.EJECTING


def test_a_disk_that_failed_and_was_ejected_is_not_put_back_either(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.host_ejects(0)
    exporter.drives.look()
    bench.flush_result = errno.EIO
    of(exporter, "mmcblk0").start_flush()
    assert exporter.drives.end_flush(of(exporter, "mmcblk0")) == errno.EIO
    bring_up(exporter, bench)
    assert bench.files() == {0: "", 1: "nvme0n1"}
    exporter.drives.insert(of(exporter, "mmcblk0"))
    bring_up(exporter, bench)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_a_gadget_that_somebody_removed_was_not_ejected(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    ConfigFs(ROOT, bench.kernel).teardown(NAME)
    bring_up(exporter, bench)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert bench.bound


def test_an_eject_is_refused_while_the_host_has_locked_the_medium(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.lun(0).locked = True
    with pytest.raises(GadgetError, match="the host has locked the medium"):
        exporter.drives.eject(of(exporter, "mmcblk0"), force=False)
    assert of(exporter, "mmcblk0").life is Life.WAITING
    exporter.drives.eject(of(exporter, "mmcblk0"), force=True)
    assert bench.files() == {0: "", 1: "nvme0n1"}
    assert of(exporter, "mmcblk0").life is Life.EJECTING
    assert not of(exporter, "mmcblk0").ejected_by_host


def test_an_ejected_disk_is_put_back_on_demand(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    exporter.drives.eject(of(exporter, "mmcblk0"), force=False)
    exporter.drives.insert(of(exporter, "mmcblk0"))
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.NOTHING
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert exporter.drives.look() == []


# Another configuration


def test_read_only_changes_only_its_own_lun(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    exporter.gadget._configfs = ConfigFs(ROOT, kernel := FaultyKernel(bench.kernel))
    rules = (DiskRule(DiskMatch(kinds=(Kind.NVME,)), read_only=True), *CONFIG.disks)
    config = CONFIG._replace(disks=rules)
    assert bring_up(exporter, bench, config, may_disconnect=False) is Waits.NOTHING
    assert (bench.lun(0).read_only, bench.lun(1).read_only) == (False, True)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    written = {path.parent.parent.name for verb, path in kernel.calls if verb == "write_apart"}
    assert written == {"mass_storage.1"}
    assert exporter.drives.look() == []
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_lun_that_the_host_has_locked_is_changed_later(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.lun(1).locked = True
    rules = (DiskRule(DiskMatch(kinds=(Kind.NVME,)), read_only=True), *CONFIG.disks)
    config = CONFIG._replace(disks=rules)
    outcome = reconcile(exporter, bench, config)
    assert (outcome.waits, outcome.error) == (Waits.LOCK, None)
    assert not bench.lun(1).read_only
    assert outcome.locked == ("nvme0n1",)
    assert not of(exporter, "nvme0n1").to_status().read_only
    assert exporter.drives.look() == []
    bench.lun(1).locked = False
    outcome = reconcile(exporter, bench, config, may_disconnect=False)
    assert (outcome.waits, outcome.error) == (Waits.NOTHING, None)
    assert bench.lun(1).read_only
    assert not outcome.locked
    assert of(exporter, "nvme0n1").to_status().read_only


@pytest.mark.parametrize("locked", [False, True])
def test_a_disk_that_was_taken_over_is_read_only_as_its_lun_is(bench: Bench, locked: bool) -> None:
    fill(bench)
    start(bench)
    bench.kill()
    bench.lun(1).locked = locked
    rules = (DiskRule(DiskMatch(kinds=(Kind.NVME,)), read_only=True), *CONFIG.disks)
    again = start(bench, CONFIG._replace(disks=rules))
    assert bench.lun(1).read_only is not locked
    assert of(again, "nvme0n1").to_status().read_only is not locked
    assert not of(again, "mmcblk0").to_status().read_only


def test_a_lun_that_changes_while_another_change_waits_shows_what_it_is(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.add("nvme1n1")
    rules = (DiskRule(DiskMatch(name="nvme0n1"), read_only=True), *CONFIG.disks)
    config = CONFIG._replace(disks=rules)
    assert bring_up(exporter, bench, config, may_disconnect=False) is Waits.IDLE
    assert bench.lun(1).read_only
    assert of(exporter, "nvme0n1").to_status().read_only


def test_a_label_changes_the_name_and_ejects_nothing(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    rules = (DiskRule(DiskMatch(kinds=(Kind.NVME,)), label="scratch"), *CONFIG.disks)
    config = CONFIG._replace(disks=rules)
    bring_up(exporter, bench, config, may_disconnect=False)
    assert bench.lun(1).inquiry == "a1b2c3d4scratch         0.1 "
    assert of(exporter, "nvme0n1").to_status().inquiry == "a1b2c3d4 scratch"
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_disk_that_is_excluded_now_is_taken_from_the_host_at_once(bench: Bench) -> None:
    fill(bench, "mmcblk0", "nvme0n1", "nvme1n1")
    exporter = start(bench)
    bench.lun(1).locked = True
    config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    bring_up(exporter, bench, config, may_disconnect=False)
    assert bench.files() == {0: "mmcblk0", 1: "", 2: "nvme1n1"}
    assert of(exporter, "nvme0n1").life is Life.EJECTING
    flushed(exporter, "nvme0n1")
    bring_up(exporter, bench, config, may_disconnect=False)
    assert [drive.name for drive in exporter.drives.values()] == ["mmcblk0", "nvme1n1"]
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_disk_that_is_excluded_now_is_held_until_it_is_flushed(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    bench.flush_result = None
    for _ in range(3):
        bring_up(exporter, bench, config)
        drive = of(exporter, "nvme0n1")
        assert (drive.life, drive.leaving) == (Life.EJECTING, True)
    before = len(open_fds())
    drive.start_flush()
    bring_up(exporter, bench, config)
    bench.flushes[-1].finish()
    exporter.drives.end_flush(drive)
    assert drive.life is Life.EJECTED
    bring_up(exporter, bench, config)
    assert drive.hold is None
    assert len(open_fds()) == before - 2
    assert [each.name for each in exporter.drives.values()] == ["mmcblk0"]


def test_a_disk_that_is_excluded_and_does_not_take_its_data_stays_a_failure(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    bring_up(exporter, bench, config)
    bench.flush_result = errno.EIO
    flushed(exporter, "nvme0n1")
    bench.flush_result = 0
    for each in (config, CONFIG, config, CONFIG):
        bring_up(exporter, bench, each)
        assert of(exporter, "nvme0n1").life is Life.FAILED
        assert bench.files() == {0: "mmcblk0", 1: ""}
    # As after any eject, it takes an insert.
    exporter.drives.insert(of(exporter, "nvme0n1"))
    bring_up(exporter, bench)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_a_disk_that_is_wanted_again_comes_back_once_it_is_flushed(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    bring_up(exporter, bench, config)
    drive = of(exporter, "nvme0n1")
    bench.flush_result = None
    drive.start_flush()
    bring_up(exporter, bench)
    # What the flush is to tell would be nobody's if the disk were given back before.
    assert drive.life is Life.EJECTING
    assert bench.files() == {0: "mmcblk0", 1: ""}
    bench.flushes[-1].finish()
    exporter.drives.end_flush(drive)
    bring_up(exporter, bench, may_disconnect=False)
    assert of(exporter, "nvme0n1") is drive
    assert (drive.life, drive.leaving) == (Life.WAITING, False)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_disk_that_the_host_has_not_seen_yet_can_be_excluded(bench: Bench) -> None:
    fill(bench, "mmcblk0")
    exporter = start(bench)
    bench.add("nvme0n1")
    assert bring_up(exporter, bench, may_disconnect=False) is Waits.IDLE
    config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    bring_up(exporter, bench, config, may_disconnect=False)
    flushed(exporter, "nvme0n1")
    assert bring_up(exporter, bench, config, may_disconnect=False) is Waits.NOTHING
    assert [each.name for each in exporter.drives.values()] == ["mmcblk0"]
    assert bench.files() == {0: "mmcblk0"}


def test_a_disk_that_has_left_and_is_excluded_has_no_row(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.remove("nvme0n1")
    bring_up(exporter, bench)
    bench.add("nvme0n1")
    bring_up(exporter, bench, CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),)))
    assert [each.name for each in exporter.drives.values()] == ["mmcblk0"]


def test_excluding_the_last_disk_disconnects_no_other(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    config = CONFIG._replace(exclude=(DiskMatch(name="nvme0n1"),))
    assert bring_up(exporter, bench, config) is Waits.NOTHING
    assert bench.files() == {0: "mmcblk0", 1: ""}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_excluding_all_disks_leaves_the_host_empty_drives(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    nothing = CONFIG._replace(exclude=(DiskMatch(name="*"),))
    bring_up(exporter, bench, nothing)
    assert bench.files() == {0: "", 1: ""}
    for name in DISKS:
        flushed(exporter, name)
    bring_up(exporter, bench, nothing)
    assert bench.files() == {0: "", 1: ""}
    assert exporter.drives == {}
    assert bench.bound


def test_other_strings_take_the_gadget_down_and_up_when_that_is_allowed(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    config = CONFIG._replace(usb=Usb(vendor_id=0x1234))
    assert bring_up(exporter, bench, config, may_disconnect=False) is Waits.IDLE
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert bring_up(exporter, bench, config) is Waits.NOTHING
    assert bench.kernel.bus == [f"bind {CONTROLLER}", f"unbind {CONTROLLER}", f"bind {CONTROLLER}"]


def test_the_same_configuration_changes_nothing(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    before = snapshot(bench)
    for _ in range(3):
        outcome = reconcile(exporter, bench)
        assert (outcome.waits, outcome.error) == (Waits.NOTHING, None)
        assert not outcome.reconnected
    assert snapshot(bench) == before


# Controllers


def test_a_controller_that_is_taken_is_left_and_the_next_one_used(bench: Bench) -> None:
    bench.add_udc("dummy_udc.1")
    bench.kernel.udcs["dummy_udc.1"].in_endpoints = 0  # Refused, though it looks free.
    fill(bench)
    exporter = start(bench)
    assert bench.bound == exporter.udc == CONTROLLER
    assert "dummy_udc.1 is refused by the kernel" in exporter.gadget.note


def test_the_configured_controller_is_used_and_no_other(bench: Bench) -> None:
    bench.add_udc("dummy_udc.1")
    fill(bench)
    config = CONFIG._replace(usb=Usb(udc="dummy_udc.1"))
    exporter = start(bench, config)
    assert (bench.bound, exporter.gadget.note) == ("dummy_udc.1", "named by usb.udc")


def test_another_controller_in_the_configuration_moves_the_gadget(bench: Bench) -> None:
    bench.add_udc("dummy_udc.1")
    fill(bench)
    exporter = start(bench, CONFIG._replace(usb=Usb(udc=CONTROLLER)))
    config = CONFIG._replace(usb=Usb(udc="dummy_udc.1"))
    assert bring_up(exporter, bench, config, may_disconnect=False) is Waits.IDLE
    assert bench.bound == CONTROLLER
    assert bring_up(exporter, bench, config) is Waits.NOTHING
    assert bench.bound == exporter.udc == "dummy_udc.1"


def test_without_a_controller_the_gadget_stands_ready_and_says_why(bench: Bench) -> None:
    bench.remove_udc(CONTROLLER)
    fill(bench)
    exporter = start(bench)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert (exporter.udc, exporter.gadget.note) == ("", "no USB device controller")
    bench.add_udc(CONTROLLER)
    assert bring_up(exporter, bench) is Waits.NOTHING
    assert bench.bound == CONTROLLER


def test_a_controller_that_leaves_is_not_used_any_more(bench: Bench) -> None:
    fill(bench)
    exporter = start(bench)
    bench.remove_udc(CONTROLLER)
    assert bring_up(exporter, bench) is Waits.CONTROLLER
    assert exporter.udc == ""


def test_without_a_place_for_the_numbers_the_disks_are_exported_all_the_same(bench: Bench) -> None:
    bench.numbers.parent.write_text("a file where a directory should be")
    fill(bench)
    start(bench)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


# Refused and killed at every step


Scenario = Callable[[Bench, Exporter], None]


def boot(bench: Bench, exporter: Exporter) -> None:
    exporter.prepare()
    bring_up(exporter, bench)


def rebuild(bench: Bench, exporter: Exporter) -> None:
    boot(bench, exporter)
    bring_up(exporter, bench, CONFIG._replace(usb=Usb(product="Another")))


def arrive(bench: Bench, exporter: Exporter) -> None:
    boot(bench, exporter)
    bench.add("nvme1n1")
    bring_up(exporter, bench)


def protect(bench: Bench, exporter: Exporter) -> None:
    boot(bench, exporter)
    rules = (DiskRule(DiskMatch(kinds=(Kind.NVME,)), read_only=True), *CONFIG.disks)
    bring_up(exporter, bench, CONFIG._replace(disks=rules))


def leave(bench: Bench, exporter: Exporter) -> None:
    boot(bench, exporter)
    bench.remove("mmcblk0")
    bring_up(exporter, bench)


def end(bench: Bench, exporter: Exporter) -> None:
    boot(bench, exporter)
    exporter.gadget.disconnect()
    exporter.close()


SCENARIOS = [boot, rebuild, arrive, protect, leave, end]
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda f: f.__name__)


Fresh = Callable[[], Bench]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fresh]:
    """Give as many boards with two disks as a test wants, one after the other."""
    made: list[Bench] = []

    def make() -> Bench:
        if made:
            made.pop().close()
        path = tmp_path / "bench"
        shutil.rmtree(path, ignore_errors=True)
        made.append(Bench(path, monkeypatch))
        fill(made[-1])
        return made[-1]

    yield make
    for bench in made:
        bench.close()


def calls_of(fresh: Fresh, scenario: Scenario) -> list[tuple[str, Path]]:
    bench = fresh()
    counting = FaultyKernel(bench.kernel)
    scenario(bench, bench.exporter(counting))
    assert len(counting.calls) > 40
    return counting.calls


@each_scenario
def test_killed_at_any_call_the_next_daemon_comes_to_the_planned_gadget(
    fresh: Fresh, scenario: Scenario
) -> None:
    for at, call in enumerate(calls_of(fresh, scenario)):
        bench = fresh()
        killed = bench.exporter(FaultyKernel(bench.kernel, kill_at=at))
        with pytest.raises(Killed):
            scenario(bench, killed)
        bench.kill()
        again = start(bench)
        there = sorted(bench.scan.found)
        assert sorted(filter(None, bench.files().values())) == there, (at, call)
        assert bench.bound == again.udc == CONTROLLER
        gadget = ConfigFs(ROOT, bench.kernel).read_back(NAME)
        assert gadget is not None
        assert gadget.product == Usb().product
        assert not any(lun.read_only for lun in gadget.luns)
        assert [line for line in bench.tree if "/" not in line] == [NAME]
        again.close()
        assert bench.tree == []


# The errnos that mean something to the code go through the scenarios that ask for them.
REFUSALS = [
    *((scenario, errno.EIO) for scenario in SCENARIOS),
    *((scenario, number) for scenario in (arrive, leave) for number in (errno.EBUSY, errno.ENOENT)),
]


@pytest.mark.parametrize(
    ("scenario", "number"),
    REFUSALS,
    ids=[f"{f.__name__}-{errno.errorcode[n]}" for f, n in REFUSALS],
)
def test_refused_at_any_call_trying_again_comes_to_the_planned_gadget(
    fresh: Fresh, scenario: Scenario, number: int
) -> None:
    for at, call in enumerate(calls_of(fresh, scenario)):
        bench = fresh()
        exporter = bench.exporter(FaultyKernel(bench.kernel, {at: number}))
        with contextlib.suppress(GadgetError):
            scenario(bench, exporter)
        # What the daemon does after a while; the kernel takes everything by now.
        bench.clock.now += PAUSE_S
        exporter.gadget._configfs = ConfigFs(ROOT, bench.kernel)
        bring_up(exporter, bench)
        there = sorted(bench.scan.found)
        assert sorted(filter(None, bench.files().values())) == there, (at, call)
        assert bench.bound == exporter.udc == CONTROLLER
        exporter.close()
        assert bench.tree == []


def test_a_refusal_while_building_leaves_nothing_and_names_the_step(fresh: Fresh) -> None:
    building = [
        at
        for at, (verb, path) in enumerate(calls_of(fresh, boot))
        if verb in ("mkdir", "symlink") or (verb == "write" and path.name != "UDC")
    ]
    assert len(building) >= 30
    for at in building:
        bench = fresh()
        exporter = bench.exporter(FaultyKernel(bench.kernel, {at: errno.EIO}))
        with pytest.raises(GadgetError) as caught:
            boot(bench, exporter)
        assert caught.value.step.split()[0] in ("make", "write", "link")
        assert caught.value.errno == errno.EIO
        assert bench.tree == []
        assert bench.kernel.bus == []


class Host:
    """What may happen to an exporter, in any order, beside what must hold after each step."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.exporter = start(bench, ALL)
        self.ever: dict[str, int] = {}

    def do(self, step: str, name: str) -> None:
        bench = self.bench
        if step == "add" and name not in bench.scan.found:
            bench.add(name)
        elif step == "remove" and name in bench.scan.found:
            bench.remove(name)
        elif step == "eject":
            mine = [n for n, file in bench.files().items() if file == name]
            for number in mine:
                bench.host_ejects(number)
        elif step == "kill":
            bench.kill()
            self.exporter = bench.exporter()
            self.exporter.prepare()
        elif step == "insert":
            for drive in self.exporter.drives.values():
                if drive.life is Life.EJECTING and drive.name == name:
                    drive.signal(Signal.FLUSH_DONE)
                    self.exporter.drives.insert(drive)
        bring_up(self.exporter, bench, ALL)
        self.check()

    def check(self) -> None:
        files = self.bench.files()
        assert list(files) == list(range(len(files))), "a host stops looking at the first gap"
        shown = [file for file in files.values() if file]
        assert len(shown) == len(set(shown)), "a disk in two LUNs"
        assert set(shown) <= set(self.bench.scan.found)
        for drive in self.exporter.drives.values():
            if drive.hold:
                assert self.ever.setdefault(drive.name, drive.number) == drive.number
                assert (files[drive.number] == drive.name) == drive.has_medium


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "remove", "eject", "insert", "kill"]),
            st.sampled_from(["mmcblk0", "mmcblk1", "nvme0n1", "nvme1n1", "sda"]),
        ),
        max_size=15,
    )
)
def test_whatever_happens_numbers_do_not_move_and_only_ejected_disks_are_missing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        host = Host(Bench(tmp_path_factory.mktemp("bench"), monkeypatch))
        for step, name in steps:
            host.do(step, name)
        host.exporter.close()
        assert host.bench.tree == []
        host.bench.close()
