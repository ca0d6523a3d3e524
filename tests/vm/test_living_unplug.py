"""The cable is cut while the host writes, and plugged in again.

dummy_hcd does not tell the board that the cable is out; a usbip-vudc does, by a state that lasts:
"default". The states of a real controller that this leaves out are unit tests of host and advice.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, HostBlock, MachineOptions
from gadgetd.show import sign
from tests.vm.board import CHUNK, WAIT_S, Board, Pattern, until
from tests.vm.conftest import Bench, Boot
from tests.vm.living import (
    FILES,
    MIB,
    Traffic,
    eject,
    expect_host_size,
    host_does,
    lives,
)

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.hosts("same"),
    pytest.mark.one_host("same", "has a cable of its own; test_pc_killed.py pulls the PC's"),
]

SIZES = [64 * MIB, 48 * MIB]
VUDC = "usbip-vudc.0"
VHCI = "/sys/devices/platform/vhci_hcd.0"
FREE = "004"
"""State of a port without a cable (source: VDEV_ST_NULL in drivers/usb/usbip/usbip_common.h)."""
PORT = "/sys/bus/usb/devices/1-0:1.0/usb1-port1"


@pytest.fixture(scope="module")
def board(bench: Bench, usb_host: str) -> Iterator[Board]:
    """A board whose USB controller has no cable in it yet."""
    sd, nvme = SIZES
    hook = "modprobe -a usbip-vudc vhci-hcd\n"
    options = MachineOptions(sd=Drive(sd), nvme=(Drive(nvme),), files=FILES, udcs=0, hook=hook)
    board = bench.boot("living_unplug", options, host=usb_host)
    board.expect_phase("exported")
    yield board
    bench.switch_off()


def plug(board: Board) -> list[HostBlock]:
    """Plug the cable in, and wait for both disks at the host."""
    since = board.uart.line.position

    def configured() -> bool:
        # vhci_hcd lets go at once if it gets an answer to what was asked over the cable before.
        command = f"cat /sys/class/udc/{VUDC}/state {VHCI}/status"
        state, _, port, *_ = board.host.check(command).splitlines()
        if state != "configured" and port.split()[2] == FREE:
            host_does(board, f"plug {VUDC}")
        return state == "configured"

    until("the host is there", configured)
    board.expect_event(since, event="host", change="configured")
    until("both drives are there", lambda: len(board.host.blocks()) == 2)
    # This host, unlike others, looks for a medium when somebody opens the drive.
    for block, size in zip(board.host.blocks(), SIZES, strict=True):
        expect_host_size(board, block, size)
    return board.host.wait_for_blocks(2, WAIT_S)


def cut(board: Board) -> int:
    """Cut the cable. Returns the position in the UART."""
    since = board.uart.line.position
    board.host.check(f"echo 0 >{VHCI}/detach")
    board.expect_event(since, event="host", state="default")
    return since


@pytest.fixture
def blocks(board: Board) -> Iterator[list[HostBlock]]:
    """Both disks at the host, over a cable that is out before and afterwards."""
    yield plug(board)
    if board.host.blocks():
        cut(board)
    board.expect_host_without_disks()


def test_without_a_cable_the_consoles_say_so_and_what_to_do(board: Board) -> None:
    assert board.check(f"cat /sys/class/udc/{VUDC}/state").strip() == "not attached"
    board.expect_on_both("no host: no USB cable, or the PC is off", since=0)
    board.expect_on_screen(
        "PC: none: cable out, or PC off",
        "What to do: plug the board's USB slave port into a PC",
    )
    board.expect_sign(sign.NO_HOST)
    rows = board.exported()
    assert [row["life"] for row in rows] == ["waiting for host"] * 2
    assert not board.status()["safe_to_unplug"]


def test_a_cable_cut_while_the_host_writes_loses_nothing_that_the_board_had_taken(
    board: Board, blocks: list[HostBlock]
) -> None:
    sd, nvme = blocks
    synced = Pattern(3_000_000, 4 * CHUNK)
    assert board.host_writes(nvme, 0, synced)[0] == 0
    # What a cable in again takes back.
    board.expect_event(0, event="advice", active=False, message=about_no_cable(board))
    writing = Traffic(board, sd, 16)
    writing.begin()
    since = cut(board)
    board.expect_event(since, event="lun", lun=0, life="flushing")
    board.expect_event(since, event="lun", lun=0, life="waiting for host")
    result = writing.end()
    assert result["errors"], "the host was to be disturbed"
    assert sum(result["generations"]) >= 4
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert board.medium_digest("nvme0n1", 0, synced.size_bytes) == synced.digest
    assert board.exported()[0]["life"] == "waiting for host"
    board.expect_on_both("no host has set this board up (state: default)", since=since)
    assert "SAFE" not in board.words()

    again = plug(board)
    assert [block.inquiry for block in again] == [block.inquiry for block in blocks]
    board.expect_event(since, event="advice", active=False)
    until("a word about a host that is there", lambda: "connected, high-speed" in board.words())
    assert board.host_digest(again[1], 0, synced.size_bytes) == synced.digest
    number = min(set(range(16, 144)) - set(result["failed"]))
    generation = result["generations"][number - 16]
    assert generation
    digest = board.medium_digest("mmcblk0", number * CHUNK, CHUNK)
    assert board.host_digest(again[0], number * CHUNK, CHUNK) == digest
    told = [word for word in lives(board, since, 0) if word not in ("writing", "flushed")]
    assert told[:2] == ["flushing", "waiting for host"]


def about_no_cable(board: Board) -> str:
    """The sentence that was on the UART while there was no cable."""
    events = [e for e in board.events() if e["event"] == "advice" and e["active"]]
    return str(next(e["message"] for e in events if "no USB cable" in e["message"]))


def test_an_ejected_disk_comes_back_with_the_next_plug_and_the_word_outlives_the_cable(
    board: Board, blocks: list[HostBlock]
) -> None:
    since = board.uart.line.position
    host_does(board, *map(eject, blocks))
    board.expect_event(since, event="safe_to_unplug", safe=True)
    since = cut(board)
    board.expect_host_without_disks()
    assert board.status()["safe_to_unplug"]
    board.expect_sign(sign.SAFE)
    assert not [e for e in board.events(since) if e["event"] == "safe_to_unplug"]
    again = plug(board)
    board.expect_event(since, event="safe_to_unplug", safe=False)
    assert [block.inquiry for block in again] == [block.inquiry for block in blocks]
    assert "SAFE TO UNPLUG" not in board.words()


def test_a_port_without_power_for_a_while_loses_nothing(boot: Boot) -> None:
    sd, nvme = SIZES
    board = boot(MachineOptions(sd=Drive(sd), nvme=(Drive(nvme),), files=FILES))
    blocks = board.host.wait_for_blocks(2, WAIT_S)
    writing = Traffic(board, blocks[1], 16)
    writing.begin()
    since = board.uart.line.position
    board.host.check(f"echo 1 >{PORT}/disable")
    board.expect_host_without_disks()
    assert writing.end()["errors"]
    board.expect_event(since, event="lun", lun=1, life="flushed")
    assert writing.wrong_on_medium(board.machine.image_path("nvme0")) == []
    board.host.check(f"echo 0 >{PORT}/disable")
    again = board.host.wait_for_blocks(2, WAIT_S)
    assert [block.inquiry for block in again] == [block.inquiry for block in blocks]
    board.expect_event(since, event="host", change="configured")
    assert [row["lun"] for row in board.exported()] == [0, 1]
