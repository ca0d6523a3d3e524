"""One emulated board: QEMU, from its first instruction to its end."""

import contextlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from emulator import cable, devicetree, image
from emulator.errors import EmulatorError
from emulator.options import GIB, MIB, Drive, MachineOptions
from emulator.qemu import QEMU, Qemu

CMDLINE = (
    "console=tty1 console=ttyAMA0,115200 root=/dev/ram0 rootwait loglevel=3 fbcon=font:TER16x32"
)
FASTER = "cryptomgr.notests"  # saves 0.6 s of self-tests that a CM4's kernel has not built in
DISK_MODULES = "sdhci-pci nvme ahci xhci-pci"
CHANNEL = "/dev/vport0p1"  # to the USB host's shell
DEFAULT_SIZE = GIB
UNPLUG_S = 20  # the slot powers off five seconds after the attention button
LED_TRACE = re.compile(
    rf"@(?P<time>\d+\.\d+):pl061_set_output .* output {devicetree.LED_LINE} to (?P<level>[01])"
)


@dataclass(frozen=True)
class Disk:
    """A drive as it came to be: its image file and its size in bytes."""

    path: Path
    size: int


def check_sd_size(size_bytes: int) -> None:
    """Raise EmulatorError if QEMU has no SD card of this size."""
    if size_bytes & (size_bytes - 1):
        raise EmulatorError(
            f"an SD card of {size_bytes} bytes cannot be: its size is a power of two",
            hint="for example 512M or 1G",
        )


def nvme_serial(index: int, drive: Drive) -> str:
    """The serial number of the board's NVMe disk `index`."""
    return drive.serial or f"nvme-{index}"


