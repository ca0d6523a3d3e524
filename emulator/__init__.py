"""The emulated CM4: a board, its disks and its USB host in QEMU, for `make run` and the tests."""

from emulator.errors import EmulatorError
from emulator.machine import Machine
from emulator.options import Drive, MachineOptions
from emulator.pc import Pc, PcShell
from emulator.raspi4b import Raspi4b
from emulator.shell import HostBlock, HostShell, UartShell, disk_numbers

__all__ = [
    "Drive",
    "EmulatorError",
    "HostBlock",
    "HostShell",
    "Machine",
    "MachineOptions",
    "Pc",
    "PcShell",
    "Raspi4b",
    "UartShell",
    "disk_numbers",
]
