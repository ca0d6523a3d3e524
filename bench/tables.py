"""The results as Markdown, put between markers of a document. Pure, but for `renew`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import text
from bench.results import rows
from bench.row import Judged, Kind, Row, Target
from bench.text import number

spread = partial(text.spread, mark="**")


def target(wanted: Target | None) -> str:
    """The target as a cell: `≤ 0.55`, and what it is about."""
    if wanted is None:
        return text.NOTHING
    sign = "≥" if wanted.at_least else "≤"
    about = "ratio " if wanted.judged is Judged.RATIO else ""
    return f"{about}{sign} {wanted.limit:g}"


def verdict(row: Row) -> str:
    """Whether the target is met, or by how much it is not."""
    if row.met is None or row.target is None or row.judged is None:
        return text.NOTHING
    if row.met:
        return "met"
    if row.target.limit == 0:
        return f"**missed**: {number(row.judged)}"
    off = row.target.distance(row.judged)
    direction = "below" if row.target.at_least else "above"
    far = f"{1 + off:.1f} times it" if off >= 1 else f"{off:.0%} {direction}"
    return f"**missed**: {far}"


def figures(found: Sequence[Row]) -> str:
    """The table of the figures that have targets, or could have."""
    lines = [
        "| Figure | Unit | gadgetd | peer | ratio | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        if row.kind is not Kind.FIGURE:
            continue
        peer = row.peer_says or spread(row.peer)
        cells = (row.name, row.unit, spread(row.gadgetd), peer, spread(row.ratios))
        lines.append(f"| {' | '.join((*cells, target(row.target), verdict(row)))} |")
        if row.note:
            lines.append(f"| {row.note} | | | | | | |")
    return "\n".join(lines)


def ideas(found: Sequence[Row]) -> str:
    """The table of ideas that were tried: below 1 it is faster, for throughput above 1."""
    return _beside(found, Kind.IDEA, "| Idea | Unit | with it | without | ratio |")


def details(found: Sequence[Row]) -> str:
    """The table of what explains the figures."""
    return _beside(found, Kind.DETAIL, "| | Unit | | beside it | ratio |")


def shipped(found: Sequence[Row]) -> str:
    """The table of gadgetd as it ships."""
    heading = "| | Unit | as it ships | on the emulator's root | ratio |"
    return _beside(found, Kind.SHIPPED, heading)


def _beside(found: Sequence[Row], kind: Kind, heading: str) -> str:
    """The rows of one kind, each with what it is compared with."""
    lines = [heading, "|---|---|---|---|---|"]
    for row in found:
        if row.kind is kind:
            cells = (row.name, row.unit, spread(row.gadgetd), spread(row.peer), spread(row.ratios))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shares(parts: Sequence[tuple[str, float]], heading: str, unit: str) -> str:
    """The parts of a whole, each with its share."""
    whole = sum(value for _, value in parts)
    lines = [f"| {heading} | {unit} | share |", "|---|---|---|"]
    lines += [f"| {name} | {number(value)} | {value / whole:.0%} |" for name, value in parts]
    return "\n".join([*lines, f"| all | {number(whole)} | |"])


def made(about: Mapping[str, Any]) -> str:
    """What was measured, when, and on what."""
    return (
        f"Measured {about['date']} in {about['minutes']:g} minutes: gadgetd {about['gadgetd']} at"
        f" commit {about['commit']}; on the board {about['kernel']}, Python {about['python']},"
        f" pyudev {about['pyudev']}; {about['qemu']} on {about['cores']} cores of"
        f" {about['processor']}, load {about['load']:g}."
    )


def parts(results: Mapping[str, Any]) -> dict[str, str]:
    """All that can stand in the document, by the name of its marker."""
    found = rows(dict(results))
    pictures = results["pictures"]
    made_of = {
        "made": made(results["made"]),
        "figures": figures(found),
        "ideas": ideas(found),
        "details": details(found),
    }
    if any(row.kind is Kind.SHIPPED for row in found):
        made_of["shipped"] = shipped(found)
    if results["failures"]:
        failures = (f"- {name}: not measured. {why}" for name, why in results["failures"].items())
        made_of["figures"] += "\n\n" + "\n".join(failures)
    for side, phases in pictures.get("boot", {}).items():
        made_of[f"boot {side}"] = shares(phases, f"{side}'s boot", "s")
    if "imports" in pictures:
        made_of["imports"] = shares(pictures["imports"], "Imports", "ms")
        made_of["steps"] = shares(pictures["steps"], "Step", "ms")
    return made_of


def put(document: str, made_of: Mapping[str, str]) -> str:
    """The document with each part between its markers; markers without a part stay as they are.

    Raises ValueError if the document has no place for a part.
    """
    for name, part in made_of.items():
        marked = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        document, count = marked.subn(lambda m, part=part: f"{m[1]}{part}\n{m[2]}", document)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the document has {count} places for {name!r}")
    return document


def renew(path: Path, results: Mapping[str, Any]) -> None:
    """Put the results into the document at `path`."""
    path.write_text(put(path.read_text(), parts(results)))
