"""/etc/gadgetd.yaml read, or an error that says where and what was expected.

Without a file neither options.py nor PyYAML is imported: the usual boot does not pay for them.
"""

from __future__ import annotations

import os
import stat
from fnmatch import fnmatchcase
from pathlib import Path

from gadgetd.config.settings import BOARDS, Config, is_lock
from gadgetd.errors import ConfigError

SIZE_LIMIT = 64 << 10
"""Bytes of a configuration file that are read at most."""


class ConfigFile:
    """The configuration of the board with this serial number, as it was last read well."""

    def __init__(self, path: Path, serial: str) -> None:
        self._path = path
        self._serial = serial
        self.config: Config | None = None
        """None while there is none that can be used."""
        self.error: ConfigError | None = None
        """What is wrong with the file, if something is; then `config` is what it was before."""

    @property
    def why_none(self) -> str:
        """Why no disk is exported while `config` is None, as it stands with each disk."""
        return "this board is locked" if is_lock(self.error) else "the configuration is wrong"

    def read(self) -> None:
        """Read it again."""
        try:
            self.config, self.error = load_for(self._path, self._serial), None
        except ConfigError as error:
            self.error = error

    def forget(self) -> None:
        """Use none until it is read again."""
        self.config = None


def load(path: Path) -> Config:
    """The configuration in the file; the defaults if there is no file.

    Raises ConfigError, and nothing else. A symbolic link that leads nowhere is an error: whoever
    made it wanted something other than the defaults.
    """
    try:
        # O_NONBLOCK, or a named pipe would hold the boot until someone writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if os.path.islink(path):  # noqa: PTH114 - unlike Path.is_symlink, it raises nothing
            raise ConfigError("a symbolic link that leads nowhere", file=path) from error
        return Config()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            problem = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise ConfigError(problem, file=path, expected="a YAML file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    return parse(data, path)


def load_for(path: Path, serial: str) -> Config:
    """The configuration in the file, on the board with this serial number.

    Raises ConfigError, also if `boards` names others only: a locked board exports nothing.
    """
    config = load(path)
    if not any(fnmatchcase(serial, board) for board in config.boards):
        raise ConfigError(
            f"locked to other boards; this one is {serial or 'without a serial number'}",
            file=path,
            key=BOARDS,
            hint="take an image for this board, or one that names no boards",
        )
    return config


def parse(data: bytes | str, file: Path) -> Config:
    """The configuration in a YAML text; `file` is what errors and rules name as its source.

    Raises ConfigError, and nothing else.
    """
    if len(data) > SIZE_LIMIT:
        raise ConfigError("the file is too large", file=file, expected="at most 64 KiB")
    # Here, not above: see the top of this file.
    from gadgetd.config.options import read
    from gadgetd.config.yaml_tree import compose, decode

    return read(compose(decode(data, file), file), file)


def _unreadable(path: Path, error: OSError | ValueError) -> ConfigError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return ConfigError(f"cannot be read: {reason}", file=path, hint=f"see ls -l {path}")
