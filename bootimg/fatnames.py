"""Names in a FAT: the long ones, the 8.3 ones beside them, and which of both can be.

Source: Microsoft's "FAT32 File System Specification", 1.03, "Long Directory Entries". The two bits
that say that a short name is in lower case are Windows NT's; mtools and Linux read and write them.
"""

import re
from collections.abc import Iterator

from bootimg.errors import BootimgError

ENTRY_BYTES = 32
LONG_NAME = 0x0F  # the attributes of an entry that is part of a long name
LAST = 0x40
UNITS_PER_ENTRY = 13
MAX_UNITS = 255
LOWER_BASE, LOWER_EXTENSION = 0x08, 0x10
_CLEAN = r"[A-Z0-9!#$%&'()@^_`{}~-]"
_SHORT = re.compile(rf"({_CLEAN}{{1,8}})(?:\.({_CLEAN}{{1,3}}))?")
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)


def check(name: str, where: str) -> None:
    """Raise BootimgError if a file of this name cannot be in a FAT, or not be extracted anywhere.

    `where` names the image or folder in the error.
    """
    problem = ""
    if name in ("", ".", ".."):
        problem = "is no name of a file"
    elif _FORBIDDEN.search(name):
        problem = "has a character that a FAT's names cannot have"
    elif name[-1] in ". ":
        problem = "ends with a dot or a space"
    elif _RESERVED.fullmatch(name):
        problem = "is a device's name on Windows"
    else:
        try:
            if len(name.encode("utf-16-le")) > 2 * MAX_UNITS:
                problem = f"is longer than {MAX_UNITS} characters"
        except UnicodeEncodeError:
            problem = "is no Unicode"
    if problem:
        raise BootimgError(f"{where}: the name {name!r} {problem}", hint="rename the file")


def short_as_it_is(name: str) -> tuple[bytes, int] | None:
    """The 11 bytes and the case bits of a name that needs no long one; None for others."""
    match = _SHORT.fullmatch(name.upper()) if name.isascii() else None
    if match is None:
        return None
    base, _, extension = name.partition(".")
    case = 0
    for part, bit in ((base, LOWER_BASE), (extension, LOWER_EXTENSION)):
        if part != part.upper():
            if part != part.lower():
                return None
            case |= bit
    return _packed(match[1], match[2] or ""), case


def alias(name: str, taken: set[bytes], numbers: dict[tuple[str, str], int]) -> bytes:
    """A short name for a long one that none in `taken` has: `ROOTFS~1.ZST`.

    `numbers` is kept for the directory: where counting goes on for names that begin alike.
    """
    stem, _, extension = name.upper().rpartition(".")
    if not stem:
        stem, extension = extension, ""

    def plain(text: str, length: int) -> str:
        text = text.replace(" ", "").replace(".", "")
        return re.sub(rf"(?!{_CLEAN}).", "_", text, flags=re.DOTALL)[:length]

    base, ending = plain(stem, 8), plain(extension, 3)
    for number in range(numbers.get((base, ending), 0) + 1, 1_000_000):
        tail = f"~{number}"
        packed = _packed(base[: 8 - len(tail)] + tail, ending)
        if packed not in taken:
            numbers[base, ending] = number
            return packed
    raise BootimgError(f"too many files with names like {name!r}", hint="use more directories")


def long_entries(name: str, short: bytes) -> Iterator[bytes]:
    """The entries that stand before the short one, in their order in the directory."""
    units = name.encode("utf-16-le")
    count = -(-len(units) // (2 * UNITS_PER_ENTRY))
    if len(units) < 2 * UNITS_PER_ENTRY * count:
        units += b"\0\0"
    units = units.ljust(2 * UNITS_PER_ENTRY * count, b"\xff")
    total = checksum(short)
    for number in range(count, 0, -1):
        part = units[26 * (number - 1) : 26 * number]
        sequence = number | (LAST if number == count else 0)
        yield (
            bytes((sequence,))
            + part[:10]
            + bytes((LONG_NAME, 0, total))
            + part[10:22]
            + bytes(2)
            + part[22:]
        )


def checksum(short: bytes) -> int:
    """What ties a long name to its short one."""
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def long_part(entry: bytes) -> bytes:
    """The 26 bytes of a long name in one of its entries."""
    return entry[1:11] + entry[14:26] + entry[28:32]


def join_long(parts: list[bytes], where: str) -> str:
    """The name from its parts, first part first. Raises BootimgError if it is no Unicode."""
    units = b"".join(parts)
    for at in range(0, len(units), 2):
        if units[at : at + 2] == b"\0\0":
            units = units[:at]
            break
    try:
        return units.decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise BootimgError(f"{where}: a long name is no Unicode") from error


def short_name(entry: bytes) -> str:
    """The name in a short entry, in the case that its bits say."""
    raw = entry[:11]
    if raw[0] == 0x05:
        raw = b"\xe5" + raw[1:]
    base = raw[:8].decode("cp437").rstrip(" ")
    extension = raw[8:].decode("cp437").rstrip(" ")
    if entry[12] & LOWER_BASE:
        base = base.lower()
    if entry[12] & LOWER_EXTENSION:
        extension = extension.lower()
    return f"{base}.{extension}" if extension else base


def _packed(base: str, extension: str) -> bytes:
    return base.encode("ascii").ljust(8) + extension.encode("ascii").ljust(3)
