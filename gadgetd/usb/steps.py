"""The steps in which a gadget's tree is worked on, and in words why the kernel refuses one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from gadgetd.errors import GadgetError
from gadgetd.sysfs import natural_key
from gadgetd.usb.kernelfs import WAITING, Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, NoReturn

ETOOSMALL = 525
"""The kernel's own number, in no errno.h: the disk has no medium, or size 0."""

_AS_ROOT = "gadgetd must run as root"
_BUSY = "a command of the host's has not come to its end; see the kernel's log: dmesg"

# (verb, last part of the path, errno) -> what it means there and what to do; "" stands for any.
_WORDS: dict[tuple[str, str, int], tuple[str, str]] = {
    ("write", "file", ETOOSMALL): ("the disk is empty", "look at its size: gadgetd scan"),
    ("write", "file", errno.ENOMEDIUM): ("the disk has no medium", ""),
    ("write", "file", errno.ENOENT): ("there is no such disk", "it may have left: gadgetd scan"),
    ("write", "file", errno.ENXIO): ("there is no such disk", "it may have left: gadgetd scan"),
    ("write", "file", errno.ENODEV): ("there is no such disk", "it may have left: gadgetd scan"),
    ("write", "file", errno.EINVAL): ("that is no disk", "only block devices can be exported"),
    ("write", "file", errno.EISDIR): ("that is no disk", "only block devices can be exported"),
    ("write", "file", errno.EBUSY): (
        "the host has locked the medium",
        "eject it on the host, or force it: gadgetd eject --force",
    ),
    ("write", "ro", errno.EBUSY): ("a disk is open in this LUN", "take the disk out first"),
    ("write", "cdrom", errno.EBUSY): ("a disk is open in this LUN", "take the disk out first"),
    ("write", "stall", errno.EBUSY): ("the function is linked", ""),
    ("write", "UDC", errno.EBUSY): (
        "the controller is unknown, in use, or cannot carry so many functions",
        "see /sys/class/udc and the kernel's log (dmesg); another gadget may be bound",
    ),
    ("write", "UDC", errno.ENODEV): ("there is no such controller", "see /sys/class/udc"),
    ("make", "lun", errno.ERANGE): ("the kernel has no room for that many LUNs", ""),
    ("make", "lun", errno.EBUSY): ("the function is linked, or the LUN is there already", ""),
    ("make", "mass_storage", errno.ENOENT): (
        "this kernel has no such USB function",
        "load the module: modprobe usb_f_mass_storage (CONFIG_USB_CONFIGFS_MASS_STORAGE)",
    ),
    ("make", "acm", errno.ENOENT): (
        "this kernel has no such USB function",
        "load the module: modprobe usb_f_acm (CONFIG_USB_CONFIGFS_ACM), or set usb.acm: false",
    ),
    ("make", "", errno.EEXIST): ("it is there already", "take it down first: gadgetd stop"),
    ("link", "", errno.EEXIST): ("it is linked already", ""),
    ("write", "", errno.ENOENT): ("this kernel has no such attribute", ""),
    ("write", "", errno.EINVAL): ("the kernel does not take this value", ""),
    ("write", "", errno.ERANGE): ("the value is out of range", ""),
    ("write", "", errno.EOVERFLOW): ("the value is too long", "a USB string holds 126 bytes"),
    ("remove", "", errno.EBUSY): ("it is linked", ""),
    ("remove", "", errno.ENOTEMPTY): ("something is left in it", ""),
    ("mount", "", errno.ENODEV): (
        "this kernel has no configfs",
        "load the module: modprobe configfs (CONFIG_CONFIGFS_FS)",
    ),
    ("mount", "", errno.ENOENT): (
        "the directory is missing: this kernel has no configfs",
        "load the module: modprobe configfs (CONFIG_CONFIGFS_FS)",
    ),
    ("write", "UDC", errno.ETIMEDOUT): ("a disk does not answer", _BUSY),
    ("read", "UDC", errno.ETIMEDOUT): ("a disk does not answer", _BUSY),
    ("", "", errno.ETIMEDOUT): ("the disk does not answer", _BUSY),
    ("", "", errno.EACCES): ("not permitted", _AS_ROOT),
    ("", "", errno.EPERM): ("not permitted", _AS_ROOT),
}


