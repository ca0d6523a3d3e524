"""A BCM2711 from power-on to power-off: QEMU's raspi4b under a Raspberry Pi's own device tree.

What it is for: the drivers of the real chip. Mailbox, clocks, power domains, pins, the SD host, the
watchdog, both UARTs and the LED's line are modelled, so a kernel finds here what it finds on a
board. PCIe, dwc2 as a device, eMMC and the firmware's GPIO expander are not.
"""

import re
import socket
import threading
import time
from pathlib import Path

from emulator import base, bcm2711, newer_qemu
from emulator.errors import EmulatorError
from emulator.machine import FASTER, Machine, check_sd_size
from emulator.options import MachineOptions
from emulator.qemu import LOG

# Debian has as modules what the real image has built in.
BOARD_MODULES = "phy-generic bcm2835_wdt reset-raspberrypi raspberrypi-cpufreq dwc2"
DISK_MODULES = "sdhci-iproc"
CHANNEL = "/sys/devices/platform/soc/fe215040.serial"  # the mini UART
CMDLINE = "console=tty1 console=ttyAMA0,115200 root=/dev/ram0 rootwait loglevel=3"
LED_GPIO = 42
GPIO = "/machine/soc/peripherals/gpio"  # in QEMU's tree of objects
SAID = re.compile(
    rf"^\[S \+(?P<time>[\d.]+)\] (?P<said>OK|IRQ raise|IRQ lower)(?: {LED_GPIO})?$", re.MULTILINE
)


class Raspi4b(Machine):
    """The board. Its `uart_path` is the PL011's port, its `host_path` the mini UART's.

    Of MachineOptions it has no NVMe, no cable, and its RAM and screen are as they are. With a built
    image's kernel the command line is `cmdline` and nothing else.
    """

    def __init__(
        self, options: MachineOptions, tree: str | Path, directory: Path | None = None
    ) -> None:
        """Nothing happens yet.

        `tree` is the board's device tree: a file, or the name of one of Debian's, as in
        "bcm2711-rpi-4-b". `directory` keeps images and logs; without, a temporary one.
        """
        super().__init__(options, directory)
        self._tree = tree
        self._answered_at = 0.0

    def led_changes(self) -> list[tuple[float, bool]]:
        """Every change of the ACT LED's line so far: (seconds since `go`, on).

        Read outside the board, from what QEMU says of each change of a line (-qtest).
        """
        said = (self.directory / LOG).read_text(errors="replace")
        found = [(float(each["time"]), each["said"]) for each in SAID.finditer(said)]
        (answered, _), *changes = found
        started = self.started_at - self._answered_at + answered
        return [(at - started, word == "IRQ raise") for at, word in changes]

    def _follow_lines(self, connection: socket.socket) -> None:
        """Have QEMU say each change of a line of the GPIO controller, from here on."""
        connection.sendall(f"irq_intercept_out {GPIO}\n".encode())
        said = connection.makefile("rb")
        if said.readline() != b"OK\n":
            raise EmulatorError(f"QEMU has no {GPIO}", hint=f"see {self.directory / LOG}")
        self._answered_at = time.time()
        # It all stands in QEMU's log, with its times. It waits for somebody to read it here, too.
        threading.Thread(target=said.read, name="lines", daemon=True).start()

    def _start(self) -> None:
        """The work of `start`."""
        options = self.options
        if options.nvme or options.spare_ports or options.cable or options.sd is None:
            raise EmulatorError("a raspi4b has an SD card, no NVMe disk and no cable")
        program = newer_qemu.with_raspi4b()
        initramfs, tree = self.directory / "initramfs.cpio", self.directory / "board.dtb"
        kernel = self._software(initramfs)
        given = self._tree
        if isinstance(given, str):
            given = base.get().device_trees / f"{given}.dtb"
        bcm2711.adapt(given, tree, serial=options.serial_number)
        ours, theirs = socket.socketpair()
        lines, asked = socket.socketpair()
        command = [str(program), "-M", "raspi4b", "-nodefaults", "-nic", "none", "-display", "none"]
        command += ["-dtb", str(tree), "-kernel", str(kernel), "-initrd", str(initramfs)]
        command += ["-append", self._cmdline(), "-S", "-no-reboot"]
        command += ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}"]
        command += ["-mon", "chardev=qmp,mode=control"]
        for name in ("uart", "host"):
            command += ["-chardev", f"pty,id={name}", "-serial", f"chardev:{name}"]
        command += self._drive("sd", options.sd)
        check_sd_size(self.drives["sd"].size)
        # On the SD host of the BCM2711; `if=sd` would be on the older one, the Wi-Fi's.
        command += ["-device", "sd-card,drive=sd-disk,bus=/generic-sdhci/sd-bus"]
        command += ["-accel", "tcg", "-chardev", f"socket,id=lines,fd={asked.fileno()}"]
        command += ["-qtest", "chardev:lines"]
        command += ["-msg", "timestamp=on", *bcm2711.SCREEN_OPTIONS, *options.qemu_arguments]
        with theirs, asked:
            self._process = self._launch(command, [theirs.fileno(), asked.fileno()])
        self._connect(ours)
        self._follow_lines(lines)

    def _settings(self) -> dict[str, str | int | float]:
        """The shell variables of guest/init."""
        return {
            **super()._settings(),
            "CHANNEL": CHANNEL,
            "BOARD_MODULES": BOARD_MODULES,
            "DISK_MODULES": DISK_MODULES,
        }

    def _cmdline(self) -> str:
        """The kernel's command line."""
        own = () if self.options.kernel else (CMDLINE, FASTER)
        return " ".join(filter(None, (*own, self.options.cmdline)))
