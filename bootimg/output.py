"""Files that appear whole or not at all, and the reading of files that may be anything."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from bootimg.errors import BootimgError


def read(path: Path, limit: int, what: str) -> bytes:
    """The whole file. Raises BootimgError if it cannot be read or is larger than `limit` bytes."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BootimgError(f"{path}: not a regular file", hint=f"expected {what}")
            data = file.read(limit + 1)
    except OSError as error:
        raise BootimgError(
            f"{path}: cannot be read: {error.strerror}", hint=f"expected {what}"
        ) from error
    if len(data) > limit:
        raise BootimgError(f"{path}: larger than {limit >> 10} KiB", hint=f"expected {what}")
    return data


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file beside its place, have it on the disk, and then put it there.

    Whatever happens, `path` is as it was or has all of `data`. Raises BootimgError.
    """
    path = Path(os.path.realpath(path))  # through a symbolic link: the file, not the link
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise BootimgError(
            f"{path}: cannot be written: {error.strerror}",
            hint="is there room, and may you write there?",
        ) from error


def sync_directory(path: Path) -> None:
    """Have a directory's names on the disk, where the system lets a directory be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_BINARY: int = getattr(os, "O_BINARY", 0)
