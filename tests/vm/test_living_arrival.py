"""A disk that arrives after the bind: no transfer of another one is broken for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from emulator import Drive, MachineOptions, disk_numbers
from gadgetd.export.candidates import POLL_MS
from gadgetd.export.reconnect import LET_GO_S
from tests.vm.board import BOOT_S, CHUNK, WAIT_S, Board, Pattern, inquiry, until, yaml_file
from tests.vm.conftest import Boot
from tests.vm.living import (
    FILES,
    MIB,
    Chunks,
    assert_host_undisturbed,
    eject,
    expect_host_size,
    host_does,
    host_locks,
    kernel_said,
    mark,
    traffic,
    write,
)

pytestmark = [pytest.mark.emulated, pytest.mark.hosts("same")]

SD_SIZE, NVME_SIZE, CARD_SIZE = 64 * MIB, 48 * MIB, 40 * MIB
WAITS = "waits until the host lets go of the other disks"
MOUNT = "/tmp/on-the-host"
FILE = Pattern(4_000_000, 8 * CHUNK)


def test_with_slots_a_disk_comes_as_a_medium_inserted_while_the_host_writes(boot: Boot) -> None:
    board = boot(
        MachineOptions(sd=Drive(SD_SIZE), spare_ports=2, files={**FILES, **yaml_file("slots: 1\n")})
    )
    until("the host sees the disk and an empty drive", lambda: len(board.host.blocks()) == 2)
    sd, empty = board.host.blocks()
    assert disk_numbers([sd, empty]) == [0, 1]
    assert empty.inquiry == inquiry("slot 1")
    expect_host_size(board, empty, 0)
    begin, since = mark(board), board.uart.line.position
    with traffic(board, sd) as writing:
        board.machine.plug_nvme("ARRIVED1", Drive(NVME_SIZE))
        disk = board.expect_event(since, event="disk", name="nvme0n1")
        assert disk["lun"] == 1
        expect_host_size(board, empty, NVME_SIZE)
        chunks = Chunks(4, 16)
        host_does(board, write(empty, chunks))
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    board.expect_event(since, event="lun", lun=1, life="flushed")
    assert chunks.are_in(board.machine.image_path("ARRIVED1"))
    assert_host_undisturbed(board, begin)

    # There is no slot left for the next one: it takes a new LUN, at the price of a disconnect.
    since = board.uart.line.position
    board.machine.plug_nvme("ARRIVED2", Drive(NVME_SIZE))
    disk = board.expect_event(since, event="disk", name="nvme1n1")
    assert disk["lun"] is None
    assert_host_undisturbed(board, begin)
    board.check("gadgetd attach --yes")
    board.expect_event(since, event="disk", name="nvme1n1", lun=2)
    blocks = board.host.wait_for_blocks(3, WAIT_S)
    assert disk_numbers(blocks) == [0, 1, 2]
    assert kernel_said(board, begin).count("USB disconnect") == 1


def test_without_slots_a_disk_waits_until_the_host_has_left_the_others_alone_for_long(
    boot: Boot,
) -> None:
    board = boot(MachineOptions(sd=Drive(SD_SIZE), spare_ports=1, files=FILES))
    (sd,) = board.host.wait_for_blocks(1, WAIT_S)
    begin, since = mark(board), board.uart.line.position
    with traffic(board, sd) as writing:
        board.machine.plug_nvme("ARRIVED1", Drive(NVME_SIZE))
        disk = board.expect_event(since, event="disk", name="nvme0n1")
        assert disk["lun"] is None
        assert WAITS in disk["reason"]
        board.expect_on_screen(f"nvme0n1 NVMe 50.3 MB: not yet, {WAITS}")
        at_arrival = writing.progress()
        until("the host has gone on writing", lambda: writing.progress() > at_arrival + MIB)
        assert [block.name for block in board.host.blocks()] == [sd.name]
        holder = host_locks(board, sd)
    ended = time.monotonic()
    # The host does nothing from here on, but it has the disk open.
    board.expect_on_both(
        "a change waits until the host lets go of the disks (mmcblk0 open there)", since=since
    )
    assert time.monotonic() - ended > LET_GO_S - 1, "it was asked too early whether it is open"
    assert_host_undisturbed(board, begin)
    assert [block.name for block in board.host.blocks()] == [sd.name]
    # A lock that is gone may have been cleared by a reset: what has been open counts as open.
    board.host.check(f"kill {holder}")
    host_does(board, eject(sd))
    board.expect_event(since, event="disk", name="nvme0n1", lun=1)
    # The SD card's drive is empty, which `wait_for_blocks` would wait out.
    until("the host has the late disk", lambda: len(board.host.blocks()) == 2)
    blocks = board.host.blocks()
    assert [block.inquiry for block in blocks] == [inquiry("SD mmcblk0"), inquiry("NVMe nvme0n1")]
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert kernel_said(board, begin).count("USB disconnect") == 1
    assert board.status()["advice"] == []


def mount_and_write(board: Board, device: str, name: str) -> None:
    """Have the host mount a FAT file system and write a file, which nobody flushes."""
    board.host.check(f"mkdir -p {MOUNT}; mount -t vfat {device} {MOUNT}")
    board.host.check(f"{FILE.command} >{MOUNT}/{name}")


def assert_file_is_whole(board: Board, device: str, name: str) -> None:
    """Mount it on the host, from the medium, and look."""
    board.host.check(f"mount -t vfat -o ro {device} {MOUNT}")
    said = board.host.check(f"sha256sum {MOUNT}/{name}; umount {MOUNT}")
    assert said.split()[0] == FILE.digest


def test_a_disk_that_comes_beside_a_mounted_one_waits_for_the_host_or_for_a_person(
    boot: Boot,
) -> None:
    board = boot(MachineOptions(sd=Drive(SD_SIZE), spare_ports=2, files=FILES))
    (sd,) = board.host.wait_for_blocks(1, WAIT_S)
    board.host.check(f"modprobe -a vfat nls_cp437 nls_ascii; mkdosfs {sd.device}", WAIT_S)
    begin, since = mark(board), board.uart.line.position
    mount_and_write(board, sd.device, "first")
    board.machine.plug_nvme("ARRIVED1", Drive(NVME_SIZE))
    disk = board.expect_event(since, event="disk", name="nvme0n1")
    assert (disk["lun"], WAITS in disk["reason"]) == (None, True)
    board.expect_on_both("a change waits until the host lets go of the disks", since=since)
    board.expect_on_screen("eject them on the host", "gadgetd attach")
    # Neither does it come to a person who thinks better of it.
    status, said = board.run("echo n | gadgetd attach")
    assert status != 0
    assert "This disconnects mmcblk0 from the host" in said
    assert "nothing was changed" in said
    assert_host_undisturbed(board, begin)
    assert [block.name for block in board.host.blocks()] == [sd.name]

    # It comes at once when the host has ejected the other one.
    board.host.check(f"umount {MOUNT}")
    host_does(board, eject(sd))
    board.expect_event(since, event="disk", name="nvme0n1", lun=1)
    assert kernel_said(board, begin).count("USB disconnect") == 1
    until("the host has both drives", lambda: len(board.host.blocks()) == 2)
    sd, nvme = board.host.blocks()
    expect_host_size(board, nvme, NVME_SIZE)
    expect_host_size(board, sd, 0)
    board.check("gadgetd insert mmcblk0")
    expect_host_size(board, sd, SD_SIZE)
    assert_file_is_whole(board, sd.device, "first")

    # And when a person wants it now, whatever the host has open; what was flushed stays.
    begin, since = mark(board), board.uart.line.position
    mount_and_write(board, sd.device, "second")
    board.host.check(f"fsync {MOUNT}/second 2>/dev/null || sync")
    board.machine.plug_nvme("ARRIVED2", Drive(NVME_SIZE))
    disk = board.expect_event(since, event="disk", name="nvme1n1")
    assert (disk["lun"], WAITS in disk["reason"]) == (None, True)
    assert_host_undisturbed(board, begin)
    board.check("gadgetd attach --yes")
    board.expect_event(since, event="disk", name="nvme1n1", lun=2)
    board.host.check(f"umount -l {MOUNT}")
    sd, *_ = board.host.wait_for_blocks(3, BOOT_S)
    assert_file_is_whole(board, sd.device, "second")
    assert kernel_said(board, begin).count("USB disconnect") == 1
    status, said = board.run("gadgetd attach --yes")
    assert status != 0
    assert "nothing waits" in said


def test_a_card_that_is_put_into_a_usb_reader_comes_and_costs_nothing_until_then(
    boot: Boot, tmp_path: Path
) -> None:
    card = tmp_path / "card.img"
    card.touch()
    with card.open("r+b") as file:
        file.truncate(CARD_SIZE)
    reader = "usb-storage,id=reader,drive=slot,bus=xhci.0,serial=READER1,removable=on"
    board = boot(
        MachineOptions(
            qemu_arguments=(
                *("-device", "qemu-xhci,id=xhci", "-drive", "if=none,id=slot"),
                *("-device", reader),
            ),
            files=yaml_file("disks:\n  - kind: usb\n"),
        )
    )
    row = board.expect_event(event="disk", kind="usb", reason="no medium (size 0)")
    name = row["name"]
    poll = board.check(f"cat /sys/block/{name}/events_poll_msecs").strip()
    assert poll == str(POLL_MS)

    def wake_ups(seconds: int) -> int:
        count = f"grep ^voluntary /proc/{board.daemon()}/status | cut -f2"
        before, after = board.check(f"{count}; sleep {seconds}; {count}").split()
        return int(after) - int(before)

    # Its start ends after the disk is told of: the screen, the commands, one more look.
    until("the daemon has come to rest", lambda: wake_ups(3) == 0)
    with_poll = wake_ups(10)
    board.check(f"echo 0 >/sys/block/{name}/events_poll_msecs")
    without = wake_ups(10)
    print(f"wake-ups of gadgetd in 10 s: {with_poll} with the reader watched, {without} without")
    assert with_poll <= without + 2
    board.check(f"echo {POLL_MS} >/sys/block/{name}/events_poll_msecs")
    since = board.uart.line.position
    board.machine.monitor.execute(
        "blockdev-change-medium", {"device": "slot", "filename": str(card), "format": "raw"}
    )
    board.expect_event(since, event="disk", name=name, lun=0)
    (block,) = board.host.wait_for_blocks(1, WAIT_S)
    assert block.size_bytes == CARD_SIZE
