"""The daemon's whole life on a board in memory, with a clock that tests turn."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from gadgetd.blockscan import NO_MEDIUM
from gadgetd.config.settings import Usb
from gadgetd.configfs import ConfigFs
from gadgetd.control.commands import Commands
from gadgetd.daemon import Daemon
from gadgetd.disks.checkup import SETTLE_S
from gadgetd.disks.disk import Found, Health, Kind, Pending
from gadgetd.disks.kernel_log import IoError
from gadgetd.errors import ControlError, GadgetError, Problem
from gadgetd.export.drive import QUIET_S, Drive
from gadgetd.export.drives import TICK_S
from gadgetd.export.ending import RETRY_S
from gadgetd.show.events import events
from gadgetd.status import Life, Phase, Status
from gadgetd.usb.gadget import UsbIdentity
from gadgetd.usb.link import GONE_S
from tests.contract.faulty import FaultyKernel
from tests.fake_configfs import ROOT
from tests.unit.fakes import CM4, CONTROLLER, MIB, Bench, lives

NVME = Pending("0000:01:00.0", Kind.NVME, "NVMe at 0000:01:00.0")
SLOT = Pending("mmc1", Kind.SD, "card in mmc1", certain=False)
TIMES = 3
"""As many ticks as it takes for a look, a flush and its result to follow one another."""


def boot(bench: Bench, *names: str) -> Daemon:
    for name in names:
        bench.add(name)
    return bench.daemon()


def of(daemon: Daemon, name: str) -> Drive:
    return next(drive for drive in daemon.drives if drive.name == name and drive.hold)


def problem(daemon: Daemon) -> Problem:
    assert daemon.status.problem is not None
    return daemon.status.problem


def advice(daemon: Daemon) -> str:
    return "; ".join(each.message for each in daemon.status.advice)


def hints(daemon: Daemon) -> str:
    return "; ".join(each.hint for each in daemon.status.advice)


def left_out(status: Status) -> dict[str, str]:
    return {row.disk.name: row.reason for row in status.disks if row.lun is None}


def host_writes(bench: Bench, name: str) -> None:
    bench.traffic(name, written=MIB)
    bench.loop.run_for(TICK_S * 1.1)


def host_ejects(bench: Bench, *luns: int) -> None:
    for lun in luns:
        bench.host_ejects(lun)
    bench.loop.run_for(TICK_S * 1.1)


# Boot


def test_disks_that_are_there_are_exported_at_once(bench: Bench) -> None:
    started = bench.clock()
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    assert bench.clock() - started < 0.1
    assert (daemon.status.phase, daemon.status.message) == (Phase.EXPORTED, "2 disks exported")
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "idle"}


def test_unwritten_data_is_bounded_before_the_host_can_write(bench: Bench) -> None:
    seen: list[int] = []
    bench.kernel.changed = lambda: seen.append(bench.vm("dirty_bytes"))
    boot(bench, "mmcblk0")
    assert seen == [8 * MIB]


def test_a_bound_that_the_kernel_refuses_is_told_and_stops_nothing(bench: Bench) -> None:
    (bench.proc / "sys" / "vm" / "dirty_bytes").unlink()
    daemon = boot(bench, "mmcblk0")
    assert daemon.status.phase is Phase.EXPORTED
    assert "cannot set vm.dirty_bytes" in advice(daemon)


def test_the_bind_waits_for_a_disk_on_its_way_and_no_longer_than_needed(bench: Bench) -> None:
    bench.scan.on_their_way = [NVME]
    daemon = boot(bench, "mmcblk0")
    assert (daemon.status.phase, daemon.status.message) == (
        Phase.WAITING_FOR_DISKS,
        "waiting for NVMe at 0000:01:00.0",
    )
    bench.loop.run_for(4)
    assert bench.tree == []
    bench.scan.on_their_way = []
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


@pytest.mark.parametrize(
    ("pending", "key", "default_s"), [(NVME, "disks_s", 10.0), (SLOT, "mmc_s", 2.0)]
)
@pytest.mark.parametrize("configured_s", [None, 0, 3])
def test_a_disk_that_does_not_come_is_waited_for_up_to_its_limit(
    bench: Bench, pending: Pending, key: str, default_s: float, configured_s: float | None
) -> None:
    limit_s = default_s if configured_s is None else configured_s
    if configured_s is not None:
        bench.configure(f"wait: {{{key}: {configured_s}}}\n")
    bench.scan.on_their_way = [pending]
    started = bench.clock()
    daemon = boot(bench, "mmcblk0")
    if limit_s:
        bench.loop.run_for(limit_s - 0.2)
        assert daemon.status.phase is Phase.WAITING_FOR_DISKS
    bench.loop.run_for(0.3)
    assert daemon.status.phase is Phase.EXPORTED
    assert bench.clock() - started < limit_s + 0.5


def test_waiting_for_a_disk_does_not_spin(bench: Bench) -> None:
    bench.scan.on_their_way = [NVME, SLOT]
    boot(bench, "mmcblk0")
    assert bench.loop.run_for(9) <= 3


def test_disks_that_are_exported_do_not_wait_for_one_on_its_way(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.scan.on_their_way = [NVME]
    bench.add("mmcblk1")
    bench.host_lets_go()
    assert daemon.status.phase is Phase.EXPORTED
    assert bench.files() == {0: "mmcblk0", 1: "mmcblk1"}


def test_no_disk_is_said_and_one_that_comes_is_exported(bench: Bench) -> None:
    daemon = boot(bench)
    assert (daemon.status.phase, daemon.status.message) == (
        Phase.WAITING_FOR_DISKS,
        "no disk to export; waiting for one",
    )
    assert daemon.status.problem is None
    bench.loop.run_for(600)
    bench.add("nvme0n1")
    bench.loop.settle()
    assert daemon.status.phase is Phase.EXPORTED


def test_a_controller_that_comes_late_is_used_at_once(bench: Bench) -> None:
    bench.remove_udc(CONTROLLER)
    bench.kernel.udcs.clear()
    daemon = boot(bench, "mmcblk0")
    assert (daemon.status.phase, daemon.status.problem) == (Phase.WAITING_FOR_UDC, None)
    bench.loop.run_for(5)
    bench.add_udc(CONTROLLER)
    bench.loop.settle()
    assert daemon.status.phase is Phase.EXPORTED


def test_a_controller_that_never_comes_is_said_after_its_limit(bench: Bench) -> None:
    bench.remove_udc(CONTROLLER)
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(9.5)
    assert daemon.status.problem is None
    bench.loop.run_for(1)
    assert daemon.status.phase is Phase.WAITING_FOR_UDC
    assert problem(daemon).message == "no USB device controller after 10 s"
    assert "dr_mode=peripheral" in problem(daemon).hint
    assert bench.loop.run_for(600) == 0


def test_a_controller_that_another_gadget_has_is_named(bench: Bench) -> None:
    bench.configure("wait: {udc_s: 0}\n")
    (bench.sys / "class" / "udc" / CONTROLLER / "function").write_text("g_ether\n")
    daemon = boot(bench, "mmcblk0")
    assert "is used by gadget g_ether" in problem(daemon).message


def test_each_disk_that_is_left_out_has_its_reason(bench: Bench) -> None:
    bench.add("sda")
    bench.add("loop0", refusal="loop device: never exported")
    bench.busy.add("nvme0n1")
    bench.configure("exclude: [{name: mmcblk1}]\n")
    daemon = boot(bench, "mmcblk0", "mmcblk1", "nvme0n1")
    reasons = left_out(daemon.status)
    assert reasons["loop0"] == "loop device: never exported"
    assert reasons["mmcblk1"] == f"excluded by {bench.config_path}:1"
    assert reasons["nvme0n1"] == "nvme0n1 is in use on the board"
    assert "kind: usb" in reasons["sda"]


def test_a_card_that_is_put_into_a_usb_reader_is_exported(bench: Bench) -> None:
    bench.configure("disks: [{kind: usb}]\n")
    disk = bench.add("sda", refusal=NO_MEDIUM, size_bytes=0)
    reader = bench.sys / "block" / "sda"
    for name, text in (("removable", "1"), ("events_poll_msecs", "-1"), ("size", "0")):
        (reader / name).write_text(f"{text}\n")
    daemon = bench.daemon()
    assert left_out(daemon.status) == {"sda": NO_MEDIUM}
    # The kernel tells of it, and of its size to whoever opens the reader.
    (reader / "size").write_text("2048\n")
    looked = bench.scan.disks
    cards = iter((looked(),))
    bench.add("sda", size_bytes=disk.size_bytes + MIB)

    def disks(own: Collection[UsbIdentity] = ()) -> tuple[Found, ...]:
        return next(cards, None) or looked(own)

    bench.scan.disks = disks  # type: ignore[method-assign]
    bench.loop.settle()
    assert bench.files() == {0: "sda"}


def test_a_disk_that_is_unmounted_on_the_board_is_exported_then(bench: Bench) -> None:
    bench.busy.add("mmcblk0")
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.busy.clear()
    (bench.proc / "self" / "mountinfo").write_text("another table\n")
    bench.host_lets_go()
    assert bench.files() == {0: "nvme0n1", 1: "mmcblk0"}
    assert left_out(daemon.status) == {}


def test_the_scan_is_told_what_our_own_gadget_looks_like(bench: Bench) -> None:
    bench.configure("usb: {vendor_id: 0x1d6b, serial: bench-7}\n")
    boot(bench, "mmcblk0")
    assert bench.scan.asked_with[-1] == {UsbIdentity(0x1D6B, Usb().product_id, "bench-7")}


def test_while_another_identity_waits_for_the_host_the_scan_is_told_both(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.configure("usb: {serial: bench-7}\n")
    old, new = (UsbIdentity(0x0A5C, 0x0104, serial) for serial in (CM4.serial, "bench-7"))
    daemon.reload()
    bench.loop.settle()
    assert bench.scan.asked_with[-1] == {old, new}
    bench.host_lets_go()
    bench.scan.announce()
    bench.loop.settle()
    assert bench.scan.asked_with[-1] == {new}
    # Killed and started with another file: the host sees what stands until that has changed.
    host_writes(bench, "mmcblk0")
    bench.configure("")
    bench.daemon()
    assert bench.scan.asked_with[-1] == {old, new}


def test_on_a_board_without_configuration_the_serial_is_the_boards(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    assert bench.scan.asked_with[-1] == {UsbIdentity(0x0A5C, 0x0104, CM4.serial)}


def test_the_first_status_that_is_shown_already_knows_the_outcome(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    assert bench.panel.statuses[0].phase is Phase.EXPORTED


# The configuration

BROKEN = "disks:\n  - kind: floppy\n"


def test_a_board_that_is_locked_says_so_of_its_disks_and_blames_no_file(bench: Bench) -> None:
    bench.configure("boards: [another]\n")
    daemon = boot(bench, "mmcblk0")
    assert left_out(daemon.status) == {"mmcblk0": "this board is locked"}
    assert problem(daemon).hint.startswith("take an image for this board, or one that names no")


def test_a_wrong_configuration_at_boot_exports_nothing(bench: Bench) -> None:
    bench.configure(BROKEN)
    daemon = boot(bench, "mmcblk0")
    assert daemon.status.phase is Phase.CONFIG_ERROR
    told = problem(daemon)
    assert (told.file, told.line, told.column, told.key) == (
        str(bench.config_path),
        2,
        11,
        "disks[0].kind",
    )
    assert bench.tree == []
    assert left_out(daemon.status) == {
        "mmcblk0": "the configuration is wrong",
    }
    assert all(status.phase is Phase.CONFIG_ERROR for status in bench.panel.statuses)


def test_a_wrong_configuration_at_boot_takes_down_what_a_killed_daemon_left(bench: Bench) -> None:
    # It may be the very disk that the file was to exclude.
    boot(bench, "mmcblk0")
    bench.configure(BROKEN)
    daemon = bench.daemon()
    assert bench.tree == []
    assert daemon.status.phase is Phase.CONFIG_ERROR


def test_a_leftover_that_cannot_be_taken_down_is_told_and_tried_again(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.configure(BROKEN)
    kernel = FaultyKernel(bench.kernel, dict.fromkeys(range(200), errno.EIO))
    daemon = bench.daemon(kernel)
    assert problem(daemon).message
    kernel._fail = {}
    bench.loop.run_for(RETRY_S * 2)
    assert bench.tree == []
    assert daemon.status.phase is Phase.CONFIG_ERROR


def test_a_corrected_configuration_exports(bench: Bench) -> None:
    bench.configure(BROKEN)
    daemon = boot(bench, "mmcblk0")
    bench.configure("disks:\n  - kind: emmc\n")
    daemon.reload()
    bench.loop.settle()
    assert (daemon.status.phase, daemon.status.problem) == (Phase.EXPORTED, None)
    assert daemon.status.advice == ()


def test_a_wrong_configuration_later_changes_nothing_and_says_why(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    before = bench.files()
    bench.configure(BROKEN)
    daemon.reload()
    bench.loop.settle()
    assert daemon.status.phase is Phase.EXPORTED
    assert bench.files() == before
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    told = daemon.status.advice[0]
    assert (told.line, told.key) == (2, "disks[0].kind")
    bench.configure("")
    daemon.reload()
    assert "floppy" not in advice(daemon)


def test_a_good_configuration_changes_only_what_differs(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.configure(
        "disks:\n  - {kind: nvme, read_only: true}\n  - kind: emmc\n"
        "writeback: {dirty_bytes: 1MiB, dirty_background_bytes: 512KiB}\n"
    )
    daemon.reload()
    bench.loop.settle()
    assert [bench.lun(number).read_only for number in (0, 1)] == [False, True]
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert bench.vm("dirty_bytes") == MIB
    assert daemon.status.disks[1].read_only


def test_a_configuration_that_disconnects_waits_for_an_idle_host(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.configure("usb: {product: Another}\n")
    daemon.reload()
    for _ in range(8):
        host_writes(bench, "mmcblk0")
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    bench.flush_result = 0
    bench.host_lets_go()
    assert bench.kernel.bus[1:] == [f"unbind {CONTROLLER}", f"bind {CONTROLLER}"]


def test_a_disk_that_is_excluded_now_is_taken_from_the_host(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.configure("exclude: [{kind: nvme}]\n")
    daemon.reload()
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: ""}
    assert left_out(daemon.status)["nvme0n1"].startswith("excluded by")


def test_a_disk_that_is_excluded_now_is_flushed_before_it_is_let_go(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.lun(1).locked = True
    bench.flush_result = None
    bench.configure("exclude: [{kind: nvme}]\non_ejected: poweroff\n")
    daemon.reload()
    bench.loop.run_for(60)
    assert bench.files() == {0: "mmcblk0", 1: ""}
    assert lives(daemon)["nvme0n1"] == "ejected, flushing"
    assert of(daemon, "nvme0n1").hold  # Nobody may mount it meanwhile.
    assert left_out(daemon.status) == {}
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "idle"}
    assert left_out(daemon.status)["nvme0n1"].startswith("excluded by")
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    # It is no eject of the host's, which would be told and followed.
    assert bench.power == []


def test_a_disk_that_is_excluded_and_wanted_again_at_once_comes_back(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.flush_result = None
    for text in ("exclude: [{kind: nvme}]\n", ""):
        bench.configure(text)
        daemon.reload()
        bench.loop.run_for(5)
    assert lives(daemon)["nvme0n1"] == "ejected, flushing"
    bench.flush_result = 0
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "idle"}


def test_a_write_error_of_a_disk_that_is_excluded_and_wanted_again_is_not_forgotten(
    bench: Bench,
) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.flush_result = None
    for text in ("exclude: [{kind: nvme}]\n", ""):
        bench.configure(text)
        daemon.reload()
        bench.loop.run_for(5)
    bench.flush_result = 0
    bench.flushes[-1].finish(errno.EIO)
    bench.loop.settle()
    assert lives(daemon)["nvme0n1"] == "write error"
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)


def test_a_change_that_waits_says_what_for(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    bench.configure("disks: [{kind: emmc, read_only: true}]\n")
    daemon.reload()
    bench.loop.settle()
    assert "a change of mmcblk0 waits: the host has locked the medium" in advice(daemon)
    assert not daemon.status.disks[0].read_only
    bench.lun(0).locked = False
    bench.loop.run_for(RETRY_S + 0.5)
    assert "waits" not in advice(daemon)
    assert daemon.status.disks[0].read_only
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.configure("usb: {product: Another}\n")
    daemon.reload()
    bench.loop.settle()
    assert "waits until the host lets go" in advice(daemon)
    bench.flush_result = 0
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert advice(daemon) == ""
    bench.loop.run_for(30)
    assert bench.loop.run_for(600) == 0


# A step that the kernel refuses


def test_a_refused_step_is_told_and_tried_again_until_it_works(bench: Bench) -> None:
    bench.add("mmcblk0")
    disk = bench.kernel.disks[str(bench.dev / "mmcblk0")]
    disk.size_bytes = 0
    daemon = bench.daemon()
    assert daemon.status.phase is Phase.FAILED
    assert "lun.0/file" in problem(daemon).message
    assert bench.tree == []
    assert bench.loop.run_for(RETRY_S * 10) <= 12
    disk.size_bytes = 1 << 20
    bench.loop.run_for(RETRY_S + 0.5)
    assert (daemon.status.phase, daemon.status.problem) == (Phase.EXPORTED, None)


def test_a_kernel_without_configfs_is_told(bench: Bench) -> None:
    bench.kernel.mounted = bench.kernel.configfs = False
    daemon = boot(bench, "mmcblk0")
    assert "this kernel has no configfs" in problem(daemon).message
    bench.kernel.configfs = True
    bench.loop.run_for(RETRY_S + 0.5)
    assert daemon.status.phase is Phase.EXPORTED


def test_a_gadget_that_somebody_removed_is_built_again(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    ConfigFs(ROOT, bench.kernel).teardown("gadgetd")
    bench.loop.run_for(RETRY_S * 2)
    assert bench.files() == {0: "mmcblk0"}
    assert daemon.status.phase is Phase.EXPORTED
    assert daemon.status.problem is None


# Wake-ups


def test_without_a_host_nothing_wakes_up(bench: Bench) -> None:
    bench.unplug()
    boot(bench, "mmcblk0", "nvme0n1")
    bench.loop.run_for(30)
    assert bench.loop.run_for(600) == 0


def test_without_a_disk_nothing_wakes_up(bench: Bench) -> None:
    boot(bench)
    assert bench.loop.run_for(600) == 0


def test_an_idle_host_costs_two_wakeups_a_second_at_most(bench: Bench) -> None:
    boot(bench, "mmcblk0", "nvme0n1")
    bench.loop.run_for(30)
    assert 0 < bench.loop.run_for(60) <= 120


def test_a_disk_that_failed_and_is_ejected_then_counts_as_ejected(bench: Bench) -> None:
    bench.flush_result = errno.EIO
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(5)
    assert of(daemon, "mmcblk0").life is Life.FAILED
    bench.host_ejects(0)
    bench.loop.run_for(1)
    assert "1 disk ejected" in daemon.status.message


def test_a_reset_to_another_speed_is_told_though_it_was_over_before_we_looked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(10)
    bench.host_state("default")
    errors = bench.log.io_errors

    def meanwhile() -> Iterator[IoError]:
        bench.plug(speed="full-speed")
        return errors()

    monkeypatch.setattr(bench.log, "io_errors", meanwhile)
    bench.log.say("nothing that matters")
    bench.loop.run_for(1)
    assert daemon.status.controller is not None
    assert daemon.status.controller.speed == "full-speed"
    assert "full-speed" in advice(daemon)


def test_a_sleep_that_raises_no_event_is_told_within_a_second(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(30)
    gadget = bench.sys / "class" / "udc" / CONTROLLER / "device" / "gadget.0"
    gadget.mkdir(parents=True)
    (gadget / "suspended").write_text("1\n")
    bench.loop.run_for(1)
    assert "suspended" in advice(daemon)
    (gadget / "suspended").write_text("0\n")
    bench.loop.run_for(1)
    assert "suspended" not in advice(daemon)


def test_a_busy_host_costs_two_refreshes_a_second_at_most(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.loop.run_for(10)
    before = len(bench.panel.statuses)
    wakeups = 0
    for _ in range(100):
        bench.traffic("mmcblk0", read=MIB, written=MIB)
        wakeups += bench.loop.run_for(0.1)
    assert wakeups <= 25
    assert len(bench.panel.statuses) - before <= 21


def test_a_host_that_sleeps_costs_nothing(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.host_state("suspended")
    bench.loop.run_for(30)
    assert bench.loop.run_for(600) == 0


def test_after_a_host_has_gone_and_all_is_flushed_nothing_wakes_up(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.unplug()
    bench.loop.run_for(30)
    assert bench.loop.run_for(600) == 0


def test_a_disk_that_waits_for_a_slow_flush_alone_costs_no_more_than_an_idle_host(
    bench: Bench,
) -> None:
    boot(bench, "mmcblk0")
    bench.loop.run_for(SETTLE_S)
    bench.flush_result = None
    host_ejects(bench, 0)
    assert bench.loop.run_for(60) <= 120


# The host comes and goes


def test_a_host_that_comes_and_goes_is_told(bench: Bench) -> None:
    bench.unplug()
    daemon = boot(bench, "mmcblk0")
    assert lives(daemon) == {"mmcblk0": "waiting for host"}
    bench.loop.run_for(6)
    assert "no host" in advice(daemon)
    bench.plug()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "idle"}
    assert daemon.status.controller is not None
    assert daemon.status.controller.state == "configured"
    bench.unplug()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "waiting for host"}


def test_a_slow_cable_is_told(bench: Bench) -> None:
    bench.unplug()
    daemon = boot(bench, "mmcblk0")
    bench.plug(speed="full-speed")
    bench.loop.settle()
    assert "full-speed only" in advice(daemon)


def test_disks_that_no_host_opens_are_told_until_one_does(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(6)
    assert "has not opened any" in advice(daemon)
    bench.traffic("mmcblk0", read=4096)
    bench.loop.run_for(1)
    assert "has not opened any" not in advice(daemon)


def test_bytes_and_speed_are_told(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(10)
    bench.traffic("mmcblk0", written=4 * MIB)
    bench.loop.run_for(TICK_S * 1.01)
    row = daemon.status.disks[0]
    assert (row.life, row.written_bytes) == (Life.WRITING, 4 * MIB)
    assert row.rate_bytes_s == pytest.approx(8 * MIB, rel=0.05)


def test_a_host_that_pauses_has_its_data_flushed_and_sees_nothing_of_it(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(QUIET_S + TICK_S)
    assert lives(daemon) == {"mmcblk0": "flushing"}
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "flushed"}
    assert not daemon.status.safe_to_unplug
    host_writes(bench, "mmcblk0")
    assert lives(daemon) == {"mmcblk0": "writing"}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_an_unplug_in_mid_write_is_flushed_at_once(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.flush_result = None
    bench.unplug()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "flushing"}
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "waiting for host"}
    bench.plug()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "idle"}
    assert bench.files() == {0: "mmcblk0"}


def test_an_unplug_flushes_what_no_counter_tells_of_yet(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    assert lives(daemon) == {"mmcblk0": "idle"}
    bench.flush_result = None
    bench.unplug()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "flushing"}
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "waiting for host"}


def test_an_unplug_during_a_flush_has_the_rest_flushed_too(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(QUIET_S + TICK_S)
    bench.unplug()
    bench.loop.settle()
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert len(bench.flushes) == 2
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "waiting for host"}


WRITE_ERROR = "I/O error, dev nvme0n1, sector 8 op 0x1:(WRITE) flags 0x0"
READ_ERROR = "I/O error, dev nvme0n1, sector 8 op 0x0:(READ) flags 0x0"
REFUSED = "nvme0n1 does not take all that the host writes, and was taken from it"


def test_io_errors_in_the_kernels_log_are_told_by_disk(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1", "mmcblk0")
    bench.log.say(READ_ERROR)
    bench.loop.settle()
    assert advice(daemon) == "nvme0n1: 1 I/O error"


def test_a_disk_that_cannot_be_read_casts_no_doubt_on_what_was_written(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    bench.log.say("I/O error, dev nvme0n1, sector 8 op 0x0:(READ) flags 0x0")
    bench.loop.settle()
    assert "nvme0n1: 1 I/O error" in advice(daemon)
    assert hints(daemon) == "not all can be read; see dmesg, and replace the disk"


def test_a_disk_that_goes_on_failing_does_not_fill_the_log(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    told = set()
    for _ in range(250):
        for _ in range(4):
            bench.log.say("I/O error, dev nvme0n1, sector 8 op 0x0:(READ) flags 0x0")
            bench.loop.settle()
        told.add(advice(daemon))
    assert "nvme0n1: at least 1000 I/O errors" in advice(daemon)
    assert len(told) == 4


def test_a_write_error_that_the_kernels_log_and_the_flush_both_tell_is_counted_once(
    bench: Bench,
) -> None:
    daemon = boot(bench, "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.flush_result = errno.EIO
    bench.log.say("critical medium error, dev nvme0n1, sector 8 op 0x1:(WRITE) flags 0x0")
    bench.loop.run_for(QUIET_S + TIMES * TICK_S)
    assert lives(daemon) == {"nvme0n1": "write error"}
    assert of(daemon, "nvme0n1").io_errors == 1
    assert advice(daemon) == REFUSED


def test_io_errors_of_disks_that_are_not_ours_are_none_of_ours(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    bench.log.say("I/O error, dev sdz, sector 8 op 0x1:(WRITE) flags 0x0")
    bench.loop.settle()
    assert "I/O error" not in advice(daemon)


def test_io_errors_are_of_one_disk_and_not_of_the_next_with_its_name(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    for _ in range(2):
        bench.log.say(READ_ERROR)
        bench.loop.settle()
    assert "nvme0n1: at least 2 I/O errors" in advice(daemon)
    bench.remove("nvme0n1")
    bench.loop.settle()
    bench.log.say(WRITE_ERROR)
    bench.loop.settle()
    assert "nvme0n1: at least 2 I/O errors" in advice(daemon)
    bench.add("nvme0n1", serial="another")
    bench.loop.settle()
    assert "I/O error" not in advice(daemon)


def test_a_sleeping_host_is_told_unless_it_has_ejected_everything(bench: Bench) -> None:
    # Hosts put to sleep what they have ejected.
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0)
    bench.host_state("suspended")
    bench.loop.run_for(10)
    assert "suspended" in advice(daemon)
    bench.host_state("configured")
    bench.loop.settle()
    host_ejects(bench, 1)
    bench.host_state("suspended")
    bench.loop.run_for(10)
    assert daemon.status.safe_to_unplug
    assert advice(daemon) == ""


# What the kernel has no room for


def no_room(_: object) -> None:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_flush_that_cannot_be_started_is_tried_again(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.on_flush = no_room
    host_ejects(bench, 0)
    bench.unplug()  # Then no tick looks after it.
    bench.loop.run_for(RETRY_S * 3)
    assert lives(daemon) == {"mmcblk0": "ejected, flushing"}
    assert not daemon.status.safe_to_unplug
    bench.on_flush = lambda _: None
    bench.loop.run_for(RETRY_S + 0.5)
    assert lives(daemon) == {"mmcblk0": "ejected"}
    assert daemon.status.safe_to_unplug


def test_the_second_flush_of_what_was_written_during_the_first_is_tried_again_too(
    bench: Bench,
) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(QUIET_S + TICK_S)
    bench.unplug()
    bench.loop.settle()
    bench.on_flush = no_room
    bench.flushes[-1].finish()
    bench.loop.run_for(RETRY_S * 3)
    assert lives(daemon) == {"mmcblk0": "flushing"}
    bench.on_flush = lambda _: None
    bench.flush_result = 0
    bench.loop.run_for(RETRY_S + 0.5)
    assert lives(daemon) == {"mmcblk0": "waiting for host"}


def test_a_flush_that_cannot_be_started_after_an_eject_without_a_host_is_tried_again(
    bench: Bench,
) -> None:
    bench.unplug()
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(60)
    bench.on_flush = no_room
    daemon.by_hand.eject(daemon.drives[0], force=False)
    bench.on_flush = lambda _: None
    bench.loop.run_for(RETRY_S + 0.5)
    assert lives(daemon) == {"mmcblk0": "ejected"}


@pytest.mark.parametrize("host", [True, False])
def test_a_stop_in_which_a_flush_cannot_be_started_ends_and_is_not_safe(
    bench: Bench, host: bool
) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    if host:
        host_writes(bench, "mmcblk0")
    else:
        bench.unplug()
        bench.loop.run_for(60)
    bench.on_flush = no_room
    ended = Ended(bench)
    daemon.stop(ended)
    bench.loop.run_for(60)
    assert ended.trees == [[]]
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)


# A disk that left too early


def lose(bench: Bench, action: str = "stay") -> Daemon:
    """Pull a disk on which something is to be written yet."""
    bench.configure(f"on_ejected: {action}\n")
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.remove("nvme0n1")
    bench.loop.settle()
    return daemon


LOST = "nvme0n1 does not have all that the host had written"


def test_a_disk_that_left_with_unwritten_data_is_told_and_nothing_is_safe(bench: Bench) -> None:
    daemon = lose(bench)
    assert LOST in advice(daemon)
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    bench.unplug()
    bench.loop.run_for(60)
    assert lives(daemon) == {"mmcblk0": "ejected", "nvme0n1": "gone"}
    assert LOST in advice(daemon)
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)


@pytest.mark.parametrize("action", ["poweroff", "reboot"])
def test_after_a_disk_that_left_too_early_the_board_stays_up(bench: Bench, action: str) -> None:
    lose(bench, action)
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    assert bench.power == []


def test_a_stop_after_a_disk_that_left_too_early_is_not_safe(bench: Bench) -> None:
    daemon = lose(bench)
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert daemon.status.phase is Phase.STOPPED
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)


def test_a_disk_that_left_with_all_on_it_keeps_nothing_from_being_safe(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    bench.loop.run_for(QUIET_S + TIMES * TICK_S)
    bench.remove("nvme0n1")
    bench.loop.settle()
    host_ejects(bench, 0)
    assert "left before" not in advice(daemon)
    assert daemon.status.safe_to_unplug


# Eject


def test_safe_to_unplug_is_said_only_after_the_fsync_of_every_disk(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.flush_result = None
    host_ejects(bench, 0)
    first = bench.flushes[-1]
    assert lives(daemon) == {"mmcblk0": "ejected, flushing", "nvme0n1": "idle"}
    first.finish()
    bench.loop.settle()
    assert lives(daemon)["mmcblk0"] == "ejected"
    assert not daemon.status.safe_to_unplug
    host_ejects(bench, 1)
    assert not daemon.status.safe_to_unplug
    bench.loop.run_for(60)
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert daemon.status.safe_to_unplug


def test_an_eject_during_a_flush_is_only_safe_after_another_flush(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(QUIET_S + TICK_S)
    assert len(bench.flushes) == 1
    host_ejects(bench, 0)
    bench.flushes[0].finish()
    bench.loop.settle()
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)
    assert len(bench.flushes) == 2
    bench.flushes[1].finish()
    bench.loop.settle()
    assert daemon.status.safe_to_unplug


def test_the_word_outlives_the_cable(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    host_ejects(bench, 0)
    assert daemon.status.safe_to_unplug
    bench.unplug()
    bench.loop.run_for(60)
    assert daemon.status.safe_to_unplug


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, -9])
def test_a_disk_that_takes_not_all_data_is_never_safe(bench: Bench, number: int) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.flush_result = number
    host_ejects(bench, 0)
    bench.flush_result = 0
    host_ejects(bench, 1)
    assert lives(daemon) == {"mmcblk0": "write error", "nvme0n1": "ejected"}
    assert "mmcblk0: 1 I/O error" in advice(daemon)
    bench.unplug()
    bench.loop.run_for(60)
    bench.plug()
    bench.loop.run_for(60)
    bench.scan.announce()
    bench.loop.run_for(60)
    assert lives(daemon)["mmcblk0"] == "write error"
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)


def test_a_host_that_is_plugged_anew_gets_its_disks_back(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0, 1)
    assert bench.files() == {0: "", 1: ""}
    bench.unplug()
    bench.loop.run_for(3)
    bench.plug()
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "idle"}
    assert not daemon.status.safe_to_unplug


def test_what_was_ejected_stays_ejected_when_another_disk_arrives(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0)
    bench.add("nvme1n1")
    bench.host_lets_go()
    assert bench.files() == {0: "", 1: "nvme0n1", 2: "nvme1n1"}
    assert lives(daemon)["mmcblk0"] == "ejected"
    assert len(bench.kernel.bus) == 3


def rebuild(bench: Bench) -> None:
    bench.configure("usb: {product: Another}\n")
    assert bench._daemon is not None
    bench._daemon.reload()


def extend(bench: Bench) -> None:
    bench.add("nvme1n1")


@pytest.mark.parametrize("change", [rebuild, extend])
@pytest.mark.parametrize("away_s", [0, 2])
def test_what_was_ejected_stays_ejected_when_we_disconnect_the_host_ourselves(
    bench: Bench, change: Callable[[Bench], None], away_s: float
) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0)
    bench.host_lets_go()
    bench.slow_host = True  # It takes its time to set the gadget up again.
    change(bench)
    bench.loop.settle()
    bench.loop.run_for(away_s)
    assert len(bench.kernel.bus) == 3
    assert lives(daemon)["nvme0n1"] == "waiting for host"
    for _ in range(3):
        bench.scan.announce()  # More uevents, and so more looks at everything.
        bench.loop.settle()
    bench.host_state("addressed")
    bench.loop.settle()
    bench.plug()
    bench.loop.settle()
    assert lives(daemon)["nvme0n1"] == "idle"
    assert lives(daemon)["mmcblk0"] == "ejected"
    assert bench.files()[0] == ""
    bench.loop.run_for(60)
    assert bench.files()[0] == ""
    assert "interrupted" not in advice(daemon)
    # A host that comes later does get it back.
    bench.unplug()
    bench.loop.run_for(3)
    bench.plug()
    bench.loop.settle()
    assert bench.files()[0] == "mmcblk0"


def test_a_host_that_was_disconnected_by_us_and_resets_later_is_counted(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.host_lets_go()
    bench.slow_host = True
    extend(bench)
    bench.loop.settle()
    bench.plug()
    bench.loop.run_for(10)
    for count in ("", "interrupted once", "interrupted 2 times"):
        assert count in advice(daemon)
        for state in ("default", "configured"):
            bench.host_state(state)
            bench.loop.settle()


def test_by_default_an_ejected_disk_stays_out(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    host_ejects(bench, 0)
    bench.loop.run_for(600)
    assert bench.files() == {0: ""}
    assert bench.power == []


def test_reinsert_gives_the_disk_back_after_the_delay(bench: Bench) -> None:
    bench.configure("on_ejected: reinsert\nreinsert_after_s: 7\n")
    daemon = boot(bench, "mmcblk0")
    host_ejects(bench, 0)
    assert daemon.status.safe_to_unplug
    bench.loop.run_for(6)
    assert bench.files() == {0: ""}
    bench.loop.run_for(1)
    assert bench.files() == {0: "mmcblk0"}
    assert lives(daemon) == {"mmcblk0": "idle"}
    assert not daemon.status.safe_to_unplug


def test_reinsert_can_be_asked_for_a_single_disk(bench: Bench) -> None:
    bench.configure("disks:\n  - {kind: nvme, on_ejected: reinsert}\n  - kind: emmc\n")
    boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0, 1)
    bench.loop.run_for(10)
    assert bench.files() == {0: "", 1: "nvme0n1"}


@pytest.mark.parametrize("action", ["reinsert", "poweroff", "reboot"])
def test_nothing_follows_an_eject_whose_flush_failed(bench: Bench, action: str) -> None:
    bench.configure(f"on_ejected: {action}\n")
    boot(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    assert bench.files() == {0: ""}
    assert bench.power == []


def test_nothing_follows_an_eject_from_the_boards_own_shell(bench: Bench) -> None:
    bench.configure("on_ejected: poweroff\n")
    daemon = boot(bench, "mmcblk0")
    daemon.by_hand.eject(daemon.drives[0], force=False)
    bench.loop.run_for(60)
    assert daemon.status.safe_to_unplug
    assert bench.power == []


@pytest.mark.parametrize(
    ("action", "expected"), [("poweroff", signal.SIGUSR2), ("reboot", signal.SIGTERM)]
)
def test_the_board_goes_down_when_all_are_ejected_and_flushed_and_not_before(
    bench: Bench, action: str, expected: signal.Signals
) -> None:
    bench.configure(f"on_ejected: {action}\n")
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0)
    bench.loop.run_for(60)
    assert bench.power == []
    bench.flush_result = None
    host_ejects(bench, 1)
    bench.loop.run_for(60)
    assert bench.power == []
    bench.flush_result = 0
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert bench.power == [expected]
    assert bench.tree == []
    assert daemon.status.safe_to_unplug


def test_a_disk_that_left_is_not_waited_for_before_the_board_goes_down(bench: Bench) -> None:
    bench.configure("on_ejected: poweroff\n")
    boot(bench, "mmcblk0", "nvme0n1")
    bench.remove("nvme0n1")
    bench.loop.settle()
    host_ejects(bench, 0)
    bench.loop.settle()
    assert bench.power == [signal.SIGUSR2]


# Arrivals and departures


def test_an_arrival_is_exported_at_once_when_the_host_has_let_go(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.host_lets_go()
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert daemon.status.message == "2 disks exported"


def test_an_arrival_breaks_no_transfer_and_says_what_it_waits_for(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.add("nvme0n1")
    for _ in range(20):
        host_writes(bench, "mmcblk0")
        assert bench.files() == {0: "mmcblk0"}
    assert "waits until the host lets go" in left_out(daemon.status)["nvme0n1"]
    assert {row.disk.name: row.waits for row in daemon.status.disks}["nvme0n1"]
    bench.host_lets_go()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert left_out(daemon.status) == {}


def test_an_arrival_waits_for_a_host_whose_transfer_moves_no_counter(bench: Bench) -> None:
    # Reads of what RAM remembers never do, and writes do it late.
    thread = bench.proc / "77"
    thread.mkdir()
    (thread / "comm").write_text("file-storage\n")
    count = 60

    def serves() -> None:
        nonlocal count
        count += 50
        (thread / "status").write_text(f"voluntary_ctxt_switches:\t{count}\n")

    serves()
    boot(bench, "mmcblk0")
    bench.loop.run_for(TICK_S * 1.1)
    serves()
    bench.add("nvme0n1")
    for _ in range(4):
        serves()
        bench.loop.run_for(TICK_S * 1.1)
        assert bench.files() == {0: "mmcblk0"}
    bench.host_lets_go()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_an_arrival_waits_for_reading_too(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.traffic("mmcblk0", read=MIB)
    bench.loop.run_for(TICK_S * 1.1)
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0"}
    bench.host_lets_go()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_an_arrival_waits_for_a_flush_too(bench: Bench) -> None:
    boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(QUIET_S + TICK_S)
    bench.add("nvme0n1")
    bench.loop.run_for(30)
    assert bench.files() == {0: "mmcblk0"}
    bench.flushes[-1].finish()
    bench.host_lets_go()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_with_slots_an_arrival_is_a_medium_inserted_at_once_even_while_the_host_writes(
    bench: Bench,
) -> None:
    bench.configure("slots: 2\n")
    daemon = boot(bench, "mmcblk0")
    host_writes(bench, "mmcblk0")
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1", 2: ""}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert lives(daemon) == {"mmcblk0": "writing", "nvme0n1": "idle"}


def test_a_disk_pulled_while_the_host_writes_to_another_disturbs_nothing(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "mmcblk0")
    bench.remove("nvme0n1")
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "writing", "nvme0n1": "gone"}
    assert bench.files() == {0: "mmcblk0", 1: ""}
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]


def test_a_disk_pulled_during_its_flush_stays_gone(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    bench.flush_result = None
    host_ejects(bench, 1)
    bench.remove("nvme0n1")
    bench.loop.settle()
    assert lives(daemon)["nvme0n1"] == "gone"
    bench.flushes[-1].finish(errno.EIO)
    bench.loop.settle()
    assert lives(daemon)["nvme0n1"] == "gone"
    assert not daemon.status.safe_to_unplug


def test_a_disk_that_comes_back_during_its_old_flush_is_a_new_export(bench: Bench) -> None:
    daemon = boot(bench, "nvme0n1")
    bench.flush_result = None
    host_ejects(bench, 0)
    old = bench.flushes[-1]
    bench.remove("nvme0n1")
    bench.loop.settle()
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "nvme0n1"}
    old.finish()
    bench.loop.settle()
    assert lives(daemon)["nvme0n1"] != "ejected"
    assert not daemon.status.safe_to_unplug


def test_a_controller_that_leaves_and_returns_gets_the_gadget_back(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(100)
    bench.remove_udc(CONTROLLER)
    bench.loop.settle()
    assert (daemon.status.phase, daemon.status.problem) == (Phase.WAITING_FOR_UDC, None)
    assert daemon.status.controller is None
    bench.loop.run_for(3)
    bench.add_udc(CONTROLLER)
    bench.loop.settle()
    assert daemon.status.phase is Phase.EXPORTED
    assert lives(daemon) == {"mmcblk0": "idle"}


# Killed and started again


def test_a_killed_daemon_that_comes_back_disturbs_no_host(bench: Bench) -> None:
    boot(bench, "mmcblk0", "nvme0n1")
    daemon = bench.daemon()
    bench.loop.run_for(10)
    assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    assert lives(daemon) == {"mmcblk0": "flushed", "nvme0n1": "flushed"}
    assert daemon.status.controller is not None
    assert daemon.status.controller.note == "taken over from an earlier run"


def test_what_was_ejected_before_a_kill_is_flushed_again_and_stays_out(bench: Bench) -> None:
    boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0, 1)
    bench.flush_result = None
    daemon = bench.daemon()
    bench.loop.run_for(1)
    assert not daemon.status.safe_to_unplug
    for flush in bench.flushes[2:]:
        flush.finish()
    bench.loop.settle()
    assert daemon.status.safe_to_unplug
    assert bench.files() == {0: "", 1: ""}


def test_a_killed_daemon_that_comes_back_breaks_no_transfer(bench: Bench) -> None:
    # A disk has come meanwhile, which takes a disconnect.
    boot(bench, "mmcblk0")
    bench.add("nvme0n1")
    bench.daemon()
    for _ in range(6):
        host_writes(bench, "mmcblk0")
        assert bench.kernel.bus == [f"bind {CONTROLLER}"]
    bench.host_lets_go()
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


def test_without_a_host_a_killed_daemon_that_comes_back_changes_all_soon(bench: Bench) -> None:
    bench.unplug()
    boot(bench, "mmcblk0")
    bench.add("nvme0n1")
    bench.daemon()
    bench.loop.run_for(QUIET_S + TIMES * TICK_S)
    bench.loop.run_for(GONE_S + TICK_S)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}


# Stop and start


class Ended:
    """Counts how often it is told, and notes what was on the bus then."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.trees: list[list[str]] = []

    def __call__(self) -> None:
        self.trees.append(self._bench.tree)


