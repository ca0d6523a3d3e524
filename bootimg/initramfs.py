"""Reads an initramfs as the kernel does, and puts one archive more at its end.

An initramfs is any number of archives one after the other, compressed or not, with zeros between
them; what comes later lies over what came earlier. An archive that is not compressed begins at a
multiple of four bytes from the start. Sources: Documentation/driver-api/early-userspace/
buffer-format.rst, and unpack_to_rootfs in init/initramfs.c.
"""

import stat
from collections.abc import Generator, Iterable, Iterator

from bootimg import compression, cpio
from bootimg.errors import BootimgError

MAX_ENTRIES, MAX_ARCHIVES = 200_000, 1000
ALIGNMENT = 512
"""More than the kernel's four: zeros between, whatever the decompressor makes of its own end."""

_HEADER_BYTES = 110
_MAX_NAME = 4096
_MAGICS = b"070701", b"070702"


def entries(data: bytes, where: str) -> Iterator[cpio.Entry]:
    """Every entry of every archive, in order.

    Raises BootimgError if one is damaged, or if it is all more than any board could unpack.
    """
    budget = [MAX_ENTRIES]
    left_bytes = compression.MAX_BYTES
    at = _after_zeros(data, 0)
    for _ in range(MAX_ARCHIVES):
        if at >= len(data):
            return
        if data.startswith(b"0707", at):
            if at % 4:
                raise BootimgError(f"{where}: the archive at offset {at} is not at a multiple of 4")
            at = yield from _archive(data, at, where, budget)
        else:
            inner, at = compression.unfold(data, at, left_bytes, f"{where}, offset {at}")
            left_bytes -= len(inner)
            place = _after_zeros(inner, 0)
            while place < len(inner):
                place = yield from _archive(inner, place, f"{where}, unfolded", budget)
                place = _after_zeros(inner, place)
        at = _after_zeros(data, at)
    raise BootimgError(f"{where}: more than {MAX_ARCHIVES} archives")


def files(data: bytes, wanted: Iterable[str], where: str) -> dict[str, bytes]:
    """What the kernel's root has in the end under these names, less those that are not there."""
    names = set(wanted)
    found: dict[str, bytes] = {}
    for entry in entries(data, where):
        if entry.path in names:
            if stat.S_ISREG(entry.mode):
                found[entry.path] = entry.data
            else:
                found.pop(entry.path, None)
    return found


def append(data: bytes, more: Iterable[cpio.Entry]) -> bytes:
    """The initramfs with an archive of these entries behind it."""
    return data + bytes(-len(data) % ALIGNMENT) + cpio.archive(more)


def _after_zeros(data: bytes, at: int) -> int:
    """Where the first byte that is not zero stands."""
    while at < len(data) and data[at] == 0:
        part = data[at : at + 4096]
        at += len(part) - len(part.lstrip(b"\0"))
    return at


def _archive(
    data: bytes, at: int, where: str, budget: list[int]
) -> Generator[cpio.Entry, None, int]:
    """The entries of the archive that begins here; returns where it ends."""
    while at < len(data):
        if data[at : at + 6] not in _MAGICS:
            raise BootimgError(f"{where}: no newc archive at offset {at}")
        header = data[at : at + _HEADER_BYTES]
        try:
            fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        except ValueError as error:
            raise BootimgError(
                f"{where}: the archive's header at offset {at} is damaged"
            ) from error
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        name_at = at + _HEADER_BYTES
        data_at = name_at + name_bytes
        data_at += -data_at % 4
        if not 0 < name_bytes <= _MAX_NAME or data_at + size > len(data):
            raise BootimgError(f"{where}: the archive is cut off, or lies, at offset {at}")
        name = data[name_at : name_at + name_bytes].rstrip(b"\0").decode("utf-8", "replace")
        at = data_at + size
        at += -at % 4
        if name == "TRAILER!!!":
            break
        budget[0] -= 1
        if budget[0] < 0:
            raise BootimgError(f"{where}: more than {MAX_ENTRIES} files")
        path = name.removeprefix("./").lstrip("/")
        yield cpio.Entry(path, mode, data[data_at : data_at + size], (fields[9], fields[10]))
    return min(at, len(data))
