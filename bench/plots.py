"""The results as pictures, SVG that is the same for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.results import rows
from bench.row import Judged, Kind, Row, Spread
from bench.text import number

WIDTH = 9.0
"""Inches, of 72 points each."""
OURS, THEIRS, GOOD, BAD, GREY = "#0b6e4f", "#8d99ae", "#0b6e4f", "#c0392b", "#555555"
COLOURS = ("#c9d6df", "#f2a541", "#0b6e4f", "#8d99ae", "#52616b", "#d95d39", "#6d597a", "#b5c99a",
           "#e56b6f", "#355070", "#adb5bd", "#457b9d", "#e9c46a", "#264653", "#a8dadc")  # fmt: skip


def draw(results: Mapping[str, Any], directory: Path) -> None:
    """Write every picture that the results have numbers for."""
    _settle()
    directory.mkdir(parents=True, exist_ok=True)
    found = rows(dict(results))
    pictures = results["pictures"]
    compared = [row for row in found if row.kind is Kind.FIGURE and row.ratios]
    if compared:
        _save(ratios(compared), directory / "ratios.svg")
    if pictures.get("boot"):
        _save(stacked(pictures["boot"], "seconds since init began"), directory / "boot.svg")
    if pictures.get("imports"):
        # The steps with their one `imports` taken apart, in proportion to what -X importtime says.
        _save(
            stacked({"gadgetd's start": start(pictures)}, "milliseconds since Python's first line"),
            directory / "start.svg",
        )
    if pictures.get("scale"):
        _save(scale(pictures["scale"]), directory / "scale.svg")


def endurance(found: Mapping[str, Sequence[tuple[int, int, int]]], path: Path) -> None:
    """Write a picture of what is left: times, descriptors, blocks of memory more than at first."""
    _settle()
    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for colour, (what, samples) in zip(COLOURS[1:], found.items(), strict=False):
        times = [each[0] for each in samples]
        above.plot(times, [each[1] for each in samples], color=colour)
        below.plot(times, [each[2] for each in samples], color=colour, label=what)
    above.set_ylabel("open descriptors")
    above.set_ylim(0, 1.3 * max(each[1] for samples in found.values() for each in samples))
    below.set_ylabel("blocks of memory,\nmore than at first")
    below.set_xlabel("times")
    for axes in (above, below):
        axes.grid(color="#e5e5e5")
    figure.legend(loc="outside lower center", ncols=len(found), frameon=False)
    _save(figure, path)


def start(pictures: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The steps of a start; imports by whose they are."""
    steps = dict(pictures["steps"])
    whole = steps.pop("imports")
    imports = [(name, ms) for name, ms in pictures["imports"] if not name.startswith("Python")]
    scale = whole / sum(ms for _, ms in imports)
    small = sum(ms for ms in steps.values() if ms < whole / 100)
    large = [(name, ms) for name, ms in steps.items() if ms >= whole / 100]
    return [*((f"import: {n}", ms * scale) for n, ms in imports), *large, ("smaller steps", small)]


def ratios(compared: Sequence[Row]) -> Figure:
    """A dot for each pair, a line at the median, a mark at the target; logarithmic."""
    figure = Figure(figsize=(WIDTH, 0.6 + 0.34 * len(compared)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(compared)):
        colour = {True: GOOD, False: BAD, None: GREY}[row.met]
        axes.plot(row.ratios, [place] * len(row.ratios), "o", color=colour, alpha=0.45, ms=5)
        middle = Spread.of(row.ratios).median
        axes.plot([middle] * 2, [place - 0.3, place + 0.3], color=colour, lw=2)
        if row.target is not None and row.target.judged is Judged.RATIO:
            mark = ">" if row.target.at_least else "<"
            axes.plot(row.target.limit, place, mark, mfc="none", mec=GREY, ms=8)
    axes.axvline(1, color=GREY, lw=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(compared)), [row.name for row in reversed(compared)])
    axes.set_xlabel("gadgetd / peer; the arrow is the target and points to where it is better")
    axes.grid(axis="x", which="both", color="#e5e5e5")
    return figure


def stacked(bars: Mapping[str, Sequence[tuple[str, float]]], label: str) -> Figure:
    """A bar for each side, one part after the other."""
    count = sum(map(len, bars.values()))
    figure = Figure(figsize=(WIDTH, 0.9 + 0.55 * len(bars) + 0.1 * count), layout="constrained")
    axes = figure.subplots()
    colours: dict[str, str] = {}
    for place, (_, parts) in enumerate(reversed(list(bars.items()))):
        left = 0.0
        for name, length in parts:
            new = name not in colours
            colour = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
            axes.barh(place, length, left=left, color=colour, height=0.6, label=name if new else "")
            if length > 0.06 * max(sum(v for _, v in each) for each in bars.values()):
                axes.text(
                    left + length / 2, place, number(length), ha="center", va="center", size=8
                )
            left += length
    axes.set_yticks(range(len(bars)), list(bars)[::-1])
    axes.set_xlabel(label)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def scale(points: Sequence[Sequence[float]]) -> Figure:
    """Seconds to start by the number of disks, all rounds and their median."""
    figure = Figure(figsize=(WIDTH * 0.6, 3), layout="constrained")
    axes = figure.subplots()
    for count, *values in points:
        axes.plot([count] * len(values), values, "o", color=OURS, alpha=0.4, ms=5)
    axes.plot(
        [count for count, *_ in points],
        [Spread.of(values).median for _, *values in points],
        color=OURS,
    )
    axes.set_xlabel("disks")
    axes.set_ylabel("exec → bound, s")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color="#e5e5e5")
    return figure


def _settle() -> None:
    """Have all pictures look alike, and the same numbers give the same file."""
    matplotlib.rcParams.update(
        {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}
    )


def _save(figure: Figure, path: Path) -> None:
    """Write an SVG without the date."""
    figure.savefig(path, metadata={"Date": None})
