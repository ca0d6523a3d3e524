"""Which disks the host gets, board by board: all kinds, none, ten, late, mounted, read-only."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator import Drive, Machine, MachineOptions, disk_numbers
from tests.vm import leds
from tests.vm.board import BOOT_S, CHUNK, WAIT_S, Board, Pattern, inquiry, yaml_file

pytestmark = [pytest.mark.emulated, pytest.mark.hosts("same")]

Boot = Callable[..., Board]
MIB = 1 << 20
SD = Drive(64 * MIB)
WAIT_FOR_NODE = "until [ -b /dev/{0} ]; do usleep 20000; done\n"
NEW_DEVICE = "new high-speed USB device"


def times_connected(board: Board) -> int:
    """How often the host found the board on its port."""
    return board.host.check("dmesg").count(NEW_DEVICE)


def test_an_nvme_disk_alone_is_exported_with_three_flashes(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=(Drive(100 * MIB),)))
    (block,) = board.host.wait_for_blocks(1)
    assert block.inquiry == inquiry("NVMe nvme0n1")
    assert (block.size_bytes, block.logical_block_size, block.ro) == (100 * MIB, 512, False)
    board.expect_on_both("1 disk exported")
    leds.expect_three_flashes_then_steady(board)
    leds.expect_steady(board)
    assert len(board.led()) == 5, "nothing after the flashes"


def test_a_board_without_a_disk_says_so_and_exports_the_first_that_comes(boot: Boot) -> None:
    board = boot(MachineOptions(spare_ports=1))
    board.expect_phase("waiting-for-disks")
    board.expect_on_both("no disk to export; waiting for one")
    assert board.host.blocks() == []
    assert board.led() == [], "nothing to say yet, and no error either"
    since = board.uart.line.position
    board.machine.plug_nvme("late", Drive(80 * MIB))
    board.expect_phase("exported", since)
    (block,) = board.host.wait_for_blocks(1)
    assert block.size_bytes == 80 * MIB
    assert block.inquiry == inquiry("NVMe nvme0n1")
    board.expect_on_both("1 disk exported", since=since)
    pattern = Pattern(3_000_000, 4 * CHUNK)
    assert board.host_writes(block, CHUNK, pattern)[0] == 0
    assert board.medium_digest("nvme0n1", CHUNK, pattern.size_bytes) == pattern.digest


def test_ten_nvme_disks_are_all_at_the_host_in_their_order(boot: Boot) -> None:
    drives = tuple(Drive((64 + index) * MIB) for index in range(10))
    board = boot(MachineOptions(sd=SD, nvme=drives, spare_ports=1))
    board.expect_event(0, WAIT_S, event="phase", phase="exported", luns=11)
    names = ["mmcblk0", *(f"nvme{n}n1" for n in range(10))]
    expect_disks(board, names)
    # Numbered anew, by name alone, when everything was taken down.
    board.check("gadgetd stop")
    board.machine.plug_nvme("eleventh", Drive(80 * MIB))
    board.check("until [ -b /dev/nvme10n1 ]; do usleep 50000; done; gadgetd start")
    names.append("nvme10n1")
    expect_disks(board, names)
    board.expect_on_screen("12 disks exported")


def expect_disks(board: Board, names: list[str]) -> None:
    """The host has exactly these, three in a function at most, each with its own size and name."""
    blocks = board.host.wait_for_blocks(len(names))
    assert disk_numbers(blocks) == list(range(len(names)))
    # The host finds disks in four functions of dummy_udc.
    assert [block.function for block in blocks] == [n % 4 for n in range(len(names))]
    sizes = board.check(" ".join(["cat", *(f"/sys/block/{name}/size" for name in names)])).split()
    assert [block.size_bytes for block in blocks] == [int(size) * 512 for size in sizes]
    assert [block.model.split()[1] for block in blocks] == names


def test_a_disk_of_4096_byte_blocks_is_one_on_the_host(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=(Drive(96 * MIB, logical_block_size=4096),)))
    (block,) = board.host.wait_for_blocks(1)
    assert (block.logical_block_size, block.size_bytes) == (4096, 96 * MIB)
    pattern = Pattern(4_000_000, 4 * CHUNK)
    last = 96 * MIB - pattern.size_bytes
    status, said = board.host_writes(block, last, pattern)
    assert status == 0, said
    assert board.medium_digest("nvme0n1", last, pattern.size_bytes) == pattern.digest
    assert board.host_digest(block, last, pattern.size_bytes) == pattern.digest


def test_a_mounted_disk_is_left_out_until_it_is_unmounted(boot: Boot) -> None:
    hook = (
        "modprobe -a nvme vfat nls_cp437 nls_ascii\n"
        + WAIT_FOR_NODE.format("nvme0n1p1")
        + "mkdosfs /dev/nvme0n1p1; mkdir -p /mnt/data; mount -t vfat /dev/nvme0n1p1 /mnt/data\n"
    )
    nvme = (Drive(64 * MIB),)
    plain = "fbcon=font:VGA8x16"
    options = MachineOptions(sd=SD, nvme=nvme, hook=hook, screen=(640, 400), cmdline=plain)
    board = boot(options, prepare=_with_a_partition)
    told = board.expect_event(event="disk", name="nvme0n1")
    assert (told["lun"], told["reason"]) == (None, "mounted at /mnt/data")
    (block,) = board.host.wait_for_blocks(1)
    assert block.inquiry == inquiry("SD mmcblk0")
    board.expect_on_screen("left out, mounted at /mnt/data")
    assert len(board.screen()) == 25
    since = board.uart.line.position
    board.check("umount /mnt/data")
    board.expect_event(since, event="disk", name="nvme0n1", lun=None)
    board.check("gadgetd attach --yes")
    board.expect_event(since, event="disk", name="nvme0n1", lun=1)
    blocks = board.host.wait_for_blocks(2)
    assert blocks[1].inquiry == inquiry("NVMe nvme0n1")
    assert board.run("mount -t vfat /dev/nvme0n1p1 /mnt/data")[0] != 0


def _with_a_partition(machine: Machine) -> None:
    # Source: the classic MBR, one entry: FAT32 with LBA, from 1 MiB to 33 MiB.
    entry = struct.pack("<B3sB3sII", 0, b"\0\0\0", 0x0C, b"\0\0\0", 2048, 65536)
    with machine.image_path("nvme0").open("r+b") as image:
        image.seek(446)
        image.write(entry + bytes(48) + b"\x55\xaa")


def test_a_read_only_disk_is_read_only_on_the_host(boot: Boot) -> None:
    hook = "modprobe nvme\n" + WAIT_FOR_NODE.format("nvme0n1") + "blockdev --setro /dev/nvme0n1\n"
    options = MachineOptions(sd=Drive(64 * MIB, read_only=True), nvme=(Drive(64 * MIB),), hook=hook)
    board = boot(options)
    blocks = board.host.wait_for_blocks(2)
    assert board.check("cat /sys/block/mmcblk0/ro /sys/block/nvme0n1/ro").split() == ["1", "1"]
    assert [block.ro for block in blocks] == [True, True]
    for lun, name in enumerate(("mmcblk0", "nvme0n1")):
        told = board.expect_event(event="disk", name=name, lun=lun)
        assert told["read_only"] is True
        expect_writing_to_fail(board, lun, name)
    rows = [line.split() for line in board.screen() if "read-only" in line]
    assert [row[1] for row in rows] == ["mmcblk0", "nvme0n1"]


def expect_writing_to_fail(board: Board, lun: int, name: str) -> None:
    """The host cannot write to this disk, not even a host that does not care, and reads it well."""
    block = board.host.wait_for_blocks(len(board.host.blocks()))[lun]
    before = board.medium_digest(name, 0, CHUNK)
    status, said = board.host_writes(block, 0, Pattern(5_000_000, CHUNK))
    assert status != 0
    assert "denied" in said or "not permitted" in said or "Read-only" in said
    assert board.medium_digest(name, 0, CHUNK) == before
    assert board.host_digest(block, 0, CHUNK) == before


def test_the_configuration_says_which_disks_how_and_under_what_name(boot: Boot) -> None:
    config = """\
