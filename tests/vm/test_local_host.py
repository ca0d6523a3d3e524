"""The host's side of a board on the bench, tried on a sysfs as Linux lays it out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from emulator import disk_numbers
from tests.vm.board import LocalHost, Pattern

SERIAL = "10000000a1b2c3d4"
USB = "devices/pci0000:00/0000:00:14.0/usb1/1-3"


def disk(sys: Path, name: str, usb: str, interface: int, lun: int, **files: str) -> None:
    """One of a USB device's disks, with its links from /sys/block and back to the device."""
    host = f"{usb}/1-3:1.{interface}/host{interface}/target{interface}:0:0/{interface}:0:0:{lun}"
    contents = {
        f"{usb}/1-3:1.{interface}/bInterfaceNumber": f"{interface:02x}",
        f"{host}/vendor": "a1b2c3d4",
        f"{host}/model": f"NVMe {name:11}",
        f"{host}/rev": "0.1 ",
        f"{host}/block/{name}/size": files.get("size", "204800"),
        f"{host}/block/{name}/queue/logical_block_size": "4096",
        f"{host}/block/{name}/ro": files.get("ro", "0"),
        f"{host}/block/{name}/removable": "1",
    }
    write(sys, contents)
    (sys / host / "block" / name / "device").symlink_to(sys / host)
    (sys / "block").mkdir(exist_ok=True)
    (sys / "block" / name).symlink_to(sys / host / "block" / name)


def write(sys: Path, contents: Mapping[str, str]) -> None:
    for path, text in contents.items():
        (sys / path).parent.mkdir(parents=True, exist_ok=True)
        (sys / path).write_text(f"{text}\n")


def usb_device(sys: Path, usb: str, serial: str) -> None:
    names = ("manufacturer", "product", "idVendor", "idProduct", "bcdDevice", "speed")
    write(sys, {f"{usb}/{name}": f"its {name}" for name in names} | {f"{usb}/serial": serial})


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    usb_device(tmp_path, USB, SERIAL)
    disk(tmp_path, "sdc", USB, 1, 0)
    disk(tmp_path, "sdb", USB, 0, 1, ro="1")
    disk(tmp_path, "sdd", USB, 0, 0)
    return tmp_path


def test_the_boards_disks_come_in_the_order_of_their_luns(sysfs: Path) -> None:
    blocks = LocalHost(SERIAL, sysfs).blocks()
    names = [block.name for block in blocks]
    assert [*zip(names, disk_numbers(blocks), strict=True)] == [("sdd", 0), ("sdc", 1), ("sdb", 2)]
    assert [block.ro for block in blocks] == [False, False, True]
    assert blocks[2].size_bytes == 204800 * 512
    assert blocks[2].logical_block_size == 4096
    assert blocks[2].inquiry == "a1b2c3d4NVMe sdb        0.1 "
    assert (blocks[2].model, blocks[2].address) == ("NVMe sdb", "0:0:0:1")
    assert (blocks[2].id_vendor, blocks[2].product) == ("its idVendor", "its product")


def test_other_disks_of_this_machine_are_never_taken_for_the_boards(sysfs: Path) -> None:
    usb_device(sysfs, "devices/usb2/2-1", "someone else's")
    disk(sysfs, "sda", "devices/usb2/2-1", 0, 0)
    # A SATA disk has no USB device above it.
    write(sysfs, {"devices/ata1/host9/target9:0:0/9:0:0:0/model": "Disk"})
    (sysfs / "devices/ata1/sde").mkdir()
    (sysfs / "devices/ata1/sde/device").symlink_to(sysfs / "devices/ata1/host9/target9:0:0/9:0:0:0")
    (sysfs / "block" / "sde").symlink_to(sysfs / "devices/ata1/sde")
    names = {block.name for block in LocalHost(SERIAL, sysfs).blocks()}
    assert names == {"sdb", "sdc", "sdd"}


def test_a_disk_that_is_just_going_away_is_not_there(sysfs: Path) -> None:
    (sysfs / "block/sdb/size").unlink()
    assert [block.name for block in LocalHost(SERIAL, sysfs).blocks()] == ["sdd", "sdc"]


def test_commands_run_on_this_machine(tmp_path: Path) -> None:
    host = LocalHost(SERIAL, tmp_path)
    assert host.run("echo here; echo there >&2; exit 3") == (3, "here\nthere\n")


def test_the_pattern_that_a_shell_makes_is_the_one_that_we_make(tmp_path: Path) -> None:
    pattern = Pattern(1_000_000, 1 << 16)
    host = LocalHost(SERIAL, tmp_path)
    assert host.run(pattern.command)[1].encode() == pattern.data
    assert len(pattern.data) == pattern.size_bytes
    assert host.run(f"{pattern.command} | sha256sum")[1].split()[0] == pattern.digest


def test_a_missing_board_is_said_once_and_ends_the_run(tmp_path: Path) -> None:
    ours = ["tests/vm/test_standard.py", "-o", f"cache_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *ours, f"--board={tmp_path}/ttyUSB9"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stdout.count("cannot open the serial port") == 1
    assert "is it plugged in" in done.stdout
    assert "Traceback" not in done.stdout
