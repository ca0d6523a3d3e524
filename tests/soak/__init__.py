"""Tests with chance in them, again and again: `make soak`.

`make test` runs each of them once, always with the same choices. A soak runs them with new ones
until its time is over. GADGETD_SEED has a test choose as it did in a soak, GADGETD_ROUNDS has it go
on for as long.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

SEED = int(os.environ.get("GADGETD_SEED", "20261126"))
ROUNDS = int(os.environ.get("GADGETD_ROUNDS", "15"))
COUNTS = "GADGETD_COUNTS"
"""Names the file that a soak adds up what the tests count in."""
SAMPLES = "GADGETD_SAMPLES"
"""Names the file in which a test of endurance writes down what it finds on the way."""


class Sample(NamedTuple):
    """What there was after so many rounds."""

    rounds: int
    clock_s: int
    """Of the fake's clock."""
    descriptors: int
    blocks: int
    """Of Python's allocator."""
    resident_kib: int
    lines: int
    """That `gadgetd log` would show."""


def count(what: str, number: int = 1) -> None:
    """Note for the soak's table that so much of something was done."""
    if file := os.environ.get(COUNTS):
        with Path(file).open("a") as counts:
            counts.write(f"{number} {what}\n")


def note(sample: Sample) -> None:
    """Write down what there is now."""
    if file := os.environ.get(SAMPLES):
        with Path(file).open("a") as samples:
            samples.write(" ".join(map(str, sample)) + "\n")


def read_samples(file: Path) -> list[Sample]:
    """Give what was noted."""
    return [Sample(*map(int, line.split())) for line in file.read_text().splitlines()]