def test_a_stop_disconnects_then_flushes_then_tears_down_then_ends(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "mmcblk0")
    bench.flush_result = None
    ended = Ended(bench)
    daemon.stop(ended)
    bench.loop.settle()
    assert bench.bound == ""
    assert bench.tree != []
    assert len(bench.flushes) == 2
    assert not daemon.status.safe_to_unplug
    bench.flushes[0].finish()
    bench.loop.run_for(60)
    assert ended.trees == []
    bench.flushes[1].finish()
    bench.loop.settle()
    assert ended.trees == [[]]
    assert (daemon.status.phase, daemon.shutdown.stop.flushed) == (Phase.STOPPED, True)
    # The host had the disks, and may have had data for them that it had not sent.
    assert not daemon.status.safe_to_unplug
    assert "what the host still held is not known" in daemon.status.message
    bench.loop.run_for(60)
    assert len(ended.trees) == 1


def test_a_stop_with_nothing_exported_ends_at_once(bench: Bench) -> None:
    daemon = boot(bench)
    ended = Ended(bench)
    daemon.stop(ended)
    assert ended.trees == [[]]


def test_a_stop_with_a_wrong_configuration_ends_at_once(bench: Bench) -> None:
    bench.configure(BROKEN)
    daemon = boot(bench, "mmcblk0")
    ended = Ended(bench)
    daemon.stop(ended)
    assert ended.trees == [[]]


