"""What a kernel or an initramfs is compressed with, and what is in it, within bounds.

zstd comes from the standard library where it has it (Python 3.14), else from `zstandard`.
"""

import bz2
import lzma
import zlib
from typing import Any

from bootimg.errors import BootimgError

MAX_BYTES = 256 << 20
"""What a compressed file may unfold to at most: more than any board that loads it has to spare."""

_STEP = 4 << 20
_MAGICS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\0", "xz"),
    (b"]\0\0", "lzma"),
    (b"BZh", "bzip2"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO", "lzo"),
)


def of(data: bytes) -> str:
    """The compression's name; empty for data that begins like none that the kernel knows."""
    return next((name for magic, name in _MAGICS if data.startswith(magic)), "")


def kernel(data: bytes) -> str:
    """What a kernel file is, in words."""
    if data[0x38:0x3C] == b"ARMd":
        return "arm64, not compressed"
    if data[0x24:0x28] == b"\x18\x28\x6f\x01":
        return "zImage, 32-bit"
    name = of(data)
    return name or ("ELF" if data.startswith(b"\x7fELF") else "unknown")


def unfold(data: bytes, where: str) -> tuple[bytes, bytes]:
    """What the compressed archive at the start of `data` holds, and what follows it.

    Raises BootimgError if it is damaged, unfolds to more than MAX_BYTES, or cannot be read here.
    """
    name = of(data)
    if name in ("lz4", "lzo", ""):
        raise BootimgError(
            f"{where}: {name or 'an unknown compression'} cannot be looked into",
            hint="compress the initramfs with zstd, gzip or xz",
        )
    try:
        return _unfold(name, data, where)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise BootimgError(f"{where}: the {name} data is damaged: {error}") from error


def _unfold(name: str, data: bytes, where: str) -> tuple[bytes, bytes]:
    too_much = BootimgError(f"{where}: unfolds to more than {MAX_BYTES >> 20} MiB")
    if name == "gzip":
        # Header, data and checksum; `decompress` stops at the limit, the rest is in the tail.
        gzip = zlib.decompressobj(wbits=31)
        out = gzip.decompress(data, MAX_BYTES + 1)
        if len(out) > MAX_BYTES:
            raise too_much
        if not gzip.eof:
            raise EOFError("it ends too early")
        return out, gzip.unused_data
    if name == "zstd":
        return _zstd(data, too_much)
    return _drain(
        bz2.BZ2Decompressor() if name == "bzip2" else lzma.LZMADecompressor(), data, too_much
    )


def _drain(decompressor: Any, data: bytes, too_much: BootimgError) -> tuple[bytes, bytes]:
    """All that a decompressor of the standard library makes of `data`, a part at a time."""
    parts, total, feed = [], 0, data
    while not decompressor.eof:
        part = decompressor.decompress(feed, _STEP)
        feed = b""
        if not part and decompressor.needs_input:
            raise EOFError("it ends too early")
        total += len(part)
        if total > MAX_BYTES:
            raise too_much
        parts.append(part)
    return b"".join(parts), decompressor.unused_data


def _zstd(data: bytes, too_much: BootimgError) -> tuple[bytes, bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return _zstandard(data, too_much)
    try:
        return _drain(zstd.ZstdDecompressor(), data, too_much)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error


def _zstandard(data: bytes, too_much: BootimgError) -> tuple[bytes, bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise BootimgError(
            "this Python cannot read zstd", hint="pip install zstandard"
        ) from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=128 << 20).decompressobj()
    parts, total, at = [], 0, 0
    # In small portions: one of them unfolds to a bounded amount before the total is looked at.
    step = 64 << 10
    try:
        while not decompressor.eof:
            if at >= len(data):
                raise EOFError("it ends too early")
            part = decompressor.decompress(data[at : at + step])
            at += step
            total += len(part)
            if total > MAX_BYTES:
                raise too_much
            parts.append(part)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return b"".join(parts), decompressor.unused_data + data[at:]
