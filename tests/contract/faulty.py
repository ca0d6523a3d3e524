"""A kernel in front of another one: any call can be made to fail, or the process to die at it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gadgetd.usb.kernelfs import ANSWER_S, Kernel


class Killed(BaseException):
    """The process was killed: no `except Exception` sees it, and no call after it has an effect."""


class FaultyKernel(Kernel):
    """Passes every call on and lists it in `calls` as a verb and a path.

    Calls count from 0. `fail` maps a call's number to the errno that it gets without having an
    effect. From the call `kill_at` on, everything raises Killed, also what an undo tries.
    """

    def __init__(
        self, kernel: Kernel, fail: Mapping[int, int] | None = None, kill_at: int | None = None
    ) -> None:
        self.calls: list[tuple[str, Path]] = []
        self._kernel = kernel
        self._fail = fail or {}
        self._kill_at = kill_at

    def mkdir(self, path: Path) -> None:
        self._pass("mkdir", path)

    def rmdir(self, path: Path) -> None:
        self._pass("rmdir", path)

    def symlink(self, target: Path, path: Path) -> None:
        self._count("symlink", path)
        self._kernel.symlink(target, path)

    def unlink(self, path: Path) -> None:
        self._pass("unlink", path)

    def directories(self, path: Path) -> list[str]:
        names: list[str] = self._pass("directories", path)
        return names

    def links(self, path: Path) -> list[str]:
        names: list[str] = self._pass("links", path)
        return names

    def read(self, path: Path) -> str:
        return str(self._pass("read", path))

    def write(self, path: Path, text: str) -> None:
        self._pass("write", path, text)

    def write_apart(self, path: Path, text: str, wait_s: float = 0.0) -> None:
        del wait_s
        self._pass("write_apart", path, text)

    def read_apart(self, gadget: Path, paths: Iterable[Path], wait_s: float = ANSWER_S) -> None:
        del wait_s
        self._count("read_apart", gadget)
        self._kernel.read_apart(gadget, paths)

    @property
    def under_way(self) -> frozenset[Path]:
        return self._kernel.under_way

    def mount_configfs(self, path: Path) -> None:
        self._pass("mount_configfs", path)

    def _pass(self, verb: str, path: Path, *arguments: str) -> Any:
        self._count(verb, path)
        return getattr(self._kernel, verb)(path, *arguments)

    def _count(self, verb: str, path: Path) -> None:
        number = len(self.calls)
        if self._kill_at is not None and number >= self._kill_at:
            raise Killed
        self.calls.append((verb, path))
        if number in self._fail:
            raise OSError(self._fail[number], os.strerror(self._fail[number]), str(path))