def explain(step: str, error: OSError) -> tuple[str, str]:
    """Say in words why the kernel refused a step, and what to do; the latter may be empty.

    `step` is a verb and a path, as in `write functions/mass_storage.0/lun.0/file`.
    """
    verb, _, path = step.partition(" ")
    leaf = path.rpartition("/")[2].partition(".")[0]
    number = error.errno or 0
    for key in ((verb, leaf, number), (verb, "", number), ("", "", number)):
        if key in _WORDS:
            return _WORDS[key]
    return error.strerror or f"error {number}", ""


class Undo(ExitStack):
    """Undoes in reverse. A step that cannot be undone is noted, and the rest is still undone."""

    def __init__(self) -> None:
        super().__init__()
        self._failures: list[str] = []

    def add(self, step: str, call: Callable[..., object], *arguments: object) -> None:
        """Put on the stack what undoes a step; `step` is a verb and a path."""
        self.callback(self._undo, step, call, arguments)

    def _undo(self, step: str, call: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            call(*arguments)
        except OSError as error:
            self._failures.append(f"cannot {step}: {explain(step, error)[0]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        super().__exit__(kind, error, traceback)
        if self._failures and isinstance(error, GadgetError):
            raise GadgetError(
                f"{error.message}; not all of it could be undone: {'; '.join(self._failures)}",
                step=error.step,
                errno=error.errno,
                hint=error.hint,
                lun=error.lun,
            ) from error
        return False


def refuse(step: str, error: OSError, text: str = "") -> NoReturn:
    """Raise the GadgetError that says in words why a step failed; `text` is what was written."""
    reason, hint = explain(step, error)
    value = f" ({text})" if text.strip() else ""
    raise GadgetError(
        f"cannot {step}{value}: {reason}", step=step, errno=error.errno or 0, hint=hint
    ) from error


class Steps:
    """What `ConfigFs` does its work with, below `gadgets`. Raises GadgetError and nothing else."""

    def __init__(self, gadgets: Path, kernel: Kernel) -> None:
        self._gadgets = gadgets
        self._kernel = kernel

    def _rewrite(self, undo: Undo, path: Path, old: str, new: str) -> None:
        apart = path.name in WAITING
        self._write(path, new or "\n", apart=apart)
        write = self._kernel.write_apart if apart else self._kernel.write
        undo.add(f"write {self._where(path)}", write, path, old or "\n")

    def _unlink_below(self, path: Path, failures: list[GadgetError]) -> None:
        for name in self._attempt("list", path, self._kernel.links, failures) or ():
            self._attempt("unlink", path / name, self._kernel.unlink, failures)
        for name in self._attempt("list", path, self._kernel.directories, failures) or ():
            self._unlink_below(path / name, failures)

    def _remove_below(self, path: Path, failures: list[GadgetError]) -> None:
        for name in self._attempt("list", path, self._kernel.directories, failures) or ():
            self._remove_below(path / name, failures)
            self._attempt("remove", path / name, self._kernel.rmdir, failures)

    def _attempt(
        self, verb: str, path: Path, call: Callable[[Path], Any], failures: list[GadgetError]
    ) -> Any:
        try:
            return self._do(verb, path, call)
        except GadgetError as error:
            # EPERM is what a default group answers: it goes with the item it came with.
            if error.errno not in (errno.ENOENT, errno.EPERM):
                failures.append(error)
            return None

    def _do(self, verb: str, path: Path, call: Callable[..., Any], *arguments: object) -> Any:
        try:
            return call(path, *arguments)
        except OSError as error:
            refuse(f"{verb} {self._where(path)}", error)

    def _write(self, path: Path, text: str, *, apart: bool = False) -> None:
        """Write an attribute; `apart` if it may wait for the host. ETIMEDOUT: it goes on then."""
        try:
            (self._kernel.write_apart if apart else self._kernel.write)(path, text)
        except OSError as error:
            refuse(f"write {self._where(path)}", error, text)

    def _text(self, path: Path) -> str:
        # Only the newline: an inquiry string may well end with blanks.
        return self._kernel.read(path).removesuffix("\n")

    def _listed(self, path: Path) -> list[str] | None:
        """List the directories in a directory in natural order; None if it is not there."""
        try:
            return sorted(self._do("list", path, self._kernel.directories), key=natural_key)
        except GadgetError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def _where(self, path: Path) -> str:
        """Give a path as it reads in a step: without the gadget, unless it is the gadget itself."""
        parts = path.relative_to(self._gadgets).parts
        return "/".join(parts[1:]) or " ".join(("gadget", *parts)) if parts else str(path)
