"""A row of the benchmark: what was measured, how often, and whether it is where it should be.

Pure: no board, no file, no clock.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self


class Judged(StrEnum):
    """Which number a target is about."""

    RATIO = "ratio"  # gadgetd's by the peer's, pair by pair
    VALUE = "value"  # gadgetd's alone


class Kind(StrEnum):
    """Which table a row belongs to."""

    FIGURE = "figure"
    DETAIL = "detail"  # explains a figure
    SHIPPED = "shipped"  # in a built image (`gadgetd`) beside the emulator's root (`peer`)
    IDEA = "idea"  # something changed (`gadgetd`) against things as they are (`peer`)


@dataclass(frozen=True)
class Spread:
    """What several measurements of one thing come to."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Sum up measurements; at least one."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Target:
    """How small, or with `at_least` how large, a number should be."""

    limit: float
    judged: Judged = Judged.RATIO
    at_least: bool = False

    def met_by(self, number: float) -> bool:
        """Whether the number is good enough."""
        return number >= self.limit if self.at_least else number <= self.limit

    def distance(self, number: float) -> float:
        """How far off the number is, as a part of the limit; 0 if the target is met."""
        return 0.0 if self.met_by(number) else abs(number - self.limit) / self.limit


@dataclass(frozen=True)
class Row:
    """One measured thing; `gadgetd[i]` and `peer[i]` are a pair, measured one after the other."""

    name: str
    unit: str
    gadgetd: tuple[float, ...]
    peer: tuple[float, ...] = ()
    target: Target | None = None
    kind: Kind = Kind.FIGURE
    figure: str = ""  # the measurement that it comes from, as --only names it
    peer_says: str = ""  # in place of numbers: "never"
    note: str = ""

    @property
    def ratios(self) -> tuple[float, ...]:
        """What gadgetd needed, by what the peer needed, for each pair."""
        if len(self.gadgetd) != len(self.peer) or 0 in self.peer:
            return ()
        return tuple(ours / theirs for ours, theirs in zip(self.gadgetd, self.peer, strict=True))

    @property
    def judged(self) -> float | None:
        """The number that the target is about; None without a target or without that number."""
        if self.target is None:
            return None
        numbers = self.ratios if self.target.judged is Judged.RATIO else self.gadgetd
        return Spread.of(numbers).median if numbers else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is nothing to say."""
        number = self.judged
        return None if number is None or self.target is None else self.target.met_by(number)

    def to_json(self) -> dict[str, Any]:
        """The row as JSON has it, with what its numbers come to."""
        plain = asdict(self)
        for key in ("gadgetd", "peer", "ratios"):
            values = getattr(self, key)
            plain[key] = {"values": [round(v, 6) for v in values]}
            if values:
                spread = Spread.of(values)
                plain[key] |= {"median": spread.median, "min": spread.least, "max": spread.most}
        plain["met"] = self.met
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Self:
        """The row that `to_json` gave."""
        target = plain["target"]
        return cls(
            name=plain["name"],
            unit=plain["unit"],
            gadgetd=tuple(plain["gadgetd"]["values"]),
            peer=tuple(plain["peer"]["values"]),
            target=target and Target(target["limit"], Judged(target["judged"]), target["at_least"]),
            kind=Kind(plain["kind"]),
            figure=plain["figure"],
            peer_says=plain["peer_says"],
            note=plain["note"],
        )


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y grows with x, by least squares. At least two different x."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope
