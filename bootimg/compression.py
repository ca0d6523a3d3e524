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

_STEP, _FEED, _LITTLE = 4 << 20, 64 << 10, 1 << 10
_MEMORY = 256 << 20  # of xz: more than its largest dictionary that is in use, 64 MiB
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


def unfold(data: bytes, at: int, limit: int, where: str) -> tuple[bytes, int]:
    """What the compressed archive at `at` holds, at most `limit` bytes of it, and where it ends.

    Raises BootimgError if it is damaged, unfolds to more, or cannot be read here.
    """
    name = of(data[at : at + 16])
    if name in ("lz4", "lzo", ""):
        raise BootimgError(
            f"{where}: {name or 'an unknown compression'} cannot be looked into",
            hint="compress the initramfs with zstd, gzip or xz",
        )
    try:
        return _drain(name, data, at, limit)
    except _TooMuch as error:
        raise BootimgError(f"{where}: unfolds to more than {MAX_BYTES >> 20} MiB") from error
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise BootimgError(f"{where}: the {name} data is damaged: {error}") from error


class _TooMuch(Exception):  # noqa: N818 - it does not leave this module
    """More than was allowed for."""


def _drain(name: str, data: bytes, at: int, limit: int) -> tuple[bytes, int]:
    """All that a stream holds, unfolded a part at a time, and where it ends."""
    # Their interfaces are alike, but for two: zlib hands back what it did not come to, and
    # zstandard takes no limit. There four bytes can be a block of 128 KiB of one value, so it is
    # given little at a time.
    errors: tuple[type[Exception], ...] = ()
    feed_bytes = _FEED
    with_limit: tuple[int, ...] = (_STEP,)
    decompressor: Any
    if name == "gzip":
        decompressor = zlib.decompressobj(wbits=31)  # with gzip's header and checksum
    elif name == "bzip2":
        decompressor = bz2.BZ2Decompressor()
    elif name == "zstd":
        decompressor, error, bounded = _zstd()
        errors = (error,)
        if not bounded:
            feed_bytes, with_limit = _LITTLE, ()
    else:
        decompressor = lzma.LZMADecompressor(memlimit=_MEMORY)
    parts, total = [], 0
    while not decompressor.eof:
        feed = getattr(decompressor, "unconsumed_tail", b"")
        if getattr(decompressor, "needs_input", not feed):
            feed = data[at : at + feed_bytes]
            at += len(feed)
            if not feed:
                raise EOFError("it ends too early")
        try:
            part = decompressor.decompress(feed, *with_limit)
        except errors as error:
            raise ValueError(str(error)) from error
        total += len(part)
        if total > limit:
            raise _TooMuch
        parts.append(part)
    return b"".join(parts), at - len(decompressor.unused_data)


def _zstd() -> tuple[Any, type[Exception], bool]:
    """A decompressor, what it raises, and whether what it gives at once can be limited."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]

        return zstd.ZstdDecompressor(), zstd.ZstdError, True
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError as error:
        raise BootimgError("this Python cannot read zstd", hint="pip install zstandard") from error
    window_bytes = 128 << 20
    return (
        zstandard.ZstdDecompressor(max_window_size=window_bytes).decompressobj(),
        zstandard.ZstdError,
        False,
    )
