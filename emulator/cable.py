"""The cable between the board and a PC that is a machine of its own: USB/IP over a network of two.

Each end is a Unix datagram socket in one directory. Nothing connects them, so that either machine
can be killed and started again without the other's QEMU knowing.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What the board's end needs beside the image's own: usbipd and its libraries.
PACKAGES = (
    "usbip",
    "libwrap0",
    "libnsl2",
    "libtirpc3",
    "libgssapi-krb5-2",
    "libkrb5-3",
    "libk5crypto3",
    "libkrb5support0",
    "libcom-err2",
    "libkeyutils1",
)
MACS = {"board": "52:54:00:67:64:01", "pc": "52:54:00:67:64:02"}


@dataclass(frozen=True)
class End:
    """One machine's end: QEMU's options, and a descriptor that QEMU has to inherit."""

    arguments: list[str]
    descriptor: int


@contextlib.contextmanager
def end(directory: Path, ours: str, theirs: str) -> Iterator[End]:
    """The end `ours`, "board" or "pc", of the cable that lies in a directory."""
    (directory / ours).unlink(missing_ok=True)  # what a killed QEMU left
    # Through the descriptor the name of the socket is short enough, wherever the cache is.
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    place = f"/proc/self/fd/{descriptor}"
    try:
        yield End(
            [
                "-netdev",
                f"dgram,id=cable,local.type=unix,local.path={place}/{ours}"
                f",remote.type=unix,remote.path={place}/{theirs}",
                "-device",
                f"virtio-net-pci,netdev=cable,romfile=,mac={MACS[ours]}",
            ],
            descriptor,
        )
    finally:
        os.close(descriptor)
