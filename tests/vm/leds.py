"""What the ACT LED's line says, read outside the board."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tests.vm.board import WAIT_S, Board, until

Change = tuple[float, bool]

LATE_S = 10.0
"""A step may come so much later: the emulated CPU has other work, such as importing what draws the
first picture, and two boards share this machine. None may come early."""
EARLY_S = 0.1


def flashes(changes: Sequence[Change]) -> list[tuple[bool, float]]:
    """Each state of the LED but the last, which still holds: (lit, seconds)."""
    pairs = itertools.pairwise(changes)
    return [(lit, later - at) for (at, lit), (later, _) in pairs]


def expect_three_flashes_then_steady(board: Board) -> None:
    """Wait for the pattern of exported disks: three times 0.2 s dark and 0.2 s lit, then lit.

    The LED is dark when it begins, so the first dark step shows as no change.
    """
    until("the LED's pattern is over", lambda: len(board.led()) >= 5 and board.led()[-1][1])
    changes = board.led()
    assert [lit for _, lit in changes] == [True, False, True, False, True]
    for _, seconds in flashes(changes):
        assert 0.2 - EARLY_S < seconds < 0.2 + LATE_S, f"a step of {seconds:.2f} s"


def expect_error_pattern(board: Board, count: int = 20) -> None:
    """Wait for so many steps of the fast flicker, 0.1 s lit and 0.1 s dark, from here on."""
    begin = len(board.led())
    until("the LED flickers", lambda: len(board.led()) >= begin + count, WAIT_S)
    steps = flashes(board.led()[begin + 1 :])
    assert [lit for lit, _ in steps] == [i % 2 == (not steps[0][0]) for i in range(len(steps))]
    # The kernel's timer does it, so most steps are on time even if some are late.
    seconds = sorted(seconds for _, seconds in steps)
    assert 0.09 < seconds[len(seconds) // 2] < 0.14
    assert seconds[-1] < 0.1 + LATE_S


def expect_steady(board: Board) -> None:
    """Wait until the LED is lit and has been for longer than any pattern's step may be late."""

    def steady() -> bool:
        changes = board.led()
        since = board.seconds_since_power_on() - changes[-1][0] if changes else 0
        return bool(changes) and changes[-1][1] and since > 4

    until("the LED is lit and stays", steady)
