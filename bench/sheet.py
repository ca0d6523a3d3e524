"""What a run of the benchmark has found so far, and how much effort it is to make."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

from bench.row import Row
from bench.text import spread


@dataclass(frozen=True)
class Effort:
    """How often and how long things are measured."""

    pairs: int  # boots of each side
    rounds: int  # starts of each program on one board
    transfers: int  # rounds of transfers
    transfer_mib: int
    arrivals: int
    idle_s: float
    disks: tuple[int, ...]  # how many, for the scale
    whole: bool  # also what takes minutes: the peer's slow disk, its late disk


FULL = Effort(
    pairs=9,
    rounds=11,
    transfers=5,
    transfer_mib=32,
    arrivals=5,
    idle_s=60,
    disks=(1, 8, 16, 32),
    whole=True,
)
QUICK = Effort(
    pairs=2,
    rounds=3,
    transfers=2,
    transfer_mib=8,
    arrivals=1,
    idle_s=15,
    disks=(1, 16),
    whole=False,
)


@dataclass
class Sheet:
    """Rows and pictures, in the order in which they were found; says what it is told."""

    effort: Effort
    figure: str = ""
    rows: list[Row] = field(default_factory=list)
    pictures: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Keep a row, and show it."""
        row = replace(row, figure=self.figure)
        self.rows.append(row)
        parts = [f"gadgetd {spread(row.gadgetd)} {row.unit}"]
        if row.peer:
            parts.append(f"peer {spread(row.peer)}, ratio {spread(row.ratios)}")
        elif row.peer_says:
            parts.append(f"peer: {row.peer_says}")
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        self.say(f"  {row.name}: {'; '.join(parts)}  {verdict}".rstrip())

    def say(self, sentence: str) -> None:
        """Progress, on stderr, with the figure it is about."""
        print(f"  {self.figure:10} {sentence}", file=sys.stderr, flush=True)
