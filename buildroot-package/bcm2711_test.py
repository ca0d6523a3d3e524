"""Boots boot.img on QEMU's BCM2711, loaded from it as a board's firmware would load it.

Started by `make image-test`. The shipped kernel under each device tree, with its console once on
the mini UART and once on the PL011: the drivers that it binds, a login, the screen, and that it
says in words that there is no USB device controller, which the model has not. Then the test kernel,
which has one: the SD card at the USB host, bytes, the LED's flashes, reboot and poweroff.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from boot_test import MIB, WRITTEN, arrived, require, write

from bootimg import fat
from emulator import Drive, HostShell, MachineOptions, Raspi4b, UartShell, drivers, firmware
from emulator.errors import EmulatorError

SD_BYTES = 64 * MIB
WAIT_S = 60
# QEMU's mini UART takes the divisor of 115200 for something else, and hangs.
MINI_UART, PL011 = "ttyS0,921600", "ttyAMA0,115200"
SCREEN_HAS = "Raspberry Pi"  # the board's name
NO_CONTROLLER = "no USB device controller"
FLASHES = [True, False, True, False, True]  # 0.2 s each, and it stays lit


def main() -> int:
    """Boot and look; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kernel", "image", "log"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    options.log.unlink(missing_ok=True)
    if not any(
        "bcm2711" in name for name in fat.read(options.image.read_bytes(), "boot.img").files
    ):
        print("  not tried on a BCM2711: the image is for other boards")
        return 0
    with tempfile.TemporaryDirectory(prefix="gadgetd-") as draft:
        try:
            for model, console in (("4b", MINI_UART), ("cm4", PL011)):
                shipped(options, model, console, Path(draft))
            exported(options, Path(draft))
        except EmulatorError as error:
            print(f"image-test: on a BCM2711: {error}", file=sys.stderr)
            print(f"  hint: the board's own words are in {options.log}", file=sys.stderr)
            return 1
    return 0


def loaded(image: Path, model: str, draft: Path) -> firmware.Loaded:
    """What the board's firmware would load."""
    directory = draft / model
    directory.mkdir(exist_ok=True)
    return firmware.load(image, model, directory)


def with_console(cmdline: str, console: str) -> str:
    """The command line with another UART for its console."""
    return re.sub(r"console=tty(S|AMA)\S*", f"console={console}", cmdline)


def wait(what: str, true: Callable[[], bool]) -> None:
    """Ask until it is so. Raises EmulatorError after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        require(time.monotonic() < deadline, f"after {WAIT_S} s still not: {what}")
        time.sleep(0.2)


def shipped(options: argparse.Namespace, model: str, console: str, draft: Path) -> None:
    """Kernel, root and device tree as they are shipped."""
    load = loaded(options.image, model, draft)
    print(f"  BCM2711, {load.device_tree.name} of {model}, console on {console}")
    board = MachineOptions(
        sd=Drive(size_bytes=SD_BYTES),
        kernel=load.kernel,
        rootfs=load.initramfs,
        cmdline=with_console(load.cmdline, console),
        init=False,
    )
    with Raspi4b(board, load.device_tree) as machine:
        port = machine.host_path if console == MINI_UART else machine.uart_path
        uart = UartShell(port, log=options.log)
        start = time.monotonic()
        machine.go()
        uart.login()
        print(f"    login prompt and shell after {time.monotonic() - start:.1f} s")
        print("    " + uart.check("tr -d '\\0' </proc/device-tree/model").strip())
        said = uart.check(drivers.LIST)
        require(not drivers.lost(said), f"no longer bound: {', '.join(drivers.lost(said))}")
        print(f"    {len(said.splitlines())} drivers are bound, and none of the list is lost")
        wait(
            f"`gadgetd status` says: {NO_CONTROLLER}",
            lambda: NO_CONTROLLER in uart.run("gadgetd status")[1],
        )
        wait("gadgetd's screen", lambda: SCREEN_HAS in uart.check("cat /dev/vcs1"))
        picture = options.log.with_name(f"bcm2711-{model}.png")
        machine.screendump(picture)
        print(f"    {NO_CONTROLLER}, in words; the screen is in {picture}")


def exported(options: argparse.Namespace, draft: Path) -> None:
    """The test kernel, on the same device tree: it has dummy_hcd."""
    for command in ("poweroff", "reboot"):
        load = loaded(options.image, "4b", draft)
        board = MachineOptions(
            sd=Drive(size_bytes=SD_BYTES),
            kernel=options.kernel,
            rootfs=load.initramfs,
            cmdline=with_console(load.cmdline, PL011),
        )
        with Raspi4b(board, load.device_tree) as machine:
            uart, host = UartShell(machine.uart_path, log=options.log), HostShell(machine.host_path)
            start = time.monotonic()
            machine.go()
            (block,) = host.wait_for_blocks(1)
            print(f"  the test kernel exports the SD card after {time.monotonic() - start:.1f} s")
            uart.login()
            wait("ACT's three flashes on GPIO 42", lambda: flashed(machine))
            digest = write(host, block.device) if command == "poweroff" else ""
            uart.line.send(f"{command}\n".encode())
            wait(f"{command} ends the board", lambda: not machine.running)
            if digest:
                require(
                    arrived(machine.image_path("sd")) == digest,
                    "what the host wrote is not on the SD card",
                )
                print(f"  {WRITTEN // MIB} MiB written by the host are on it after poweroff")
    print("  ACT flashes three times; poweroff and reboot end the board")


def flashed(machine: Raspi4b) -> bool:
    """Whether the last that ACT did is the pattern of exported disks."""
    last = [lit for _, lit in machine.led_changes()][-len(FLASHES) :]
    return last == FLASHES


if __name__ == "__main__":
    sys.exit(main())
