"""On a BCM2711 that QEMU models: the chip's real drivers, under a Raspberry Pi's own device tree.

The board is started with what its firmware would load of a boot.img: a kernel, a tree with its
overlays, a command line, all as the project's config.txt and cmdline.txt have it.
What -M virt cannot show: the SD card on the SoC's own host, ACT where the board has it, the root
login on a UART that comes from the device tree, the screen as a firmware's frame buffer, the
watchdog that switches off and restarts. The USB controller is dummy_hcd here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import zstandard

from emulator import Drive, HostShell, MachineOptions, Raspi4b, UartShell, drivers, firmware
from tests.vm.board import BOOT_S, Board, Pattern, until
from tests.vm.bootable import boot_img
from tests.vm.conftest import Bench
from tests.vm.leds import EARLY_S, flashes

pytestmark = pytest.mark.emulated

MIB = 1 << 20
SD_SIZE = 64 * MIB
STEADY_S = 2.0


def boot(bench: Bench, name: str, loaded: firmware.Loaded) -> Board:
    """A board with an SD card that has loaded a boot.img, and a root shell on its PL011."""
    bench.switch_off()
    options = MachineOptions(
        sd=Drive(SD_SIZE), kernel=loaded.kernel, rootfs=loaded.initramfs, cmdline=loaded.cmdline
    )
    machine = Raspi4b(options, loaded.device_tree)
    machine.start()
    try:
        directory = bench.directory(name)
        uart = UartShell(machine.uart_path, log=directory / "uart.log")
        host = HostShell(machine.host_path, log=directory / "mini-uart.log")
        bench.board = Board(uart, host, directory, machine, options)
    except BaseException:
        machine.kill()
        raise
    machine.go()
    uart.login(BOOT_S)
    return bench.board


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> firmware.Loaded:
    """What a 4B's firmware would load of a boot.img with the project's own config.txt."""
    top = tmp_path_factory.mktemp("bcm2711")
    image = boot_img(top, zstandard.ZstdCompressor(level=1).compress)
    return firmware.load(image, "4b", top)


@pytest.fixture(scope="module")
def board(bench: Bench, loaded: firmware.Loaded) -> Iterator[Board]:
    """One board for the tests below; the last of them switches it off."""
    yield boot(bench, "bcm2711", loaded)
    bench.switch_off()


def test_every_driver_that_the_board_lives_from_is_bound(board: Board) -> None:
    until("all are bound", lambda: not drivers.lost(board.check(drivers.LIST)))


def test_the_board_is_known_by_the_name_in_its_own_device_tree(board: Board) -> None:
    board.expect_event(event="started", board="Raspberry Pi 4 Model B", serial="10000000a1b2c3d4")


def test_the_sd_card_is_exported_and_the_bytes_are_on_it(board: Board) -> None:
    (block,) = board.host.wait_for_blocks(1)
    assert block.size_bytes == SD_SIZE
    pattern = Pattern(1_000_000, MIB)
    status, said = board.host_writes(block, MIB, pattern)
    assert status == 0, said
    assert board.medium_digest("mmcblk0", MIB, MIB) == pattern.digest
    assert board.host_digest(block, MIB, MIB) == pattern.digest


def test_act_on_gpio_42_flashes_three_times_and_stays_lit(board: Board) -> None:
    board.expect_phase("exported")

    # What was before the flashes is the kernel's: it shows the card's reads and writes, shorter.
    # The LED may be dark before, and is then dark for the first step without a change.
    def flashed() -> bool:
        last = board.led()[-5:]
        steady_s = board.seconds_since_power_on() - last[-1][0] if last else 0
        return (
            [lit for lit, _ in flashes(last)] == [True, False, True, False]
            and all(seconds > 0.2 - EARLY_S for _, seconds in flashes(last))
            and last[-1][1]
            and steady_s > STEADY_S
        )

    try:
        until("three flashes, then steady", flashed)
    except AssertionError as error:
        error.add_note(f"the LED: {board.led()}")
        raise


def test_the_screen_is_the_firmwares_frame_buffer(board: Board) -> None:
    board.expect_on_screen("Raspberry Pi 4 Model B", "mmcblk0")
    picture = board.directory / "hdmi.png"
    board.machine.screendump(picture)
    assert picture.read_bytes()[16:24] == (1280).to_bytes(4, "big") + (720).to_bytes(4, "big")


@pytest.mark.parametrize("command", ["reboot", "poweroff"])
def test_reboot_and_poweroff_end_the_board(
    bench: Bench, loaded: firmware.Loaded, command: str
) -> None:
    board = bench.board
    if board is None or not board.machine.running:
        board = boot(bench, f"bcm2711-{command}", loaded)
    since = board.uart.line.position
    board.uart.line.send(f"{command}\n".encode())
    until(f"{command} has ended it", lambda: not board.machine.running)
    assert not re.search("Oops|Kernel panic", board.uart.line.text(since))
