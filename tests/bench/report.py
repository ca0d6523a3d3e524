"""A report from a board: what was found, as JSON to be sent and as Markdown to be read.

All that a board or its disks say is somebody else's text. It comes in here and nowhere else, and
goes out without a control character, without markup, and no longer than LONGEST.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
STATUSES = (PASSED, FAILED, SKIPPED)
LONGEST = 20_000
"""Characters of one text; of a longer one the end is kept."""
SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # a colour, a place on the screen
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # a window's title, a device's control string
    r"|\x1b[ -/]*[0-~]?"
)
MAC = re.compile(r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def plain(text: str) -> str:
    """Text that does nothing to a terminal: lines of characters that can be seen."""
    text = SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\t", " ")
    seen = "".join(c if c == "\n" or c.isprintable() else UNKNOWN for c in text)
    return seen if len(seen) <= LONGEST else f"[…]{seen[-LONGEST:]}"


def plain_value(value: Any) -> Any:
    """A JSON value, every text in it plain."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): plain_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return value


@dataclass(frozen=True)
class Outcome:
    """What became of a step: a status, a sentence, figures for programs, texts to look into."""

    status: str
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # what is in it: the text


@dataclass(frozen=True)
class Entry:
    """A step's place in the report. `row` is its line of docs/image.md's list, 0 for none."""

    key: str
    row: int
    title: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True)
class Report:
    """One board, one walk through the list."""

    name: str
    date: str
    gadgetd: str
    pc: str
    entries: tuple[Entry, ...]
    # Serial numbers: only their last four characters go out.
    secrets: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many steps did."""
        return sum(entry.outcome.status == FAILED for entry in self.entries)

    def as_json(self) -> str:
        """The whole report, for programs."""
        value = {
            "format": 1,
            "name": self.name,
            "date": self.date,
            "gadgetd": self.gadgetd,
            "pc": self.pc,
            "steps": [
                {
                    "step": entry.key,
                    "row": entry.row,
                    "title": entry.title,
                    "status": entry.outcome.status,
                    "text": entry.outcome.text,
                    "seconds": round(entry.seconds, 1),
                    "figures": entry.outcome.figures,
                    "texts": entry.outcome.texts,
                }
                for entry in self.entries
            ],
        }
        return self._without_secrets(json.dumps(plain_value(value), indent=2) + "\n")

    def as_markdown(self) -> str:
        """The whole report, for people."""
        lines = [
            f"# {_inline(self.name)}",
            "",
            f"{_inline(self.date)}, gadgetd {_inline(self.gadgetd)}, {_inline(self.pc)}."
            " Written by `make board-report`; the rows are those of [image.md](../image.md).",
            "",
            "| Row | Step | | |",
            "|---|---|---|---|",
        ]
        for entry in self.entries:
            told = entry.outcome
            row = str(entry.row or "")
            lines.append(f"| {row} | {entry.title} | {told.status} | {_inline(told.text)} |")
        for entry in self.entries:
            lines += _details(entry)
        return self._without_secrets("\n".join(lines) + "\n")

    def _without_secrets(self, text: str) -> str:
        text = MAC.sub("…", text)
        for secret in sorted(filter(None, self.secrets), key=len, reverse=True):
            if len(secret) > 4:
                text = text.replace(secret, f"…{secret[-4:]}")
        return text


def _details(entry: Entry) -> Iterable[str]:
    """Figures and texts below the table."""
    told = entry.outcome
    if not told.figures and not told.texts:
        return
    yield from ("", f"## {entry.title}", "")
    if told.figures:
        yield from ("| | |", "|---|---|")
        for name, value in told.figures.items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"| {_inline(name)} | {_inline(shown)} |"
    for name, text in told.texts.items():
        body = plain(text).strip("\n")
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
        yield from ("", f"{_inline(name)}:", "", f"{fence}text", body, fence)


def _inline(text: str) -> str:
    """Text in a line or a cell of Markdown, none of it markup."""
    one_line = " ".join(plain(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", one_line)
