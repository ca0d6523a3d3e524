"""Makes a bare FAT file system: as large as it has to be, the same bytes for the same files.

One sector a cluster, so that little is sent over USB for nothing; files one after the other,
without gaps, in the order of their names; FAT12, FAT16 or FAT32 by the number of clusters. Some
clusters stay free: boot loaders from before 2024 cannot read a FAT that is full to the last one
(raspberrypi/rpi-eeprom, issue 521).

Source: Microsoft's "FAT32 File System Specification", 1.03; what fsck.fat and mtools say of it.
"""

import calendar
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bootimg import fatnames
from bootimg.errors import BootimgError
from bootimg.fat import ARCHIVE, DIRECTORY, MAX_DIRECTORY_BYTES, SECTOR, VOLUME

LABEL = "BOOT"
SERIAL = 0x47414447
FREE_CLUSTERS = 64
ROOT_ENTRIES = 512
TRACK = 32  # sectors: the size is a whole number of them
FAT12_CLUSTERS, FAT16_CLUSTERS = 4085, 65525  # so many are the next type
MARGIN = 64  # readers do not agree to the last cluster on where a type ends: stay away
MAX_CLUSTERS = 1 << 20
FAT32_RESERVED = 32
_EARLIEST = calendar.timegm((1980, 1, 1, 0, 0, 0))
_LATEST = calendar.timegm((2107, 12, 31, 23, 59, 58))


@dataclass(frozen=True)
class Input:
    """A file to be written: its content, and the date and time that its entry has."""

    data: bytes
    date: int
    time: int


@dataclass
class _Directory:
    """A directory on its way into the image."""

    files: dict[str, Input] = field(default_factory=dict)
    directories: dict[str, "_Directory"] = field(default_factory=dict)
    first: int = 0  # its first cluster; 0 for the root

    @property
    def names(self) -> list[str]:
        """Everything in it, directories first, by name."""
        return sorted(self.directories) + sorted(self.files)


def stamp(epoch: int) -> tuple[int, int]:
    """Date and time as a FAT has them, in UTC, of seconds since 1970; 1980 at the earliest."""
    now = time.gmtime(min(max(epoch, _EARLIEST), _LATEST))
    date = (now.tm_year - 1980) << 9 | now.tm_mon << 5 | now.tm_mday
    return date, now.tm_hour << 11 | now.tm_min << 5 | now.tm_sec // 2


def build(
    files: Mapping[str, Input],
    *,
    epoch: int,
    where: str,
    label: str = LABEL,
    serial: int = SERIAL,
    free_clusters: int = FREE_CLUSTERS,
) -> bytes:
    """The image with these files, by path with slashes; at least `free_clusters` stay free.

    `epoch` is the time of directories and label. `where` names the source in errors. Raises
    BootimgError if a name cannot be in a FAT or it all is too much for one.
    """
    return _Writer(files, stamp(epoch), where, label, serial, free_clusters).image()


