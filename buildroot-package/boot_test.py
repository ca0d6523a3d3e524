"""Boots the root file system of a boot.img on the emulated CM4 and looks at it from both ends.

Started by `make image-test`. It takes the initramfs out of boot.img itself, boots it with the test
kernel, and ends with status 0 if the USB host sees every disk, writes through to them, and the
board's shell has the Python that promises.py has.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "board/cm4")]

from promises import SHELL  # noqa: E402

from emulator import Drive, HostShell, Machine, MachineOptions, UartShell  # noqa: E402
from emulator.errors import EmulatorError  # noqa: E402

MIB = 1 << 20
SIZES = {"sd": 256 * MIB, "nvme0": 192 * MIB, "nvme1": 128 * MIB}
WRITTEN = 8 * MIB


def main() -> int:
    """Boot and look; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kernel", "image", "log"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--screenshot", type=Path)
    options = parser.parse_args()
    options.log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="gadgetd-") as draft:
        rootfs = Path(draft) / "rootfs"
        copy = ["mcopy", "-i", options.image, "::/rootfs.cpio.zst", rootfs]
        subprocess.run(copy, check=True)
        try:
            boot(options, rootfs)
        except EmulatorError as error:
            print(f"image-test: {error}", file=sys.stderr)
            print(f"  hint: the board's own words are in {options.log}", file=sys.stderr)
            return 1
    return 0


def boot(options: argparse.Namespace, rootfs: Path) -> None:
    """The test. Raises EmulatorError with what is wrong."""
    board = MachineOptions(
        sd=Drive(size_bytes=SIZES["sd"]),
        nvme=tuple(Drive(size_bytes=SIZES[name]) for name in ("nvme0", "nvme1")),
        kernel=options.kernel,
        rootfs=rootfs,
        cmdline="usb_storage.delay_use=0",
    )
    with Machine(board) as machine:
        uart = UartShell(machine.uart_path, log=options.log)
        host = HostShell(machine.host_path)
        start = time.monotonic()
        machine.go()
        host.wait_until_ready()
        blocks = host.wait_for_blocks(len(SIZES))
        print(f"  the USB host has {len(blocks)} disks after {time.monotonic() - start:.1f} s")
        for number, block in enumerate(blocks):
            print(f"    disk {number}  {block.size_bytes // MIB} MiB  {block.inquiry.strip()}")
        require(sorted(b.size_bytes for b in blocks) == sorted(SIZES.values()), "a disk is missing")
        uart.login()
        print(f"  login prompt and shell after {time.monotonic() - start:.1f} s")
        look_at_board(uart)
        if options.screenshot:
            machine.screendump(options.screenshot)
        sums = {block.size_bytes: write(host, block.device) for block in blocks}
        uart.line.send(b"poweroff\n")
        deadline = time.monotonic() + 60
        while machine.running and time.monotonic() < deadline:
            time.sleep(0.2)
        require(not machine.running, "poweroff did not end the board")
        for name, size in SIZES.items():
            same = arrived(machine.image_path(name)) == sums[size]
            require(same, f"{name}: what the host wrote is not on the disk")
        print(f"  {WRITTEN // MIB} MiB written by the host to each disk are on it after poweroff")
    text = options.log.read_text(errors="replace")
    require("Traceback" not in text, "gadgetd died")
    require("not found" not in text, "a program is missing in the image")


def look_at_board(uart: UartShell) -> None:
    """What a person at the board's shell relies on."""
    modules = ", ".join(SHELL)
    print("  " + uart.check(f"python3 -c 'import sys, {modules}; print(sys.version)'").strip())
    print("  " + uart.check("uname -srm").strip())
    for line in uart.check("gadgetd status").strip().splitlines():
        print(f"    {line}")
    uart.check("gadgetd scan")
    print("  " + uart.check("free | sed -n 2p").strip())
    busy = uart.check("ps | grep -v ' \\[' | sed 1d").strip()
    print("  processes:\n    " + "\n    ".join(line.strip() for line in busy.splitlines()))


def write(host: HostShell, device: str) -> str:
    """Have the host write to the disk's start; the SHA-256 of it."""
    count = WRITTEN // MIB
    host.check(f"dd if=/dev/urandom of=/emulator/data bs=1M count={count}", 120)
    host.check(f"dd if=/emulator/data of={device} bs=1M conv=fsync", 120)
    return host.check("sha256sum /emulator/data").split()[0]


def arrived(image: Path) -> str:
    """SHA-256 of as much of a disk's start as the host has written."""
    with image.open("rb") as file:
        return hashlib.sha256(file.read(WRITTEN)).hexdigest()


def require(condition: bool, otherwise: str) -> None:
    """Raise EmulatorError unless it is so."""
    if not condition:
        raise EmulatorError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
