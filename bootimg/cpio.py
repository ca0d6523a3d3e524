"""Initramfs archives: the kernel's "newc" cpio, written the same way every time.

Everything belongs to root and to the epoch, so nobody has to be root to write one and the same
content gives the same bytes. Archives may be joined: the kernel unpacks one after the other, later
entries over earlier ones. Source: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One name in an archive: `path` is relative to the root; a symlink's target is its data."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | mode, data)


def symlink(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def parents(path: str) -> Iterator[Entry]:
    """The directories that lead to `path`, outermost first."""
    for parent in reversed(Path(path).parents[:-1]):
        yield directory(str(parent))


def tree(top: Path, prefix: str = "", without: str = "") -> Iterator[Entry]:
    """Everything below a directory, sorted; modes as they are, except that all may be read.

    Nothing is read of directories named `without`, in which files may come and go meanwhile.
    """
    for path in sorted(top.rglob("*")):
        inside = path.relative_to(top)
        if without in inside.parts:
            continue
        name = prefix + str(inside)
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield symlink(name, str(path.readlink()))
        elif stat.S_ISDIR(mode):
            yield directory(name, stat.S_IMODE(mode) | 0o555)
        elif stat.S_ISREG(mode):
            yield file(name, path.read_bytes(), stat.S_IMODE(mode) | 0o444)


def archive(entries: Iterable[Entry]) -> bytes:
    """The entries as an archive, in their order; a name given again replaces the earlier one."""
    latest = {entry.path: entry for entry in entries}
    out = bytearray()
    for inode, entry in enumerate([*latest.values(), Entry("TRAILER!!!", 0)], start=1):
        name = entry.path.encode() + b"\0"
        fields = (
            inode,
            entry.mode,
            0,  # uid
            0,  # gid
            2 if stat.S_ISDIR(entry.mode) else 1,  # links
            0,  # mtime
            len(entry.data),
            0,  # the device the archive was made on: major, minor
            0,
            *entry.device,
            len(name),
            0,  # checksum: none in this format
        )
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)
