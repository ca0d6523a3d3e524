"""Which board this is, from what the firmware told the kernel."""

from __future__ import annotations

from pathlib import Path

from gadgetd.status import Board


def read_board(proc: Path = Path("/proc")) -> Board:
    """Model and serial number of the board; each is empty where the kernel tells none.

    The serial number is the `Serial` line of /proc/cpuinfo, as the original gadget has it; arm64
    kernels without that line have it in the device tree (source: raspberrypi/buildroot).
    """
    device_tree = proc / "device-tree"
    serial = _cpuinfo(proc / "cpuinfo", "Serial") or _property(device_tree / "serial-number")
    return Board(model=_property(device_tree / "model"), serial=serial)


def _property(path: Path) -> str:
    # Device tree strings end with a NUL byte, and a list of them has more inside.
    try:
        return path.read_bytes().split(b"\0")[0].decode("ascii", "replace").strip()
    except OSError:
        return ""


def _cpuinfo(path: Path, key: str) -> str:
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return ""
