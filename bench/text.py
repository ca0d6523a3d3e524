"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from bench.row import Spread

NOTHING = "-"


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 123, 1234."""
    if value == 0:
        return "0"
    for limit, digits in ((0.01, 4), (1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def spread(values: Sequence[float], mark: str = "") -> str:
    """Median, and least to most where there are several; the median then between two `mark`."""
    if not values:
        return NOTHING
    found = Spread.of(values)
    if found.count == 1:
        return number(found.median)
    return f"{mark}{number(found.median)}{mark} ({number(found.least)} to {number(found.most)})"
