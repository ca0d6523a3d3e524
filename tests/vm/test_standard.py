"""An SD card and an NVMe disk, exported at boot: what the host sees is what is on the disks.

Most of this also runs against a board on the bench, with whatever disks it has (--board).
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from emulator import HostBlock, disk_numbers
from gadgetd import __version__
from gadgetd.show import sign
from tests.vm.board import BOOT_S, CHUNK, REVISION, WAIT_S, Board, Pattern, inquiry, until
from tests.vm.conftest import NVME_SIZE, SD_SIZE, WRITTEN_OUTSIDE, WRITTEN_OUTSIDE_AT

ZEROS = hashlib.sha256(bytes(CHUNK)).hexdigest()
Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(board: Board) -> list[Row]:
    """What the board exports, in the order of the LUNs."""
    # Until the daemon listens for commands, `gadgetd status` says so and fails.
    exported = 'gadgetd status --json | grep -q \'"phase": "exported"\''
    until("the board exports a disk", lambda: board.run(exported)[0] == 0, BOOT_S)
    return board.exported()


@pytest.fixture
def blocks(board: Board, rows: list[Row]) -> list[HostBlock]:
    """The same disks at the host."""
    return board.host.wait_for_blocks(len(rows), WAIT_S)


def test_root_logs_in_on_the_uart_without_a_password(board: Board) -> None:
    assert board.check("echo $USER $(id -u)").split() == ["root", "0"]
    said = board.uart.line.text()
    assert "assword" not in re.sub(r"no password\.?", "", said)


@pytest.mark.emulated
def test_the_boot_is_told_on_the_uart_in_lines_that_parse(board: Board) -> None:
    phase = board.expect_phase("exported")
    events = board.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    started = events[0]
    assert started == {
        "event": "started",
        "version": __version__,
        "board": "Raspberry Pi Compute Module 4 Rev 1.1",
        "serial": "10000000a1b2c3d4",
        "seq": 1,
    }
    assert phase["luns"] == 2
    told = {event["lun"]: event for event in events if event["event"] == "disk"}
    assert told[0]["name"] == "mmcblk0"
    assert told[0]["kind"] == "sd"
    assert told[0]["size_bytes"] == SD_SIZE
    assert told[1]["name"] == "nvme0n1"
    assert told[1]["kind"] == "nvme"
    assert told[1]["size_bytes"] == NVME_SIZE
    assert told[1]["serial"] == "NVMESER1"
    assert told[1]["read_only"] is False
    # Every line for programs has one for people before it.
    lines = board.uart.line.text().splitlines()
    marked = [i for i, line in enumerate(lines) if line.startswith("@gadgetd ")]
    assert all("gadgetd: " in lines[i - 1] for i in marked)


def test_the_host_sees_each_disk_as_it_is_on_the_board(
    board: Board, blocks: list[HostBlock], rows: list[Row]
) -> None:
    assert disk_numbers(blocks) == [row["lun"] for row in rows]
    for block, row in zip(blocks, rows, strict=True):
        sys = f"/sys/block/{row['name']}"
        facts = board.check(f"cat {sys}/size {sys}/queue/logical_block_size {sys}/ro").split()
        assert block.size_bytes == int(facts[0]) * 512 == row["size_bytes"]
        assert block.logical_block_size == int(facts[1]) == row["block_size"]
        assert block.ro == row["read_only"]
        assert block.ro >= (facts[2] == "1")
        assert block.removable
        assert f"{block.vendor} {block.model}" == row["inquiry"]
        assert block.rev == REVISION


def test_the_usb_device_is_the_one_that_tools_know(board: Board, blocks: list[HostBlock]) -> None:
    serial = board.status()["board"]["serial"]
    for block in blocks:
        assert (block.id_vendor, block.id_product, block.bcd_device) == ("0a5c", "0104", "0100")
        assert block.manufacturer == "Raspberry Pi"
        assert block.product == "Raspberry Pi multi-function USB device"
        assert block.usb_serial == serial


@pytest.mark.emulated
def test_sd_comes_before_nvme_with_names_a_person_can_tell_apart(blocks: list[HostBlock]) -> None:
    assert [block.inquiry for block in blocks] == [inquiry("SD mmcblk0"), inquiry("NVMe nvme0n1")]
    assert [block.size_bytes for block in blocks] == [SD_SIZE, NVME_SIZE]
    assert [block.logical_block_size for block in blocks] == [512, 512]
    assert not any(block.ro for block in blocks)
    assert [(block.function, block.lun) for block in blocks] == [(0, 0), (1, 0)]
    assert blocks[0].usb_serial == "10000000a1b2c3d4"
    assert blocks[0].speed == "480"


@pytest.mark.emulated
def test_bytes_put_into_the_image_file_are_read_by_the_host(
    board: Board, blocks: list[HostBlock]
) -> None:
    size = WRITTEN_OUTSIDE.size_bytes
    assert board.host_digest(blocks[1], WRITTEN_OUTSIDE_AT, size) == WRITTEN_OUTSIDE.digest
    # The SD card has zeros there: the two have not been mixed up.
    assert board.host_digest(blocks[0], WRITTEN_OUTSIDE_AT, CHUNK) == ZEROS


@pytest.mark.writes
def test_bytes_written_by_the_host_are_on_the_disk(
    board: Board, blocks: list[HostBlock], rows: list[Row]
) -> None:
    for block, row in zip(blocks, rows, strict=True):
        pattern = Pattern(2_000_000 + 500_000 * row["lun"], 4 * CHUNK)
        offset = row["size_bytes"] // 2 // CHUNK * CHUNK
        with board.borrowed(block, offset, pattern.size_bytes):
            status, said = board.host_writes(block, offset, pattern)
            assert status == 0, said
            found = board.medium_digest(row["name"], offset, pattern.size_bytes)
            assert found == pattern.digest
            assert board.host_digest(block, offset, pattern.size_bytes) == pattern.digest


def test_the_host_reads_what_the_board_reads(
    board: Board, blocks: list[HostBlock], rows: list[Row]
) -> None:
    for block, row in zip(blocks, rows, strict=True):
        end = row["size_bytes"] // CHUNK * CHUNK - CHUNK
        for offset in (0, end):
            expected = board.medium_digest(row["name"], offset, CHUNK)
            assert board.host_digest(block, offset, CHUNK) == expected


def test_an_exported_disk_cannot_be_claimed_on_the_board(board: Board, rows: list[Row]) -> None:
    assert rows
    for row in rows:
        code = f"import os; os.open('/dev/{row['name']}', os.O_RDONLY | os.O_EXCL)"
        status, said = board.run(f'python3 -S -c "{code}"')
        assert status != 0
        assert "[Errno 16]" in said, "EBUSY"


@pytest.mark.emulated
def test_an_exported_disk_cannot_be_mounted_on_the_board(
    board: Board, blocks: list[HostBlock]
) -> None:
    board.check(f"modprobe -a vfat nls_cp437 nls_ascii; mkdosfs {blocks[1].device}", WAIT_S)
    assert "vfat" in board.check("cat /proc/filesystems")
    status, said = board.run("mount -t vfat /dev/nvme0n1 /mnt")
    assert status != 0
    assert "Device or resource busy" in said
    assert "/mnt" not in board.check("cat /proc/mounts")


def test_hdmi_shows_each_disk(board: Board, rows: list[Row]) -> None:
    board.expect_on_screen(f"gadgetd {__version__}", "connected, high-speed")
    board.expect_sign(sign.READY)
    lines = board.screen()
    for row in rows:
        (line,) = (line for line in lines if row["name"] in line)
        assert row["model"][:6] in line
        assert ("read-only" in line) == row["read_only"]


@pytest.mark.emulated
def test_hdmi_is_a_picture_with_text_on_it(board: Board, blocks: list[HostBlock]) -> None:
    assert blocks
    board.expect_on_screen("connected")
    board.machine.screendump(board.directory / "hdmi.png")
    picture = board.machine.directory / "hdmi.ppm"
    board.machine.monitor.execute("screendump", {"filename": str(picture), "format": "ppm"})
    width, height, lit = lit_pixels(picture)
    assert (width, height) == (1280, 800)
    # A character of the console's 16x32 font lights some 80 pixels, and a whole block all 512.
    characters = len("".join(board.words().split()))
    screen = "".join(board.screen())
    sign_lit = 512 * screen.count("%") + 256 * (screen.count("^") + screen.count("v"))
    assert sign_lit > 10_000
    assert 20 * characters < lit - sign_lit < 256 * characters


def test_root_can_log_in_on_hdmis_second_console(board: Board) -> None:
    # Typed for the person at the keyboard, whose login prompt is on /dev/vcs2.
    def shown() -> str:
        return board.check("cat /dev/vcs2")

    until("a login prompt on tty2", lambda: re.search(r"login: *$|[#$] *$", shown()))
    type_on = (
        "import fcntl, os, sys, termios; tty = os.open('/dev/tty2', os.O_RDWR | os.O_NOCTTY);"
        " [fcntl.ioctl(tty, termios.TIOCSTI, bytes([c])) for c in sys.argv[1].encode() + b'\\n']"
    )
    if re.search(r"login: *$", shown()):
        board.check(f'python3 -S -c "{type_on}" root')
    until("a root shell on tty2", lambda: re.search(r"# *$", shown()))
    board.check(f'python3 -S -c "{type_on}" "tty; echo uid is \\$(id -u)"')
    until("the shell's answer", lambda: "uid is 0" in shown())
    assert "assword:" not in shown()


def test_a_half_typed_command_survives_the_daemons_lines(
    board: Board, blocks: list[HostBlock]
) -> None:
    number = disk_numbers(blocks)[-1]
    line = board.uart.line
    since = line.position
    # It comes while we type: the shell goes on reading meanwhile.
    board.check(f"(sleep 1; gadgetd eject {number} >/dev/null) 2>/dev/null &")
    line.send(b"echo half-")
    board.expect_event(since, event="lun", life="ejected")
    typing = line.position
    line.send(b"typed\n")
    line.expect(r"^half-typed$", WAIT_S, typing)
    # The line editor has drawn what was typed so far once more, below the daemon's lines.
    assert re.search(r"^@gadgetd .*\n.*[#$] echo half-", line.text(since), re.MULTILINE)
    since = line.position
    board.check(f"gadgetd insert {number}")
    board.expect_event(since, event="lun", lun=number, previous="ejected")
    assert len(board.host.wait_for_blocks(len(blocks), WAIT_S)) == len(blocks)


def test_no_line_is_lost_or_broken(board: Board) -> None:
    lines = [line for line in board.uart.line.text().splitlines() if line.startswith("@gadgetd")]
    events = [json.loads(line.removeprefix("@gadgetd ")) for line in lines]
    assert events
    numbers = [event["seq"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_a_daemon_that_dies_is_started_again_and_the_disks_are_back(
    board: Board, blocks: list[HostBlock], signal: str
) -> None:
    old = board.daemon()
    since = board.restart(signal)
    phase = board.expect_phase("exported", since)
    assert phase["luns"] == len(blocks)
    assert board.daemon() not in (0, old)
    again = board.host.wait_for_blocks(len(blocks), WAIT_S)
    assert [(b.inquiry, b.size_bytes) for b in again] == [(b.inquiry, b.size_bytes) for b in blocks]
    assert board.check("ls /sys/kernel/config/usb_gadget").split() == ["gadgetd"]
    assert board.host_digest(again[0], 0, CHUNK)


def lit_pixels(picture: Path) -> tuple[int, int, int]:
    """Width and height of a picture (PPM, P6), and how many of its pixels are not black."""
    kind, size, depth, data = picture.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert (kind, depth, len(data)) == (b"P6", b"255", width * height * 3)
    return width, height, sum(map(any, zip(data[::3], data[1::3], data[2::3], strict=True)))
