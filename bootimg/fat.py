"""Reads a bare FAT file system that is in memory: FAT12, FAT16, FAT32, long names.

A reader of our own: pyfatfs rests on a package that needs `pkg_resources`, which is no longer
there, and neither it nor a loop device bounds what a hostile image may ask for. Here every cluster
is visited once, so what an image says twice, in a circle, or of more than there is, is an error
after at most one walk over it. Whatever reads further may rely on: no cluster is in two files,
sizes fit chains, names are unique and lead nowhere but down.

Source: Microsoft's "FAT32 File System Specification", 1.03.
"""

import struct
import sys
from array import array
from dataclasses import dataclass, field
from functools import cached_property

from bootimg import fatnames
from bootimg.errors import BootimgError

SECTOR = 512
MAX_IMAGE_BYTES = 512 << 20
MAX_FILES = 16_384
MAX_DEPTH = 16
MAX_DIRECTORY_BYTES = 65_536 * fatnames.ENTRY_BYTES
"""As the specification has it."""
READ_ONLY, HIDDEN, SYSTEM, VOLUME, DIRECTORY, ARCHIVE = 1, 2, 4, 8, 16, 32
DELETED = 0xE5
NOT_FAT = "is this a boot.img, a file system without a partition table?"


@dataclass(frozen=True)
class File:
    """A file: where its bytes are in the image, as (offset, length), and what its entry says."""

    path: str
    size: int
    runs: tuple[tuple[int, int], ...]
    date: int  # as the directory has them
    time: int


@dataclass
class Fat:
    """A FAT that has been read and found to be sound."""

    name: str  # of the image, for errors
    data: bytes
    bits: int
    cluster_bytes: int
    clusters: int
    free_clusters: int = 0
    label: str = ""
    serial: int = 0
    files: dict[str, File] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)

    def find(self, path: str) -> File | None:
        """The file of this name, in whatever case, as the firmware looks for it."""
        return self._by_name.get(path.replace("\\", "/").strip("/").casefold())

    @cached_property
    def _by_name(self) -> dict[str, File]:
        return {path.casefold(): file for path, file in self.files.items()}

    def read(self, file: File) -> bytes:
        """The file's content."""
        return b"".join(self.data[at : at + length] for at, length in file.runs)

    @property
    def free_bytes(self) -> int:
        """Space in free clusters."""
        return self.free_clusters * self.cluster_bytes


def read(data: bytes, name: str) -> Fat:
    """The FAT in `data`. Raises BootimgError, and nothing else, if it is not sound."""
    return _Reader(data, name).read()


