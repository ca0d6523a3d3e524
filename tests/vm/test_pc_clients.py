"""Programs that nobody here wrote, on a PC that is a machine of its own, write to the disks.

Each has to end well, and the disk's image to have the same bytes as the PC. What was seen is kept
as a table in clients.md, beside uart.log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emulator import HostBlock
from tests.vm.board import BOOT_S, CHUNK, Pattern
from tests.vm.conftest import PAIR_SIZES
from tests.vm.pair import Pair

pytestmark = pytest.mark.emulated

MIB = 1 << 20
NAMES = ("mmcblk0", "nvme0n1")
CLIENT_S = 120
HEAD = "| Program | Version | Written | Same bytes | The UART said |\n|---|---|---|---|---|\n"
ILLEGAL_REQUEST = 5
"""Exit status of the sg3_utils (source: sg3_utils(8), EXIT STATUS)."""


@pytest.fixture
def disks(pair: Pair) -> list[HostBlock]:
    """Both disks, as the PC has them."""
    return pair.host.wait_for_blocks(2, BOOT_S)


@contextmanager
def row(pair: Pair, program: str, version: str, written: str) -> Iterator[None]:
    """Keep a row of the table, once what is done here has gone well."""
    since = pair.board.uart.line.position
    yield
    events = [event for event in pair.board.events(since) if event["event"] == "lun"]
    told = [str(event["life"]) for event in events]
    words = [word for word, before in zip(told, ["", *told], strict=False) if word != before]
    number = pair.host.check(f"{version} 2>&1 | grep -o '[0-9][0-9.]*[0-9]' | head -n 1").strip()
    path = pair.kept / "clients.md"
    if not path.exists():
        path.write_text(HEAD)
    with path.open("a") as table:
        table.write(f"| `{program}` | {number} | {written} | yes | {', '.join(words)} |\n")


def assert_same(pair: Pair, disk: HostBlock) -> None:
    """The whole disk, as the PC reads it past its cache, is the image outside."""
    name = NAMES[disk.function]
    digest = pair.board.medium_digest(name, 0, disk.size_bytes)
    dd = f"dd if={disk.device} bs=1M iflag=direct 2>/dev/null | sha256sum"
    assert pair.host.check(dd, CLIENT_S).split()[0] == digest


def test_the_disks_appear_on_the_pc(disks: list[HostBlock]) -> None:
    assert [disk.size_bytes for disk in disks] == list(PAIR_SIZES)
    assert {disk.controller for disk in disks} == {"vhci_hcd.0"}


@pytest.mark.parametrize("flag", ["", "oflag=direct"], ids=["cached", "direct"])
def test_dd(pair: Pair, disks: list[HostBlock], flag: str) -> None:
    pattern = Pattern(1_000_000 if flag else 2_000_000, 4 * MIB)
    dd = f"dd bs=1M iflag=fullblock conv=fsync,notrunc {flag}".strip()
    with row(pair, dd, "dd --version", "4 MiB"):
        pair.host.check(f"{pattern.command} | {dd} of={disks[1].device}", CLIENT_S)
        assert pair.board.medium_digest("nvme0n1", 0, 4 * MIB) == pattern.digest


def test_bmaptool_copy(pair: Pair, disks: list[HostBlock]) -> None:
    pattern = Pattern(3_000_000, 4 * MIB)
    image = "/tmp/image"
    pair.host.check(f"{pattern.command} >{image}; truncate -s 16M {image}")
    pair.host.check(f"dd if={image} of={image} bs=1M seek=12 count=2 conv=notrunc")
    with row(pair, "bmaptool copy", "bmaptool --version", "6 MiB of 16 MiB"):
        pair.host.check(f"bmaptool create -o {image}.bmap {image}", CLIENT_S)
        said = pair.host.check(
            f"bmaptool copy --bmap {image}.bmap {image} {disks[1].device}", CLIENT_S
        )
        assert "synchronizing" in said
        assert pair.board.medium_digest("nvme0n1", 0, 4 * MIB) == pattern.digest
        second = hashlib.sha256(pattern.data[: 2 * MIB]).hexdigest()
        assert pair.board.medium_digest("nvme0n1", 12 * MIB, 2 * MIB) == second
    pair.host.check(f"rm {image} {image}.bmap")


def test_a_file_system_of_its_own_partition(pair: Pair, disks: list[HostBlock]) -> None:
    disk = disks[0]
    pattern = Pattern(4_000_000, 2 * MIB)
    with row(pair, "parted, mkfs.ext4, mount, e2fsck", "mkfs.ext4 -V", "a tree, 2 MiB"):
        pair.host.check(f"parted -s {disk.device} mklabel gpt mkpart data ext4 1MiB 14MiB")
        pair.host.check(f"udevadm settle; mkfs.ext4 -q -F {disk.device}1", CLIENT_S)
        pair.host.check(f"mount {disk.device}1 /mnt && {pattern.command} >/mnt/file; umount /mnt")
        pair.host.check(f"e2fsck -fn {disk.device}1", CLIENT_S)
        pair.host.check(f"mount -o ro {disk.device}1 /mnt")
        said = pair.host.check("sha256sum /mnt/file; umount /mnt")
        assert said.split()[0] == pattern.digest
        assert_same(pair, disk)


def test_sg3_utils(pair: Pair, disks: list[HostBlock]) -> None:
    disk = disks[1].device
    with row(pair, "sg_inq, sg_turs, sg_readcap, sg_sync, sg_modes", "sg_inq -V", "nothing"):
        for command in ("sg_inq", "sg_turs", "sg_readcap", "sg_sync", "sg_modes"):
            pair.host.check(f"{command} {disk}")
        # The kernel's gadget has no vital product data, says so, and goes on.
        assert pair.host.run(f"sg_vpd {disk}")[0] == ILLEGAL_REQUEST
        pair.host.check(f"sg_turs {disk} && sdparm --command=sync {disk}")


@pytest.mark.long
def test_f3(pair: Pair, disks: list[HostBlock]) -> None:
    disk = disks[1].device
    with row(pair, "mkfs.vfat, f3write, f3read", "f3write --version", "6 MiB"):
        pair.host.check(
            f"wipefs -qa {disk}; parted -s {disk} mklabel msdos mkpart primary 1MiB 7MiB"
        )
        pair.host.check(f"udevadm settle; mkfs.vfat {disk}1; mount {disk}1 /mnt", CLIENT_S)
        pair.host.check("f3write /mnt", CLIENT_S)
        said = pair.host.check("f3read /mnt; umount /mnt", CLIENT_S)
        assert "Data LOST: 0.00 Byte (0 sectors)" in said
        assert_same(pair, disks[1])


def test_udisks_powers_the_board_off_and_the_next_plug_brings_it_back(
    pair: Pair, disks: list[HostBlock]
) -> None:
    pattern = Pattern(5_000_000, 4 * CHUNK)
    version = "udisksctl dump | grep -m 1 Version:"
    with row(pair, "udisksctl power-off", version, "256 KiB"):
        pair.host.check(f"{pattern.command} | dd of={disks[1].device} bs=64K iflag=fullblock")
        pair.host.check(f"udisksctl power-off -b {disks[1].device}", CLIENT_S)
        pair.board.expect_host_without_disks()
        assert pair.board.medium_digest("nvme0n1", 0, 4 * CHUNK) == pattern.digest
    pair.unplug()
    pair.plug()
    assert [disk.inquiry for disk in pair.host.wait_for_blocks(2, BOOT_S)] == [
        disk.inquiry for disk in disks
    ]
