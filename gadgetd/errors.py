"""Everything gadgetd can fail with: a sentence that says what happened and a hint what to do."""

from __future__ import annotations

from pathlib import Path

from gadgetd.frozen import Frozen


class Problem(Frozen):
    """Something a person should know, and what to do about it."""

    message: str
    hint: str = ""
    file: str = ""
    """For a configuration error: file, line, column (from 1; 0 for none) and key."""
    line: int = 0
    column: int = 0
    key: str = ""
    expected: str = ""
    """What would have been right, where `message` does not say it."""


class GadgetdError(Exception):
    """The root of the hierarchy. `hint` tells the reader what to do next and may be empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(GadgetdError):
    """The configuration cannot be used. Lines and columns count from 1; 0 where there is none.

    `key` is the path of the offending key (`disks[1].kind`), empty for a file that does not parse.
    `expected` says what would have been right; it is part of the printed sentence. `also` are the
    other errors of the same file, in its order.
    """

    also: tuple[ConfigError, ...] = ()

    def __init__(
        self,
        problem: str,
        *,
        file: Path,
        line: int = 0,
        column: int = 0,
        key: str = "",
        expected: str = "",
        hint: str = "",
    ) -> None:
        where = f"{file}:{line}:{column}" if line else str(file)
        subject = f"{key}: " if key else ""
        wanted = f"; expected {expected}" if expected else ""
        super().__init__(f"{where}: {subject}{problem}{wanted}", hint=hint)
        self.problem = problem
        self.file = file
        self.line = line
        self.column = column
        self.key = key
        self.expected = expected


class GadgetError(GadgetdError):
    """The kernel refused a step of building, binding or taking down the gadget.

    `step` names the step in words, as in "write functions/mass_storage.0/lun.0/file". `errno` is
    the kernel's answer, 0 where it gave none. `lun` is the LUN whose disk it could not open, -1
    if that is not what failed.
    """

    def __init__(
        self, message: str, *, step: str = "", errno: int = 0, hint: str = "", lun: int = -1
    ) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno
        self.lun = lun


class DiskBusyError(GadgetdError):
    """The disk, or a partition of it, is mounted or otherwise in use on the board."""


class ControlError(GadgetdError):
    """The daemon cannot be reached, or it refused a command."""


def problem_of(error: GadgetdError | None) -> Problem | None:
    """Give what a status shows of an error."""
    if isinstance(error, ConfigError):
        where = (str(error.file), error.line, error.column, error.key, error.expected)
        return Problem(error.message, error.hint, *where)
    return Problem(error.message, error.hint) if error is not None else None
