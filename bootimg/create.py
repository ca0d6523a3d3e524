"""A boot.img from a folder, the same bytes for the same files. Standard library only."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bootimg import fatwrite, output
from bootimg.errors import BootimgError
from bootimg.fat import MAX_DEPTH, MAX_FILES, MAX_IMAGE_BYTES

DEFAULT_EPOCH = 315532800  # 1980, where a FAT's time begins


def epoch() -> int:
    """SOURCE_DATE_EPOCH, or 1980. Raises BootimgError if it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return DEFAULT_EPOCH
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise BootimgError(
            f"SOURCE_DATE_EPOCH is {text!r}", hint="it is a whole number of seconds since 1970"
        )
    return int(text)


def folder(source: Path) -> dict[str, bytes]:
    """Every file below a folder, by path with slashes. Raises BootimgError."""
    if not source.is_dir():
        raise BootimgError(
            f"{source}: no folder", hint="give the folder whose files are to be in boot.img"
        )
    found: dict[str, bytes] = {}
    total = 0
    for path in sorted(islice(_below(source, 0), MAX_FILES + 1)):
        data = output.read(path, MAX_IMAGE_BYTES, "a file for boot.img")
        total += len(data)
        if total > MAX_IMAGE_BYTES or len(found) >= MAX_FILES:
            raise BootimgError(
                f"{source}: more than {MAX_IMAGE_BYTES >> 20} MiB or {MAX_FILES} files",
                hint="is this the folder of a boot.img?",
            )
        found[path.relative_to(source).as_posix()] = data
    if not found:
        raise BootimgError(f"{source}: empty", hint="put the board's boot files there")
    return found


def _below(source: Path, depth: int) -> Iterator[Path]:
    """Every file below a folder. Raises BootimgError, of a folder that cannot be read too."""
    if depth > MAX_DEPTH:
        raise BootimgError(
            f"{source}: more than {MAX_DEPTH} folders in one another",
            hint="is this the folder of a boot.img?",
        )
    try:
        with os.scandir(source) as entries:
            for entry in entries:
                path = source / entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(path, depth + 1)
                elif entry.is_file(follow_symlinks=False):
                    yield path
                else:
                    raise BootimgError(
                        f"{path}: neither file nor folder", hint="a FAT has only those"
                    )
    except OSError as error:
        raise BootimgError(
            f"{source}: cannot be read: {error.strerror}", hint="may you read all of the folder?"
        ) from error


def create(source: Path) -> bytes:
    """The boot.img with a folder's files. Raises BootimgError."""
    now = epoch()
    date, hms = fatwrite.stamp(now)
    files = {name: fatwrite.Input(data, date, hms) for name, data in folder(source).items()}
    return fatwrite.build(files, epoch=now, where=str(source))