class Machine(Qemu):
    """A board from power-on to power-off; a context manager that never leaves a QEMU behind.

        with Machine(options) as machine:
            uart, host = UartShell(machine.uart_path), HostShell(machine.host_path)
            machine.go()

    The CPU stands still until `go`, so that a port opened before loses no byte. A UART that nobody
    reads stops the board as soon as its buffer is full. QEMU ends with the thread that started it.
    """

    def __init__(self, options: MachineOptions, directory: Path | None = None) -> None:
        """Nothing happens yet. `directory` keeps images and logs; without, a temporary one."""
        super().__init__(directory)
        self.options = options
        self.drives: dict[str, Disk] = {}
        self._plugged: dict[str, str] = {}  # NVMe name: the port it is in

    def image_path(self, drive: str) -> Path:
        """The image file of "sd", "nvme0", "nvme1", … or of a disk plugged in later."""
        return self.drives[drive].path

    def screendump(self, target: Path) -> None:
        """Write what HDMI shows to `target`, as PNG."""
        self.monitor.execute("screendump", {"filename": str(target.absolute()), "format": "png"})

    def plug_nvme(self, name: str, drive: Drive) -> None:
        """Plug an NVMe disk into a free spare port; `name` is for unplug_nvme and image_path.

        Raises EmulatorError if there is no free port or QEMU refuses.
        """
        taken = set(self._plugged.values())
        ports = [f"spare{index}" for index in range(self.options.spare_ports)]
        port = next((port for port in ports if port not in taken), None)
        if port is None:
            raise EmulatorError("no spare PCIe port is free", hint="MachineOptions(spare_ports=…)")
        path = self._make_image(name, drive)
        self.drives[name] = Disk(path, path.stat().st_size)
        file = {"driver": "file", "filename": str(path)}
        node = {"driver": "raw", "node-name": f"{name}-disk"}
        self.monitor.execute("blockdev-add", {**node, "file": file})
        self.monitor.execute(
            "device_add",
            {
                "driver": "nvme",
                "id": name,
                "bus": port,
                "drive": f"{name}-disk",
                "serial": drive.serial or name,
                "logical_block_size": drive.logical_block_size,
                "physical_block_size": drive.logical_block_size,
            },
        )
        self._plugged[name] = port

    def unplug_nvme(self, name: str) -> None:
        """Press the slot's attention button and wait until the disk is out (some 5 s).

        Raises EmulatorError if the board does not let go of it.
        """
        since = len(self.monitor.events)
        self.monitor.execute("device_del", {"id": name})
        self.monitor.wait_for_event(
            "DEVICE_DELETED", lambda event: event["data"].get("device") == name, since, UNPLUG_S
        )
        if self._plugged.pop(name).startswith("spare"):  # else QEMU has dropped the drive itself
            self.monitor.execute("blockdev-del", {"node-name": f"{name}-disk"})

    def led_changes(self) -> list[tuple[float, bool]]:
        """Every change of the ACT LED's line so far: (seconds since `go`, on).

        Read outside the board, from QEMU's trace of the GPIO controller's outputs.
        """
        text = (self.directory / "trace.log").read_text(errors="replace")
        return [
            (float(match["time"]) - self.started_at, match["level"] == "1")
            for match in LED_TRACE.finditer(text)
        ]

    def _start(self) -> None:
        """The work of `start`."""
        options = self.options
        initramfs, tree = self.directory / "initramfs.cpio", self.directory / "board.dtb"
        kernel = self._software(initramfs)
        board = [QEMU, "-M", "virt", "-cpu", "cortex-a72", "-smp", "2"]
        board += ["-m", str(options.ram_mib), "-nodefaults", "-display", "none"]
        devicetree.write(
            tree, board, model=options.model, serial=options.serial_number, led=options.led
        )
        ours, theirs = socket.socketpair()
        command = [*board, "-dtb", str(tree), "-kernel", str(kernel)]
        command += ["-initrd", str(initramfs), "-append", self._cmdline(), "-S", "-no-reboot"]
        command += ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}"]
        command += ["-mon", "chardev=qmp,mode=control"]
        command += ["-chardev", "pty,id=uart", "-serial", "chardev:uart"]
        command += ["-device", "virtio-serial-pci", "-chardev", "pty,id=host"]
        # A port, not a console: QEMU throws away what a console's reader is too slow for.
        command += ["-device", "virtserialport,chardev=host,name=host"]
        width, height = options.screen
        command += ["-device", f"virtio-gpu-pci,xres={width},yres={height}"]
        command += ["-trace", "pl061_set_output", "-D", str(self.directory / "trace.log")]
        command += ["-msg", "timestamp=on", *self._drive_arguments(), *options.qemu_arguments]
        with theirs, contextlib.ExitStack() as stack:
            descriptors = [theirs.fileno()]
            if options.cable:
                end = stack.enter_context(cable.end(options.cable, "board", "pc"))
                command += end.arguments
                descriptors.append(end.descriptor)
            self._process = self._launch(command, descriptors)
        self._connect(ours)

    def _software(self, initramfs: Path) -> Path:
        """Write the initramfs; returns the kernel."""
        options = self.options
        files = dict(options.files)
        if options.hook:
            files["/emulator/hook.sh"] = options.hook.encode()
        settings = self._settings()
        if options.rootfs and options.kernel:
            if options.init:
                image.build_over(initramfs, options.rootfs, settings, files)
            else:
                initramfs.write_bytes(options.rootfs.read_bytes())
            return options.kernel
        more_packages = (*options.packages, *(cable.PACKAGES if options.cable else ()))
        return image.build(initramfs, settings, files, options.checkout, more_packages).kernel

    def _settings(self) -> dict[str, str | int | float]:
        """The shell variables of guest/init."""
        options = self.options
        return {
            "UDCS": options.udcs,
            "UDC_DELAY_S": options.udc_delay_s,
            "USB_SETTLE_S": options.usb_settle_s,
            "SUPER_SPEED": int(options.super_speed),
            "READ_ONLY": " ".join(self._read_only()),
            "CABLE": "usbip" if options.cable else "",
            "CHANNEL": CHANNEL,
            "BOARD_MODULES": "",
            "DISK_MODULES": DISK_MODULES if options.load_disk_drivers else "",
        }

    def _read_only(self) -> list[str]:
        """What guest/init knows the locked disks by."""
        options = self.options
        serials = ["sd"] if options.sd is not None and options.sd.read_only else []
        for index, drive in enumerate(options.nvme):
            if drive.read_only:
                serials.append(nvme_serial(index, drive))
        return serials

    def _cmdline(self) -> str:
        """The kernel's command line."""
        return " ".join(filter(None, (CMDLINE, FASTER, self.options.cmdline)))

    def _drive_arguments(self) -> list[str]:
        """The SD card, the NVMe disks, the spare ports."""
        arguments: list[str] = []
        options = self.options
        if options.sd is not None:
            arguments += self._drive("sd", options.sd)
            check_sd_size(self.drives["sd"].size)
            arguments += ["-device", "sdhci-pci", "-device", "sd-card,drive=sd-disk"]
        for index, drive in enumerate(options.nvme):
            name = f"nvme{index}"
            arguments += self._drive(name, drive)
            block = drive.logical_block_size
            port = f"pcie-root-port,id=port{index},chassis={index + 1},slot={index + 1}"
            arguments += ["-device", port]
            device = f"nvme,id={name},bus=port{index},drive={name}-disk"
            device += f",serial={nvme_serial(index, drive)}"
            device += f",logical_block_size={block},physical_block_size={block}"
            arguments += ["-device", device]
            self._plugged[name] = f"port{index}"
        for index in range(options.spare_ports):
            number = 100 + index
            port = f"pcie-root-port,id=spare{index},chassis={number},slot={number}"
            arguments += ["-device", port]
        return arguments

    def _drive(self, name: str, drive: Drive) -> list[str]:
        """Make the image and give QEMU's option for it."""
        path = self._make_image(name, drive)
        self.drives[name] = Disk(path, path.stat().st_size)
        escaped = str(path).replace(",", ",,")
        option = f"if=none,id={name}-disk,format=raw,file={escaped}"
        if drive.write_bytes_per_s:
            option += f",throttling.bps-write={drive.write_bytes_per_s}"
        return ["-drive", option]

    def _make_image(self, name: str, drive: Drive) -> Path:
        """The drive's image file, made or grown, sparse; QEMU works on it in place."""
        path = (drive.path or self.directory / f"{name}.img").absolute()
        size = path.stat().st_size if path.exists() else 0
        wanted = drive.size_bytes or size or DEFAULT_SIZE
        if wanted < size:
            raise EmulatorError(
                f"{path} is longer ({size} bytes) than the drive it is for ({wanted} bytes)"
            )
        if wanted > size:
            if wanted % MIB:
                raise EmulatorError(f"a drive of {wanted} bytes is no whole number of MiB")
            path.touch()
            os.truncate(path, wanted)
        return path
