"""Reads and writes one attribute of sysfs, configfs or procfs, and sorts kernel names."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def read(path: Path | str) -> str:
    """Read an attribute whole, with the newline that the kernel ends it with. Raises OSError.

    An attribute is one page at most, and one read is one call of its show function. Python's own
    `open` makes six system calls of these three, and takes twice the time.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _PAGE_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def write(path: Path | str, text: str) -> None:
    """Set an attribute with a single system call: each is one call of its store function.

    Raises OSError. ENOENT: this kernel has no such attribute; it would be EACCES with O_CREAT,
    which Python's own `open` sets.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that reads digits as numbers, so that nvme2n1 comes before nvme10n1."""
    parts: list[tuple[int, int, str]] = []
    rest = name
    while rest:
        digit = _is_digit(rest[0])
        length = next((i for i, c in enumerate(rest) if _is_digit(c) != digit), len(rest))
        run, rest = rest[:length], rest[length:]
        # Numbers before text; the text of a number tells 01 from 1.
        parts.append((0, int(run), run) if digit else (1, 0, run))
    return tuple(parts)


def _is_digit(character: str) -> bool:
    # str.isdigit() also takes digits that int() refuses.
    return "0" <= character <= "9"