def test_a_stop_during_a_flush_has_the_rest_flushed_too(bench: Bench) -> None:
    # The flush began before the disconnect, and the host may have written in between.
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    host_writes(bench, "mmcblk0")
    bench.loop.run_for(QUIET_S + TICK_S)
    ended = Ended(bench)
    daemon.stop(ended)
    bench.flushes[0].finish()
    bench.loop.settle()
    assert ended.trees == []
    assert not daemon.status.safe_to_unplug
    bench.flushes[1].finish()
    bench.loop.settle()
    assert ended.trees == [[]]
    assert daemon.shutdown.stop.flushed


def test_a_stop_whose_flush_fails_is_not_safe_and_stays_so(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    first, second = Ended(bench), Ended(bench)
    daemon.stop(first)
    bench.loop.settle()
    assert first.trees == [[]]
    assert not daemon.status.safe_to_unplug
    daemon.stop(second)  # SIGTERM, after `gadgetd stop`.
    bench.loop.settle()
    assert second.trees == [[]]
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)


def test_a_second_stop_joins_the_first(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    first, second = Ended(bench), Ended(bench)
    daemon.stop(first)
    daemon.stop(second)
    assert len(bench.flushes) == 1
    bench.loop.run_for(60)
    assert daemon.status.message == "stopping: flushing the disks, do not unplug"
    assert daemon.shutdown.stop.under_way
    assert (first.trees, second.trees) == ([], [])
    bench.flushes[0].finish()
    bench.loop.settle()
    assert (first.trees, second.trees) == ([[]], [[]])
    assert daemon.shutdown.stop.flushed
    assert not daemon.shutdown.stop.under_way
    assert daemon.status.message.startswith("stopped: all that arrived is on the disks")


def test_a_stop_that_cannot_take_the_disks_from_the_host_is_not_safe(bench: Bench) -> None:
    bench.add("mmcblk0")
    kernel = FaultyKernel(bench.kernel)
    daemon = bench.daemon(kernel)
    # The question whether the host has it open, and the disconnect.
    kernel._fail = dict.fromkeys(range(len(kernel.calls), len(kernel.calls) + 2), errno.EIO)
    bench.flush_result = None
    ended = Ended(bench)
    daemon.stop(ended)
    assert bench.bound  # So the host goes on writing.
    daemon.stop(ended)
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert len(ended.trees) == 2
    assert bench.tree == []
    assert not any(status.safe_to_unplug for status in bench.panel.statuses)
    daemon.resume()
    bench.flush_result = 0
    host_ejects(bench, 0)
    daemon.stop(ended)
    bench.loop.settle()
    assert daemon.status.safe_to_unplug


def test_the_word_of_an_earlier_stop_does_not_hold_for_a_later_one(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    host_ejects(bench, 0)
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert daemon.status.safe_to_unplug
    daemon.resume()
    bench.loop.settle()
    assert not daemon.status.safe_to_unplug
    host_writes(bench, "mmcblk0")
    bench.flush_result = None
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert not daemon.status.safe_to_unplug
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert daemon.shutdown.stop.flushed
    assert not daemon.status.safe_to_unplug


def test_while_stopped_nothing_is_exported_and_nothing_wakes_up(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    daemon.stop(lambda: None)
    bench.loop.run_for(30)
    bench.add("nvme0n1")
    bench.scan.announce()
    bench.loop.settle()
    daemon.reload()
    bench.loop.settle()
    assert bench.tree == []
    assert daemon.status.phase is Phase.STOPPED
    assert bench.loop.run_for(600) == 0


def test_a_start_exports_again_with_the_file_as_it_is_now(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    daemon.stop(lambda: None)
    bench.loop.settle()
    bench.configure("exclude: [{kind: emmc}]\n")
    daemon.resume()
    bench.loop.settle()
    assert bench.files() == {0: "nvme0n1"}
    assert daemon.status.phase is Phase.EXPORTED


def test_a_start_with_a_wrong_configuration_exports_nothing(bench: Bench) -> None:
    # A disk that is to be excluded now must not slip out with the file of before.
    daemon = boot(bench, "mmcblk0")
    daemon.stop(lambda: None)
    bench.loop.settle()
    bench.configure(BROKEN)
    daemon.resume()
    bench.loop.run_for(60)
    assert bench.tree == []
    assert len(bench.kernel.bus) == 2
    assert daemon.status.phase.name == "CONFIG_ERROR"
    assert problem(daemon).key == "disks[0].kind"
    bench.configure("")
    daemon.reload()
    bench.loop.settle()
    assert daemon.status.phase is Phase.EXPORTED


def test_a_stop_that_cannot_tear_down_says_so_and_ends(bench: Bench) -> None:
    bench.add("mmcblk0")
    kernel = FaultyKernel(bench.kernel)
    daemon = bench.daemon(kernel)
    kernel._fail = dict.fromkeys(range(len(kernel.calls), len(kernel.calls) + 500), errno.EIO)
    ended = Ended(bench)
    daemon.stop(ended)
    bench.loop.settle()
    assert len(ended.trees) == 1
    assert daemon.status.phase is Phase.STOPPED
    assert "cannot" in problem(daemon).message


def test_a_stop_that_cannot_unbind_keeps_the_disks_says_so_and_can_be_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.host_lets_go()
    store = bench.kernel._store

    def refusing(path: Path, text: str) -> None:
        if path.name == "UDC":
            raise OSError(errno.EIO, "Input/output error")
        store(path, text)

    monkeypatch.setattr(bench.kernel, "_store", refusing)
    commands, replies = Commands(daemon, bench.panel.log), list[dict[str, object]]()
    commands.handle({"command": "stop"}, replies.append)
    bench.loop.settle()
    words = "not stopped: the host still has the disks; to try again: gadgetd stop"
    assert daemon.status.message == replies[-1]["refused"] == words
    assert "cannot write UDC" in problem(daemon).message
    assert of(daemon, "mmcblk0").hold
    assert bench.files() == {0: "mmcblk0"}
    assert not daemon.status.safe_to_unplug
    monkeypatch.setattr(bench.kernel, "_store", store)
    commands.handle({"command": "stop"}, replies.append)
    bench.loop.settle()
    assert replies[-1] == {"ok": True, "safe": False, "flushed": True}
    assert bench.tree == []
    assert daemon.drives == []
    with pytest.raises(ControlError, match="stopped already"):
        commands.handle({"command": "stop"}, replies.append)


def test_a_disk_that_leaves_during_a_stop_does_not_keep_it_from_ending(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.flush_result = None
    ended = Ended(bench)
    daemon.stop(ended)
    bench.remove("mmcblk0")
    bench.loop.settle()
    bench.flushes[-1].finish(errno.EIO)
    bench.loop.settle()
    assert ended.trees == [[]]
    assert not daemon.status.safe_to_unplug


def test_a_stop_leaves_no_descriptor_watched_but_what_every_daemon_watches(bench: Bench) -> None:
    daemon = boot(bench)
    before = len(bench.loop.watched)
    for name in ("mmcblk0", "nvme0n1"):
        bench.add(name)
    bench.loop.settle()
    daemon.stop(lambda: None)
    bench.loop.settle()
    assert len(bench.loop.watched) == before


# Eject and insert from the board's shell


def test_an_eject_that_the_host_has_locked_is_refused(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.lun(0).locked = True
    with pytest.raises(GadgetError, match="the host has locked the medium"):
        daemon.by_hand.eject(of(daemon, "mmcblk0"), force=False)
    assert bench.files() == {0: "mmcblk0"}
    daemon.by_hand.eject(of(daemon, "mmcblk0"), force=True)
    bench.loop.settle()
    assert lives(daemon) == {"mmcblk0": "ejected"}
    # The host had it open: what it still held is not known, to the next daemon neither.
    for again in (daemon, bench.daemon()):
        bench.loop.settle()
        assert "what the host still held is not known" in hints(again)
        assert not again.status.safe_to_unplug


def test_a_forced_eject_of_a_disk_that_the_host_has_not_locked_is_an_eject(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    daemon.by_hand.eject(of(daemon, "mmcblk0"), force=True)
    bench.loop.settle()
    assert daemon.status.safe_to_unplug


def test_an_insert_puts_the_disk_back_and_takes_the_word_back(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    daemon.by_hand.eject(of(daemon, "mmcblk0"), force=False)
    bench.loop.settle()
    assert daemon.status.safe_to_unplug
    daemon.by_hand.insert(of(daemon, "mmcblk0"))
    assert bench.files() == {0: "mmcblk0"}
    assert lives(daemon) == {"mmcblk0": "idle"}
    assert not daemon.status.safe_to_unplug


def test_a_serial_console_on_the_cable_gets_its_login_only_while_bound(
    bench: Bench, tmp_path: Path
) -> None:
    wanted: list[bool] = []
    bench.configure("usb: {acm: true}\n")
    daemon = bench.daemon(start=False)
    daemon._login.keep = lambda *, wanted: seen.append(wanted)  # type: ignore[method-assign]
    seen = wanted
    daemon.start()
    bench.loop.settle()
    assert wanted[-1] is True
    daemon.stop(lambda: None)
    assert wanted[-1] is False
    assert tmp_path


# What is said must be so


def test_a_disk_that_is_taken_away_is_not_announced_before_it_is_gone(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_writes(bench, "nvme0n1")
    before = len(bench.panel.statuses)
    bench.flush_result = None
    bench.configure("disks: [{kind: emmc}]\n")
    daemon.reload()
    bench.loop.run_for(5)
    bench.flushes[-1].finish()
    bench.loop.settle()
    told = [
        (event.fields["lun"], event.fields["reason"])
        for old, new in pairwise(bench.panel.statuses[before - 1 :])
        for event in events(old, new)
        if event.fields["event"] == "disk" and event.fields["name"] == "nvme0n1"
    ]
    assert told == [(None, "no rule of disks matches")]


@pytest.mark.parametrize("restart", [False, True])
def test_nothing_to_export_is_one_state_with_one_word_and_no_advice(
    bench: Bench, restart: bool
) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.configure("disks: []\n")
    daemon.reload()
    bench.loop.settle()
    if restart:
        daemon = bench.daemon()
    bench.loop.run_for(60)
    assert daemon.status.phase is Phase.WAITING_FOR_DISKS
    assert daemon.status.message == "no disk to export; waiting for one"
    assert advice(daemon) == ""


def test_a_missing_cable_is_told_though_only_empty_slots_are_exported(bench: Bench) -> None:
    bench.configure("slots: 1\n")
    bench.unplug()
    daemon = boot(bench)
    bench.loop.run_for(60)
    assert "no host" in advice(daemon)


def test_what_is_ejected_is_not_counted_as_exported(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    host_ejects(bench, 0)
    assert daemon.status.message == "1 disk exported, 1 disk ejected"
    host_ejects(bench, 1)
    assert daemon.status.message == "2 disks ejected"


def test_a_start_keeps_the_consoles_that_the_file_names(bench: Bench) -> None:
    bench.configure("consoles: {uart: none}\n")
    daemon = boot(bench, "mmcblk0")
    before = len(bench.panel.chosen)
    daemon.stop(lambda: None)
    bench.loop.settle()
    daemon.resume()
    assert [config.consoles.uart for config in bench.panel.chosen[before:]] == ["none"]


# What disks tell of their wear


WORN = Health(worn_percent=93, spare_percent=100, spare_low_percent=10)


def test_a_worn_disk_is_told_once_the_disks_are_exported_and_in_the_status_too(
    bench: Bench,
) -> None:
    bench.health["nvme0n1"] = WORN
    daemon = boot(bench, "mmcblk0", "nvme0n1")
    assert daemon.status.phase is Phase.EXPORTED
    assert bench.questions == []
    bench.loop.run_for(SETTLE_S + 0.5)
    assert bench.questions == ["nvme0n1"]
    assert "nvme0n1 is worn out to 93 %" in advice(daemon)
    assert [row.health for row in daemon.status.disks] == [None, WORN]


def test_no_disk_is_asked_while_others_are_waited_for(bench: Bench) -> None:
    bench.health["nvme0n1"] = WORN
    bench.scan.on_their_way = [NVME]
    boot(bench, "nvme0n1")
    bench.loop.run_for(9)
    assert bench.questions == []
    bench.scan.on_their_way = []
    bench.scan.announce()
    bench.loop.run_for(SETTLE_S + 0.5)
    assert bench.questions == ["nvme0n1"]


def test_a_disk_that_comes_late_is_asked_and_one_that_left_is_forgotten(bench: Bench) -> None:
    daemon = boot(bench, "mmcblk0")
    bench.loop.run_for(60)
    bench.health["nvme0n1"] = WORN
    bench.add("nvme0n1")
    bench.loop.run_for(SETTLE_S + 0.5)
    assert "nvme0n1 is worn out" in advice(daemon)
    bench.remove("nvme0n1")
    bench.loop.settle()
    assert "nvme0n1 is worn out" not in advice(daemon)


def test_who_asks_for_the_status_has_the_disks_asked_but_not_at_each_look(bench: Bench) -> None:
    bench.health["nvme0n1"] = WORN
    daemon = boot(bench, "nvme0n1")
    commands = Commands(daemon, bench.panel.log)
    bench.loop.run_for(60)
    for _ in range(30):
        commands.handle({"command": "status"}, lambda _: None)
        bench.loop.run_for(0.5)
    assert len(bench.questions) == 3
