"""What goes wrong is told in words: a disk that fails, a slow link, a host that sleeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator import Drive, HostBlock, MachineOptions
from gadgetd.show import sign
from tests.vm.board import WAIT_S, Board, until
from tests.vm.conftest import Boot
from tests.vm.hostside import CHUNK
from tests.vm.living import (
    FILES,
    MIB,
    Chunks,
    bad_disk,
    drop,
    expect_life,
    host_does,
    write,
)

pytestmark = pytest.mark.emulated

SIZE = 32 * MIB
BAD_CHUNK = 100
"""The failing disk refuses writes to this chunk's first sector."""


def failing_disk(image: Path) -> tuple[str, ...]:
    """QEMU's options for an NVMe disk of which one sector cannot be written."""
    return bad_disk(image, SIZE, "write", BAD_CHUNK * CHUNK)


def errors(board: Board, lun: int) -> list[str]:
    return [e["life"] for e in board.events() if e["event"] == "lun" and e["lun"] == lun]


def test_a_disk_that_refuses_data_is_named_and_nothing_is_called_safe_again(
    boot: Boot, tmp_path: Path
) -> None:
    image = tmp_path / "bad.img"
    board = boot(MachineOptions(sd=Drive(SIZE), files=FILES, qemu_arguments=failing_disk(image)))
    _sd, bad = board.host.wait_for_blocks(2, WAIT_S)
    good = Chunks(0, 8)
    since = board.uart.line.position
    host_does(board, write(bad, good))
    board.expect_event(since, event="lun", lun=1, life="flushed")
    assert good.are_in(image)
    host_does(board, write(bad, Chunks(BAD_CHUNK, 1)))
    board.expect_event(since, event="lun", lun=1, life="write error")
    board.expect_on_both("nvme0n1 does not take all that the host writes", since=since)
    board.expect_on_screen("WRITE ERROR")
    row = next(row for row in board.exported() if row["lun"] == 1)
    assert row["life"] == "write error"
    expect_flicker(board)
    # Whatever comes now, the word is not said: neither by a daemon that comes after this one, ...
    since = board.restart("TERM")
    board.expect_event(since, event="lun", lun=1, life="write error")
    until(
        "the host has the good one",
        lambda: [b.size_bytes for b in board.host.blocks()[:1]] == [SIZE],
    )
    # ... nor when the host ejects what it has, ...
    again = board.uart.line.position
    host_does(board, drop(board.host.blocks()[0]))
    board.expect_event(again, event="lun", lun=0, life="ejected")
    expect_life(board, 1, "write error")
    assert not board.status()["safe_to_unplug"]
    # ... nor when the board's own shell takes everything down.
    status, said = board.run("gadgetd stop")
    assert status != 0
    assert "not all data could be written" in said
    assert not [e for e in board.events() if e["event"] == "safe_to_unplug"]
    assert "SAFE TO UNPLUG" not in board.words()


def expect_flicker(board: Board) -> None:
    """Wait for the LED's error pattern: five changes within two seconds, on this slow board."""

    def flickers() -> bool:
        times = [at for at, _ in board.machine.led_changes()][-5:]
        return len(times) == 5 and times[-1] - times[0] < 2

    until("the LED flickers", flickers)


@pytest.fixture
def slow_cable(boot: Boot) -> tuple[Board, HostBlock]:
    """A board behind a hub or a cable that lets through full speed only."""
    hook = "modprobe dummy_hcd is_high_speed=0\n"
    board = boot(MachineOptions(sd=Drive(SIZE), files=FILES, udcs=0, hook=hook))
    (block,) = board.host.wait_for_blocks(1, WAIT_S)
    return board, block


def test_a_slow_link_and_a_host_that_sleeps_are_told_and_what_to_do(
    slow_cable: tuple[Board, HostBlock],
) -> None:
    board, block = slow_cable
    assert block.speed == "12"
    board.expect_on_both("the link is full-speed only (12 Mb/s at best)", since=0)
    board.expect_on_screen("use another cable, or plug into the PC without the hub")
    assert board.status()["controller"]["speed"] == "full-speed"

    # A Linux host suspends a device that no driver uses.
    since = board.uart.line.position
    usb = "/sys/bus/usb/devices/1-1"
    board.host.check("echo 1-1:1.0 >/sys/bus/usb/drivers/usb-storage/unbind")
    board.host.check(f"echo 0 >{usb}/power/autosuspend_delay_ms; echo auto >{usb}/power/control")
    asleep = "suspended: the host is asleep, or the cable is out"
    board.expect_on_both(asleep, since=since)
    board.expect_on_screen("suspended: host asleep, or cable out")
    board.expect_sign(sign.SUSPENDED)
    assert board.status()["controller"]["state"] == "suspended"
    board.expect_event(since, event="host", change="suspended")
    board.expect_on_screen("wake the host, or plug the cable in again")
    board.host.check(f"echo on >{usb}/power/control")
    board.expect_event(since, event="advice", active=False, message=asleep)
    until("it has gone from HDMI", lambda: "suspended" not in board.words())
