"""Numbers as people read them."""

from __future__ import annotations


def number(value: float) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 123, 1234."""
    if value == 0:
        return "0"
    for limit, digits in ((0.01, 4), (1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"
