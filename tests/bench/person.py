"""Who answers: a person at the terminal, or a file and arguments in the place of one, for a jig."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from emulator import EmulatorError
from tests.bench.report import plain

YES, NO, SKIP = "yes", "no", "skip"
WORDS = {"": YES, "y": YES, "yes": YES, "done": YES, "n": NO, "no": NO, "s": SKIP, "skip": SKIP}


class Person(Protocol):
    """Does what is asked for, and says what is to be seen."""

    def answer(self, key: str, request: str) -> str:
        """YES, NO or SKIP to a request, of which `key` is the name in files and arguments."""


class Terminal:
    """A person: each request is printed, and waited for."""

    def __init__(
        self, read: Callable[[str], str] = input, write: Callable[[str], None] = print
    ) -> None:
        """Ask on this process's terminal."""
        self._read, self._write = read, write

    def answer(self, key: str, request: str) -> str:
        """Ask until the answer is one."""
        self._write(f"\n{plain(request)}")
        while True:
            try:
                said = self._read(f"  [{key}] Enter or y: done, yes; n: no; s: skip > ")
            except EOFError:
                return SKIP
            if said.strip().lower() in WORDS:
                return WORDS[said.strip().lower()]
            self._write(f"  {plain(said)!r} is none of y, n, s")


class Answers:
    """Answers that were given before. What has none goes to `otherwise`, or is skipped."""

    def __init__(self, given: Mapping[str, str], otherwise: Person | None = None) -> None:
        """Keep them."""
        self._given = given
        self._otherwise = otherwise

    def answer(self, key: str, request: str) -> str:
        """The one that was given."""
        if key in self._given:
            return self._given[key]
        return self._otherwise.answer(key, request) if self._otherwise else SKIP


def read_answers(file: Path | None, pairs: list[str], known: frozenset[str]) -> dict[str, str]:
    """Answers from a JSON file, {"led": "yes"}, and from `led=yes`, which count more.

    Raises EmulatorError for what is none, or is to no question in `known`.
    """
    given: dict[str, object] = {}
    if file is not None:
        try:
            content = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise EmulatorError(f"{file}: no answers can be read: {error}") from error
        if not isinstance(content, dict):
            raise EmulatorError(f"{file}: no answers", hint='as in {"led": "yes"}')
        given.update(content)
    for pair in pairs:
        key, equals, word = pair.partition("=")
        if not equals:
            raise EmulatorError(f"--answer {pair}: no answer", hint="as in --answer led=yes")
        given[key] = word
    for key, value in given.items():
        if key not in known:
            raise EmulatorError(
                f"nobody asks for {key!r}", hint=f"there are {', '.join(sorted(known))}"
            )
        if not isinstance(value, str) or value.lower() not in WORDS:
            raise EmulatorError(f"{key}: {value!r} is no answer", hint="yes, no or skip")
    return {key: WORDS[str(value).lower()] for key, value in given.items()}