disks:
  - kind: sd
    read_only: true
    label: "Boot disk"
  - kind: nvme
    min_size: 70MiB
    label: Data
exclude:
  - serial: "SECRET*"
"""
    drives = (Drive(80 * MIB, serial="OPEN1"), Drive(96 * MIB, serial="SECRET1"), Drive(64 * MIB))
    board = boot(MachineOptions(sd=SD, nvme=drives, files=yaml_file(config)))
    blocks = board.host.wait_for_blocks(2)
    assert [block.inquiry for block in blocks] == [inquiry("Boot disk"), inquiry("Data")]
    assert [block.ro for block in blocks] == [True, False]
    assert [block.size_bytes for block in blocks] == [64 * MIB, 80 * MIB]
    expect_writing_to_fail(board, 0, "mmcblk0")
    reasons = {e["serial"]: (e["lun"], e["reason"]) for e in board.events() if e["event"] == "disk"}
    assert reasons["OPEN1"] == (1, "exported by /etc/gadgetd.yaml:5")
    assert reasons["SECRET1"] == (None, "excluded by /etc/gadgetd.yaml:9")
    assert reasons["nvme-2"] == (None, "no rule of disks matches")
    assert "excluded by /etc/gadgetd.yaml:9" in board.words()


def test_a_disk_on_its_way_is_waited_for_and_the_host_connects_once(boot: Boot) -> None:
    # The SD card is there at once, the NVMe disk's driver only when the daemon waits for it.
    board = boot(
        MachineOptions(
            sd=SD,
            nvme=(Drive(64 * MIB),),
            load_disk_drivers=False,
            hook="modprobe sdhci-pci\n",
            files=yaml_file("wait: {disks_s: 60}\n"),
        ),
        login=False,
    )
    waiting = board.expect_phase("waiting-for-disks", 0, BOOT_S)
    assert "NVMe at 0000:" in waiting["message"]
    assert board.host.blocks() == []
    board.inside.check("modprobe nvme")
    assert board.expect_phase("exported")["luns"] == 2
    blocks = board.host.wait_for_blocks(2)
    assert [block.model for block in blocks] == ["SD mmcblk0", "NVMe nvme0n1"]
    assert times_connected(board) == 1
    configured = [e for e in board.events() if e.get("change") == "configured"]
    assert len(configured) == 1


def test_a_disk_that_never_comes_is_waited_for_no_longer_than_configured(boot: Boot) -> None:
    config = "wait: {disks_s: 3}\n"
    board = boot(
        MachineOptions(
            sd=SD,
            nvme=(Drive(64 * MIB),),
            load_disk_drivers=False,
            hook="modprobe sdhci-pci\n",
            files=yaml_file(config),
        )
    )
    board.expect_phase("waiting-for-disks")
    assert board.expect_phase("exported")["luns"] == 1
    board.host.wait_for_blocks(1)
    since = board.uart.line.position
    board.check("modprobe nvme")
    board.expect_event(since, event="disk", name="nvme0n1", lun=None)
    board.check("gadgetd attach --yes")
    board.expect_event(since, event="disk", name="nvme0n1", lun=1)
    assert disk_numbers(board.host.wait_for_blocks(2)) == [0, 1]


@pytest.mark.one_host("same", "on one kernel alone the gadget's disks come back to the board")
def test_sata_and_usb_disks_are_exported_when_asked_and_never_our_own(
    boot: Boot, tmp_path: Path
) -> None:
    arguments: list[str] = ["-device", "ahci,id=ahci", "-device", "qemu-xhci,id=xhci"]
    for name, size in (("sata", 72 * MIB), ("usb", 88 * MIB)):
        image = tmp_path / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(size)
        arguments += ["-drive", f"if=none,id={name}-disk,format=raw,file={image}"]
    arguments += ["-device", "ide-hd,drive=sata-disk,bus=ahci.0,serial=SATA1"]
    arguments += ["-device", "usb-storage,drive=usb-disk,bus=xhci.0,serial=STICK1,removable=off"]
    board = boot(
        MachineOptions(
            nvme=(Drive(64 * MIB),),
            qemu_arguments=tuple(arguments),
            files=yaml_file("disks:\n  - kind: [nvme, sata, usb]\n"),
        )
    )
    blocks = board.host.wait_for_blocks(3)
    assert sorted(block.size_bytes // MIB for block in blocks) == [64, 72, 88]
    # Ours come back as USB disks too, and the rule asks for USB disks.
    names = {block.name for block in blocks}
    for name in names:
        board.expect_event(event="disk", name=name, lun=None)
    told = {e["name"]: e for e in board.events() if e["event"] == "disk"}
    assert {told[name]["reason"] for name in names} == {"comes from this gadget itself"}
    kinds = {e["kind"]: e["size_bytes"] for e in told.values() if e["lun"] is not None}
    assert kinds == {"nvme": 64 * MIB, "sata": 72 * MIB, "usb": 88 * MIB}
    # Without being asked, gadgetd leaves them alone and says how to ask.
    since = board.uart.line.position
    board.check("rm /etc/gadgetd.yaml; gadgetd reload")
    told_anew = board.expect_event(since, event="disk", kind="sata", lun=None)
    assert "no rule of disks matches" in told_anew["reason"]
    # The LUNs stay, and are empty for whoever tries.
    readable = [b.size_bytes for b in blocks if board.host.run(f"head -c 1 {b.device}")[0] == 0]
    assert readable == [64 * MIB]
