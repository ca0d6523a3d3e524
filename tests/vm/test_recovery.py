"""A board that is not as it should be when gadgetd starts: leftovers, nothing mounted, no LED."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator import Drive, MachineOptions
from emulator.options import CM3
from tests.vm import leds
from tests.vm.board import CHUNK, Board, inquiry

pytestmark = pytest.mark.emulated

Boot = Callable[..., Board]
MIB = 1 << 20
NVME = (Drive(64 * MIB),)
GADGETS = "/sys/kernel/config/usb_gadget"

LEFTOVERS = f"""\
modprobe null_blk nr_devices=1 gb=1
mount -t configfs configfs /sys/kernel/config
cd {GADGETS}
mkdir gadgetd gadgetd.draft
# One that stands and is bound, with a disk of its own.
cd gadgetd
echo 0x1234 >idVendor
mkdir -p strings/0x409 configs/c.1/strings/0x409 functions/mass_storage.0
echo old >strings/0x409/serialnumber
echo /dev/nullb0 >functions/mass_storage.0/lun.0/file
ln -s functions/mass_storage.0 configs/c.1/
echo dummy_udc.0 >UDC
# One that was never finished: no link, and a LUN too many.
cd ../gadgetd.draft
mkdir -p functions/mass_storage.1/lun.5 configs/c.1/strings/0x409
cd /
"""


def test_what_an_earlier_run_left_is_taken_down(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=NVME, hook=LEFTOVERS))
    board.expect_phase("exported")
    (block,) = board.host.wait_for_blocks(1)
    assert block.inquiry == inquiry("NVMe nvme0n1")
    assert (block.id_vendor, block.usb_serial) == ("0a5c", "10000000a1b2c3d4")
    assert board.check(f"ls {GADGETS}").split() == ["gadgetd"]
    functions = board.check(f"cd {GADGETS}/gadgetd; ls -d functions/*/lun.*").split()
    assert functions == ["functions/mass_storage.0/lun.0"]
    assert board.host_digest(block, 0, CHUNK) == board.medium_digest("nvme0n1", 0, CHUNK)


def test_configfs_is_mounted_if_it_is_not(boot: Boot) -> None:
    # The overlay's rcS would mount it; this one has lost that line.
    rc = MachineOptions().checkout / "rootfs-overlay/etc/init.d/rcS"
    script = "\n".join(line for line in rc.read_text().splitlines() if "configfs" not in line)
    board = boot(MachineOptions(nvme=NVME, files={"/etc/init.d/rcS": f"{script}\n".encode()}))
    board.expect_phase("exported")
    (block,) = board.host.wait_for_blocks(1)
    assert block.inquiry == inquiry("NVMe nvme0n1")
    mounts = [line.split()[1:3] for line in board.check("cat /proc/mounts").splitlines()]
    assert mounts.count(["/sys/kernel/config", "configfs"]) == 1


def test_a_compute_module_3_keeps_its_led_alone(boot: Boot) -> None:
    # There the line switches the eMMC as well.
    board = boot(MachineOptions(nvme=NVME, model=CM3))
    board.expect_phase("exported")
    board.host.wait_for_blocks(1)
    board.expect_on_screen("Compute Module 3", "connected")
    assert board.check("ls /sys/class/leds").split() == ["ACT"]
    trigger = board.check("cat /sys/class/leds/ACT/trigger")
    assert "[none]" in trigger
    assert board.led() == []


def test_a_board_without_a_led_is_no_error(boot: Boot) -> None:
    board = boot(MachineOptions(nvme=NVME, led=None))
    board.expect_phase("exported")
    board.host.wait_for_blocks(1)
    assert board.check("ls /sys/class/leds").split() == []
    assert [e for e in board.events() if e["event"] in ("problem", "advice")] == []
    assert "NOTE" not in board.expect_on_screen("connected")


def test_the_sd_cards_traffic_no_longer_moves_the_led_once_it_is_exported(boot: Boot) -> None:
    board = boot(MachineOptions(sd=Drive(64 * MIB)))
    board.expect_phase("exported")
    (block,) = board.host.wait_for_blocks(1)
    leds.expect_steady(board)
    # Before that, access to the card did: its trigger is the LED's default.
    before = len(board.led())
    assert before > 5
    assert [lit for _, lit in board.led()[-5:]] == [True, False, True, False, True]
    board.host.check(f"dd if={block.device} of=/dev/null bs=1M count=16 iflag=direct")
    assert len(board.led()) == before
    assert "[none]" in board.check("cat /sys/class/leds/ACT/trigger")
