"""The USB device controllers of a board: one, two, none, one that comes late, one that is taken."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from emulator import Drive, MachineOptions
from tests.vm import leds
from tests.vm.board import BOOT_S, CHUNK, WAIT_S, Board, inquiry, yaml_file

pytestmark = pytest.mark.emulated

Boot = Callable[..., Board]
MIB = 1 << 20
NVME = (Drive(64 * MIB),)

STRANGER = """\
mount -t configfs configfs /sys/kernel/config
cd /sys/kernel/config/usb_gadget
mkdir stranger
cd stranger
echo 0x1d6b >idVendor
echo 0x0104 >idProduct
mkdir functions/acm.0 configs/c.1
ln -s functions/acm.0 configs/c.1/acm.0
echo dummy_udc.0 >UDC
cd /
"""
"""A hook: somebody else's gadget, on the first controller, before gadgetd starts."""


def expect_told(board: Board, name: str, note: str) -> None:
    """The UART and `gadgetd status` say which controller it is and why; HDMI has no room for it."""
    told = board.expect_event(event="controller", name=name)
    assert told["note"] == note
    words = f"USB controller {name} - {note}"
    board.uart.line.expect(re.escape(words), WAIT_S, 0)
    assert f"USB controller {name}: " in board.check("gadgetd status")
    controller = board.status()["controller"]
    assert (controller["name"], controller["note"]) == (name, note)


def test_of_two_controllers_the_first_is_used_and_that_is_said(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=NVME, udcs=2))
    board.expect_phase("exported")
    (block,) = board.host.wait_for_blocks(1)
    assert block.controller == "dummy_hcd.0"
    expect_told(board, "dummy_udc.0", "first free of dummy_udc.0, dummy_udc.1")


def test_the_configured_controller_is_used(boot: Boot) -> None:
    config = yaml_file("usb: {udc: dummy_udc.1}\n")
    board = boot(MachineOptions(nvme=NVME, udcs=2, files=config))
    (block,) = board.host.wait_for_blocks(1)
    assert block.controller == "dummy_hcd.1"
    expect_told(board, "dummy_udc.1", "named by usb.udc")


def test_a_controller_that_another_gadget_has_is_left_to_it(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=NVME, udcs=2, hook=STRANGER))
    (block,) = board.host.wait_for_blocks(1)
    assert block.controller == "dummy_hcd.1"
    expect_told(
        board,
        "dummy_udc.1",
        "first free of dummy_udc.0, dummy_udc.1 (dummy_udc.0 is used by gadget stranger)",
    )
    udc = "/sys/kernel/config/usb_gadget/stranger/UDC"
    assert board.check(f"cat {udc}").strip() == "dummy_udc.0"
    assert board.host.check("cat /sys/bus/usb/devices/*/idVendor").split().count("1d6b") >= 3


def test_a_configured_controller_that_is_not_there_is_named_as_missing(boot: Boot) -> None:
    config = yaml_file("usb: {udc: fe980000.usb}\nwait: {udc_s: 1}\n")
    board = boot(MachineOptions(nvme=NVME, files=config))
    problem = board.expect_event(event="problem", active=True)
    wanted = "usb.udc names fe980000.usb, which is not there after 1 s; there is dummy_udc.0"
    assert wanted in problem["message"]
    board.expect_on_both(wanted)
    assert board.host.blocks() == []


def test_without_a_controller_the_problem_is_told_until_one_comes(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=NVME, udcs=0))
    board.expect_phase("waiting-for-udc")
    problem = board.expect_event(event="problem", active=True)
    assert problem["message"] == "no USB device controller after 10 s"
    assert "dtoverlay=dwc2" in problem["hint"]
    board.expect_on_both("no USB device controller after 10 s", "dtoverlay=dwc2,dr_mode=peripheral")
    leds.expect_error_pattern(board)
    since = board.uart.line.position
    board.check("modprobe dummy_hcd")
    board.expect_phase("exported", since)
    (block,) = board.host.wait_for_blocks(1)
    assert block.inquiry == inquiry("NVMe nvme0n1")
    assert board.host_digest(block, 0, CHUNK)
    board.expect_event(since, event="problem", active=False)
    assert "PROBLEM" not in board.expect_on_screen("1 disk exported")
    leds.expect_steady(board)


def test_a_controller_that_comes_five_seconds_late_is_waited_for(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=NVME, udcs=0), login=False)
    waiting = board.expect_phase("waiting-for-udc", 0, BOOT_S)
    assert waiting["message"] == "1 disk ready; waiting for a USB device controller"
    # Five seconds after the daemon was ready, not after power-on: this machine may be slow.
    board.host.check("sleep 5; modprobe dummy_hcd")
    board.expect_phase("exported")
    (block,) = board.host.wait_for_blocks(1)
    assert block.inquiry == inquiry("NVMe nvme0n1")
    assert [e for e in board.events() if e["event"] == "problem"] == [], "it is not late yet"
