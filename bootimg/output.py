"""Files and folders that appear whole or not at all, and reading files that may be anything."""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from bootimg import signals
from bootimg.errors import BootimgError

_BINARY: int = getattr(os, "O_BINARY", 0)
# Opening a named pipe would wait for whoever writes to it.
_AT_ONCE: int = getattr(os, "O_NONBLOCK", 0)


def read(path: Path, limit: int, what: str) -> bytes:
    """The whole file. Raises BootimgError if it cannot be read or is larger than `limit` bytes."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | _BINARY | _AT_ONCE), "rb") as file:
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


def refuse_inputs(target: Path, inputs: Iterable[Path | None], hint: str = "") -> None:
    """Raise BootimgError if what is to be written is a file that was read."""
    for path in inputs:
        if path is not None and same(target, path):
            raise BootimgError(f"{target}: is the input", hint=hint or "name another file with -o")


def same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, there or not."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file beside its place, have it on the disk, and then put it there.

    Whatever happens, `path` is as it was or has all of `data`. What it replaces has to be a file,
    and keeps its permissions. Raises BootimgError.
    """
    path = Path(os.path.realpath(path))  # through a symbolic link: the file, not the link
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.exists():
            there = path.stat().st_mode
            if not stat.S_ISREG(there):  # a terminal, a device: as root it would be gone after it
                raise BootimgError(f"{path}: is there, and no file", hint="name a file")
            mode = stat.S_IMODE(there)
        file = None
        try:
            with signals.held_back():  # or one could end this with the file made and not known of
                file = os.fdopen(
                    os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode), "wb"
                )
            with file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            if file is not None:
                with contextlib.suppress(OSError):
                    draft.unlink()
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise BootimgError(
            f"{path}: cannot be written: {error.strerror}",
            hint="is there room, and may you write there?",
        ) from error


@contextlib.contextmanager
def folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which gets the name `target` if all goes well, and is gone if not.

    `target` must not be there yet, or be empty. Raises BootimgError.
    """
    target = target.absolute()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        if target.exists():
            if not target.is_dir() or any(target.iterdir()):
                raise BootimgError(f"{target}: is there already", hint="name a new folder")
            if target.samefile(Path.cwd()):
                raise BootimgError(f"{target}: is where you are", hint="name a new folder")
        draft.mkdir(parents=True)
        yield draft
        if target.exists():
            target.rmdir()
        draft.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise BootimgError(f"{target}: cannot be made: {error.strerror}") from error
    except BootimgError as error:
        # Of a file in it: by the name that it would have had.
        message = error.message.replace(f"{draft}", f"{target}")
        raise BootimgError(message, hint=error.hint) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Have a directory's names on the disk, where the system lets a directory be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
