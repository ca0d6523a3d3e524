"""What a caller may say about an emulated board: plain values, checked by QEMU and machine.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emulator.cache import CHECKOUT

MIB = 1024 * 1024
GIB = 1024 * MIB
CM4 = "Raspberry Pi Compute Module 4 Rev 1.1"
CM3 = "Raspberry Pi Compute Module 3 Rev 1.0"


@dataclass(frozen=True)
class Drive:
    """A disk of the board: an image file, or zeros.

    Without `path` the machine makes an empty sparse file in its run directory. With one it uses
    that file, made (sparse) if it is not there; a shorter one is grown to `size_bytes` if given.
    An SD card's size must be a power of two. `serial` and `logical_block_size` go for NVMe only.
    A `read_only` one is locked (BLKROSET) before the board's init starts: QEMU has no SD card with
    a slider, nor an NVMe disk that says it is write-protected.
    """

    size_bytes: int | None = None
    path: Path | None = None
    read_only: bool = False
    write_bytes_per_s: int | None = None  # slow media; None: as fast as it goes
    logical_block_size: int = 512
    serial: str | None = None  # None: "nvme-0", "nvme-1", …


@dataclass(frozen=True)
class MachineOptions:
    """An emulated board, complete before it starts."""

    sd: Drive | None = None
    nvme: tuple[Drive, ...] = ()
    spare_ports: int = 0  # empty PCIe slots for Machine.plug_nvme
    udcs: int = 1
    udc_delay_s: float = 0  # the USB controllers come this long after the rest
    super_speed: bool = False
    usb_settle_s: int = 0  # how long the host's usb-storage waits before it looks; Linux: 1
    ram_mib: int = 1024
    model: str = CM4
    serial_number: str = "10000000a1b2c3d4"
    led: str | None = "ACT"
    screen: tuple[int, int] = (1280, 800)  # HDMI's, in pixels; a character is 16 x 32
    cmdline: str = ""  # added to the kernel's
    files: Mapping[str, bytes | Path] = field(default_factory=dict)  # path on the board: content
    hook: str = ""  # shell script, run by /init after the USB controllers and before the disks
    load_disk_drivers: bool = True  # False: none, until a test says modprobe
    qemu_arguments: tuple[str, ...] = ()  # added to QEMU's
    packages: tuple[str, ...] = ()  # Debian's, laid over the base; with all that they need
    checkout: Path = CHECKOUT  # whose gadgetd/ and rootfs-overlay/ the board runs
    # Where the cable to a PC that is a machine of its own lies (emulator/pc.py): a usbip-vudc takes
    # the place of all `udcs`. None: the board's kernel is its host too.
    cable: Path | None = None
    # Instead of Debian's kernel and of base, checkout and overlay: a built image's. Both or none.
    kernel: Path | None = None
    rootfs: Path | None = None  # an initramfs, compressed or not
    init: bool = True  # False: `rootfs` as it is, without the emulator's init and its host's shell