class _Writer:
    """One image."""

    def __init__(
        self,
        files: Mapping[str, Input],
        stamped: tuple[int, int],
        where: str,
        label: str,
        serial: int,
        free_clusters: int,
    ) -> None:
        self._where = where
        self._stamp = stamped
        self._label = label.encode("ascii", "replace")[:11].ljust(11)
        self._serial = serial
        self._root = _Directory()
        for path in sorted(files):
            self._place(path, files[path])
        self._bodies: list[bytes] = []  # in the order of their clusters
        self._chains: list[int] = []  # how many clusters each has
        self._next = 2
        self._needed = self._measure(self._root) + free_clusters
        self._choose()

    def _place(self, path: str, file: Input) -> None:
        *above, name = path.split("/")
        directory = self._root
        for part in above:
            fatnames.check(part, self._where)
            if part in directory.files:
                raise self._twice(part)
            directory = directory.directories.setdefault(part, _Directory())
        fatnames.check(name, self._where)
        directory.files[name] = file

    def _twice(self, name: str) -> BootimgError:
        return BootimgError(
            f"{self._where}: {name!r} is there twice: a FAT does not tell upper from lower case",
            hint="rename one of them",
        )

    def _measure(self, directory: _Directory) -> int:
        """How many clusters all below a directory take; checks that no name is there twice."""
        folded: set[str] = set()
        for name in directory.names:
            if name.casefold() in folded:
                raise self._twice(name)
            folded.add(name.casefold())
        if directory is self._root and self._entries(directory) > ROOT_ENTRIES:
            raise BootimgError(
                f"{self._where}: too many files at the top: more than {ROOT_ENTRIES} entries",
                hint="put some into a directory",
            )
        if self._entries(directory) * fatnames.ENTRY_BYTES > MAX_DIRECTORY_BYTES:
            raise BootimgError(
                f"{self._where}: more files in one folder than a FAT can have",
                hint="use more folders",
            )
        count = sum(-(-len(file.data) // SECTOR) for file in directory.files.values())
        for child in directory.directories.values():
            count += self._size_of(child) + self._measure(child)
        return count

    def _entries(self, directory: _Directory) -> int:
        """How many entries a directory takes, its label or its dots among them."""
        count = 1 if directory is self._root else 2
        for name in directory.names:
            long = 0 if fatnames.short_as_it_is(name) else -(-len(name.encode("utf-16-le")) // 26)
            count += long + 1
        return count

    def _size_of(self, directory: _Directory) -> int:
        return -(-self._entries(directory) * fatnames.ENTRY_BYTES // SECTOR)

    def _choose(self) -> None:
        """The type, and with it all sizes."""
        needed = self._needed
        if needed + MARGIN < FAT12_CLUSTERS:
            self._bits = 12
        elif needed + MARGIN < FAT16_CLUSTERS:
            self._bits, needed = 16, max(needed, FAT12_CLUSTERS + MARGIN)
        else:
            root = self._entries(self._root) * fatnames.ENTRY_BYTES
            needed += max(1, -(-root // SECTOR))
            self._bits, needed = 32, max(needed, FAT16_CLUSTERS + MARGIN)
        if needed > MAX_CLUSTERS:
            raise BootimgError(
                f"{self._where}: {needed * SECTOR >> 20} MiB are too much for one boot.img",
                hint="the boot loader keeps it in RAM: leave out what booting does not need",
            )
        self._reserved = FAT32_RESERVED if self._bits == 32 else 1
        self._table_sectors = ((needed + 2 + TRACK) * self._bits // 8 + SECTOR) // SECTOR
        self._root_sectors = 0 if self._bits == 32 else ROOT_ENTRIES * 32 // SECTOR
        self._before = self._reserved + 2 * self._table_sectors + self._root_sectors
        self._sectors = -(-(self._before + needed) // TRACK) * TRACK
        self._clusters = self._sectors - self._before

    def image(self) -> bytes:
        """The bytes of it."""
        if self._bits == 32:
            self._root.first = self._take(self._size_of(self._root) or 1)
        root = self._lay_out(self._root, parent=0)
        if self._bits == 32:
            self._bodies[0] = root.ljust(self._chains[0] * SECTOR, b"\0")
        table = self._table()
        out = bytearray(self._boot_area())
        out += table + table
        if self._bits != 32:
            out += root.ljust(ROOT_ENTRIES * 32, b"\0")
        for body, count in zip(self._bodies, self._chains, strict=True):
            out += body.ljust(count * SECTOR, b"\0")
        return bytes(out.ljust(self._sectors * SECTOR, b"\0"))

    def _take(self, count: int) -> int:
        """Clusters for something whose content follows; the first of them."""
        first = self._next
        self._next += count
        self._chains.append(count)
        self._bodies.append(b"")
        return first

    def _lay_out(self, directory: _Directory, parent: int) -> bytes:
        """Give clusters to all below a directory; its own entries."""
        out = bytearray()
        if directory is self._root:
            out += self._entry(self._label, VOLUME, 0, 0, 0, *self._stamp)
        else:
            out += self._entry(b".".ljust(11), DIRECTORY, 0, directory.first, 0, *self._stamp)
            out += self._entry(b"..".ljust(11), DIRECTORY, 0, parent, 0, *self._stamp)
        as_they_are = {name: fatnames.short_as_it_is(name) for name in directory.names}
        taken = {found[0] for found in as_they_are.values() if found}
        numbers: dict[tuple[str, str], int] = {}
        for name in directory.names:
            short, case = as_they_are[name] or (fatnames.alias(name, taken, numbers), 0)
            taken.add(short)
            if as_they_are[name] is None:
                out += b"".join(fatnames.long_entries(name, short))
            if name in directory.directories:
                child = directory.directories[name]
                child.first = self._take(self._size_of(child))
                at = len(self._bodies) - 1
                # What lies in FAT32's root says 0 of its parent too.
                above = 0 if directory is self._root else directory.first
                self._bodies[at] = self._lay_out(child, above)
                out += self._entry(short, DIRECTORY, case, child.first, 0, *self._stamp)
            else:
                file = directory.files[name]
                first = 0
                if file.data:
                    first = self._take(-(-len(file.data) // SECTOR))
                    self._bodies[-1] = file.data
                size = len(file.data)
                out += self._entry(short, ARCHIVE, case, first, size, file.date, file.time)
        return bytes(out)

    def _entry(
        self, short: bytes, attributes: int, case: int, first: int, size: int, date: int, hms: int
    ) -> bytes:
        times = (0, hms, date, date, first >> 16, hms, date)
        return struct.pack("<11sBBBHHHHHHHI", short, attributes, case, *times, first & 0xFFFF, size)

    def _table(self) -> bytes:
        """One copy of the FAT."""
        end = (1 << min(self._bits, 28)) - 1
        numbers = [end & ~0xFF | 0xF8, end]
        for count in self._chains:
            here = len(numbers)
            numbers += range(here + 1, here + count)
            numbers.append(end)
        if self._bits == 12:
            numbers += [0] * (len(numbers) % 2)
            out = bytearray()
            for low, high in zip(numbers[::2], numbers[1::2], strict=True):
                out += (low | high << 12).to_bytes(3, "little")
        else:
            out = bytearray(
                struct.pack(f"<{len(numbers)}{'H' if self._bits == 16 else 'I'}", *numbers)
            )
        return bytes(out.ljust(self._table_sectors * SECTOR, b"\0"))

    def _boot_area(self) -> bytes:
        """The boot sector, and with FAT32 what is reserved behind it."""
        wide = self._bits == 32
        small = self._sectors < 65536 and not wide
        sector = bytearray(SECTOR)
        # A jump to itself: a PC that starts from this stands still.
        sector[:11] = b"\xeb\xfe\x90gadgetd "
        struct.pack_into(
            "<HBHBHHBHHHII",
            sector,
            11,
            SECTOR,
            1,
            self._reserved,
            2,
            0 if wide else ROOT_ENTRIES,
            self._sectors if small else 0,
            0xF8,
            0 if wide else self._table_sectors,
            TRACK,
            64,  # heads
            0,
            0 if small else self._sectors,
        )
        if wide:
            root, fs_info, copy = self._root.first, 1, 6
            struct.pack_into("<IHHIHH", sector, 36, self._table_sectors, 0, 0, root, fs_info, copy)
        at = 64 if wide else 36
        struct.pack_into("<BBBI", sector, at, 0x80, 0, 0x29, self._serial)
        sector[at + 7 : at + 26] = self._label + f"FAT{self._bits}   ".encode()
        sector[510:] = b"\x55\xaa"
        if not wide:
            return bytes(sector)
        information = bytearray(SECTOR)
        free = self._clusters + 2 - self._next
        information[:4], information[484:488] = b"RRaA", b"rrAa"
        struct.pack_into("<II", information, 488, free, self._next - 1)
        information[508:] = b"\0\0\x55\xaa"
        both = bytes(sector) + bytes(information)
        return both.ljust(6 * SECTOR, b"\0") + both + bytes((FAT32_RESERVED - 8) * SECTOR)
