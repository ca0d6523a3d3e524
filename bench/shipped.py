"""gadgetd as it ships, in a built image, beside gadgetd on the emulator's own root file system.

The shipped root file system is booted, byte for byte, under the kernel that `make image-test` has
compiled: the image's, with the emulator's devices. Python is the image's, too. The two take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import boot, idle
from bench.boards import GADGETD, READY_S, booted, options
from bench.row import Kind, Row
from bench.sheet import Sheet
from emulator import EmulatorError, firmware
from emulator.options import MachineOptions

BOOT_IMG = Path("images/gadgetd/boot.img")
KERNEL = Path("image-test/linux/arch/arm64/boot/Image")
SHIPPED, HERE = "as it ships", "on the emulator's root"


def check(image: Path) -> None:
    """Raise EmulatorError if a folder is not one that `make image` and `make image-test` filled."""
    for part, target in ((BOOT_IMG, "image"), (KERNEL, "image-test")):
        if not (image / part).is_file():
            raise EmulatorError(f"{image} has no {part}", hint=f"run: make {target}")


def measure(sheet: Sheet, image: Path) -> None:
    """Boot both in turns, and let both idle with a host."""
    with tempfile.TemporaryDirectory(prefix="gadgetd-") as draft:
        rootfs = firmware.load(image / BOOT_IMG, "cm4", Path(draft)).initramfs
        boards = {
            SHIPPED: options(GADGETD, packages=(), kernel=image / KERNEL, rootfs=rootfs),
            HERE: options(GADGETD),
        }
        usable: dict[str, list[float]] = {name: [] for name in boards}
        for pair in range(1, sheet.effort.pairs + 1):
            for name, board in boards.items():
                usable[name].append(boot.boot(GADGETD, board).usable_s)
                sheet.say(f"pair {pair} of {sheet.effort.pairs}: {name} {usable[name][-1]:.2f} s")
        idles = {name: _idle(sheet, board) for name, board in boards.items()}
    _add(sheet, "boot: init → both disks usable on the host", "s", usable)
    memory = {name: [memory] for name, (memory, _, _) in idles.items()}
    _add(sheet, "memory: PSS of the idle daemon", "MiB", memory)
    wakeups = {name: wakeups for name, (_, wakeups, _) in idles.items()}
    _add(sheet, "idle, host attached: wake-ups", "1/s", wakeups)
    _add(sheet, "idle, host attached: CPU", "%", {name: cpu for name, (_, _, cpu) in idles.items()})


def _add(sheet: Sheet, name: str, unit: str, found: dict[str, list[float]]) -> None:
    sheet.add(Row(name, unit, tuple(found[SHIPPED]), tuple(found[HERE]), kind=Kind.SHIPPED))


def _idle(sheet: Sheet, machine: MachineOptions) -> tuple[float, list[float], list[float]]:
    """Give the daemon's memory in MiB, its wake-ups a second, and per cent of a core."""
    with booted(machine) as board:
        board.wait_for_attached(len(machine.nvme) + 1, READY_S)
        board.uart.line.expect('"phase":"exported"', READY_S)
        board.wait_until(idle.BOTH_IDLE)
        found = idle.stretches(sheet, board, "host attached")
        return idle.pss_mib(board, idle.DAEMON), [each for each, _ in found], [c for _, c in found]
