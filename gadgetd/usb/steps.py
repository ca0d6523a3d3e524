"""The steps in which a gadget's tree is worked on, each named where the kernel refuses it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from gadgetd.errors import GadgetError
from gadgetd.sysfs import natural_key
from gadgetd.usb.kernelfs import WAITING, Kernel, Undo, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Steps:
    """What `ConfigFs` does its work with, below `gadgets`. Raises GadgetError and nothing else."""

    def __init__(self, gadgets: Path, kernel: Kernel) -> None:
        self._gadgets = gadgets
        self._kernel = kernel

    def _rewrite(self, undo: Undo, path: Path, old: str, new: str) -> None:
        apart = path.name in WAITING
        (self._write_apart if apart else self._write)(path, new or "\n")
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

    def _write(self, path: Path, text: str) -> None:
        try:
            self._kernel.write(path, text)
        except OSError as error:
            refuse(f"write {self._where(path)}", error, text)

    def _write_apart(self, path: Path, text: str) -> None:
        """Write what may wait for the host. ETIMEDOUT: it goes on; see kernelfs."""
        try:
            self._kernel.write_apart(path, text)
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