class _Reader:
    """One walk over one image."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name

    def read(self) -> Fat:
        """The work of `read`."""
        self._read_boot_sector()
        self._table = self._read_table()
        self._used = bytearray(self._clusters + 2)
        fat = self._fat
        if self._root_cluster:
            root = self._content(self._chain(self._root_cluster, "the root directory"))
        else:
            root = self._data[self._root_at : self._root_at + self._root_bytes]
        self._walk(root, "", 0)
        fat.free_clusters = self._table[2:].count(0)
        return fat

    def _fail(self, problem: str, hint: str = "") -> BootimgError:
        return BootimgError(f"{self._name}: {problem}", hint=hint or "get the image anew")

    def _read_boot_sector(self) -> None:
        data = self._data
        if len(data) < SECTOR:
            raise self._fail(f"{len(data)} bytes are too few for a file system", NOT_FAT)
        (sector, per, reserved, fats, roots, total, _, fat_sectors) = struct.unpack_from(
            "<HBHBHHBH", data, 11
        )
        total32, fat32_sectors = struct.unpack_from("<II", data, 32)
        if data[510:512] != b"\x55\xaa" or sector not in (512, 1024, 2048, 4096):
            raise self._fail("no FAT at offset 0: there is no boot sector", NOT_FAT)
        if not per or per & (per - 1) or not reserved or fats not in (1, 2):
            raise self._fail("no FAT at offset 0: the boot sector makes no sense", NOT_FAT)
        total = total or total32
        fat_sectors = fat_sectors or fat32_sectors
        root_sectors = -(-roots * 32 // sector)
        first = reserved + fats * fat_sectors + root_sectors
        if total * sector > len(data):
            raise self._fail(
                f"it is cut off: {len(data)} bytes of the {total * sector} that offset 19 says"
            )
        clusters = (total - first) // per
        if not fat_sectors or clusters < 1:
            raise self._fail("the boot sector leaves no room for files (offsets 14 to 36)")
        bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
        if (roots == 0) != (bits == 32):
            raise self._fail(f"{clusters} clusters make it FAT{bits}, its root directory does not")
        if fat_sectors * sector * 8 < (clusters + 2) * bits:
            raise self._fail(f"the FAT at offset {reserved * sector} is too short for the clusters")
        self._clusters, self._bits = clusters, bits
        self._table_at, self._table_bytes = reserved * sector, fat_sectors * sector
        self._root_at = (reserved + fats * fat_sectors) * sector
        self._root_bytes = roots * 32
        self._root_cluster = struct.unpack_from("<I", data, 44)[0] if bits == 32 else 0
        self._first_at = first * sector
        self._cluster_bytes = per * sector
        extended = 64 if bits == 32 else 36
        serial = (
            struct.unpack_from("<I", data, extended + 3)[0] if data[extended + 2] == 0x29 else 0
        )
        self._fat = Fat(self._name, data, bits, self._cluster_bytes, clusters, serial=serial)

    def _read_table(self) -> "array[int]":
        """The next cluster of each cluster; ends and bad ones are above every cluster."""
        raw = self._data[self._table_at : self._table_at + self._table_bytes]
        count = self._clusters + 2
        if self._bits == 12:
            table = array("H", bytes(2 * count))
            for number in range(count):
                at = number * 3 // 2
                pair = raw[at] | raw[at + 1] << 8
                table[number] = pair >> 4 if number & 1 else pair & 0xFFF
            return table
        table = array("H" if self._bits == 16 else "I")
        table.frombytes(raw[: count * self._bits // 8])
        if sys.byteorder == "big":
            table.byteswap()
        if self._bits == 32:
            table = array("I", (value & 0x0FFFFFFF for value in table))
        return table

    def _chain(self, first: int, what: str) -> list[int]:
        """The clusters of a file or directory, each for the first time in this image."""
        table, used = self._table, self._used
        end = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self._bits]
        chain = []
        number = first
        while True:
            if not 2 <= number < len(table):
                raise self._fail(f"{what}: its chain leads to cluster {number}, which is not there")
            if used[number]:
                raise self._fail(
                    f"{what}: cluster {number} is in another file too, or in a loop (FAT at offset "
                    f"{self._table_at})"
                )
            used[number] = 1
            chain.append(number)
            number = table[number]
            if number >= end:
                return chain

    def _runs(self, chain: list[int]) -> list[tuple[int, int]]:
        """Neighbouring clusters together, as (offset, length)."""
        runs: list[tuple[int, int]] = []
        size = self._cluster_bytes
        for number in chain:
            at = self._first_at + (number - 2) * size
            if runs and runs[-1][0] + runs[-1][1] == at:
                runs[-1] = (runs[-1][0], runs[-1][1] + size)
            else:
                runs.append((at, size))
        return runs

    def _content(self, chain: list[int]) -> bytes:
        return b"".join(self._data[at : at + length] for at, length in self._runs(chain))

    def _walk(self, entries: bytes, path: str, depth: int) -> None:
        """All that a directory holds, and what is below it."""
        where = f"{self._name}: {path or 'the root directory'}"
        parts: dict[int, bytes] = {}
        total = 0
        names: set[str] = set()
        if len(entries) > MAX_DIRECTORY_BYTES:
            raise self._fail(f"{path or '/'}: larger than a directory can be")
        for at in range(0, len(entries), fatnames.ENTRY_BYTES):
            entry = entries[at : at + fatnames.ENTRY_BYTES]
            if entry[0] == 0:
                return
            if entry[0] == DELETED:
                parts = {}
                continue
            attributes = entry[11]
            if attributes & 0x3F == fatnames.LONG_NAME:
                if entry[0] & fatnames.LAST:
                    parts, total = {}, entry[13]
                parts[entry[0] & 0x3F] = fatnames.long_part(entry)
                continue
            if attributes & VOLUME:
                if not path and not self._fat.label:
                    self._fat.label = entry[:11].decode("cp437").rstrip()
                parts = {}
                continue
            name = fatnames.short_name(entry)
            if name in (".", "..") and depth and attributes & DIRECTORY:
                continue
            whole = sorted(parts) == list(range(1, len(parts) + 1))
            if parts and whole and total == fatnames.checksum(entry[:11]):
                name = fatnames.join_long([parts[number] for number in sorted(parts)], where)
            parts = {}
            fatnames.check(name, where)
            if name.casefold() in names:
                raise self._fail(f"{path or '/'}: there are two files with the name {name!r}")
            names.add(name.casefold())
            self._take(entry, f"{path}/{name}" if path else name, depth)

    def _take(self, entry: bytes, path: str, depth: int) -> None:
        """One file or directory."""
        fat = self._fat
        if len(fat.files) + len(fat.directories) >= MAX_FILES:
            raise self._fail(f"there are more than {MAX_FILES} files", NOT_FAT)
        time, date, low, size = struct.unpack_from("<HHHI", entry, 22)
        first = low | (struct.unpack_from("<H", entry, 20)[0] << 16 if self._bits == 32 else 0)
        if entry[11] & DIRECTORY:
            if depth >= MAX_DEPTH:
                raise self._fail(f"{path}: more than {MAX_DEPTH} directories in one another")
            fat.directories.append(path)
            self._walk(self._content(self._chain(first, path)), path, depth + 1)
            return
        chain = self._chain(first, path) if first else []
        needed = -(-size // self._cluster_bytes)
        if len(chain) != needed:
            raise self._fail(
                f"{path}: its entry says {size} bytes, its chain has {len(chain)} clusters of "
                f"{self._cluster_bytes}"
            )
        runs = self._runs(chain)
        if runs:
            at, length = runs[-1]
            runs[-1] = (at, length - (needed * self._cluster_bytes - size))
        fat.files[path] = File(path, size, tuple(runs), date, time)
