"""Steps that are taken back in reverse, and the error of a step that the kernel refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Literal, NoReturn

from gadgetd.errors import GadgetError
from gadgetd.kernelfs import explain


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
