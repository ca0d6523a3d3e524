"""What the benchmark makes of its numbers: spreads, ratios pair by pair, targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.row import Judged, Kind, Row, Spread, Target, slope

SECONDS = st.lists(st.floats(0.001, 1000), min_size=1, max_size=20)


@given(SECONDS)
def test_a_median_lies_within_its_spread(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.least <= spread.median <= spread.most
    assert spread.count == len(values)


def test_a_ratio_is_taken_pair_by_pair_not_between_medians() -> None:
    # A machine that was busy during the second pair slowed both sides down.
    row = Row("boot", "s", (1.0, 4.0, 1.0), (2.0, 8.0, 1.0))
    assert row.ratios == (0.5, 0.5, 1.0)


def test_sides_measured_unequally_often_have_no_ratio() -> None:
    row = Row("stall", "s", (1.0, 1.0), (2.0,), Target(1.0))
    assert row.ratios == ()
    assert row.met is None


def test_against_nothing_there_is_no_ratio() -> None:
    assert Row("resets", "", (0.0,), (0.0,)).ratios == ()


@pytest.mark.parametrize(
    ("target", "number", "met", "distance"),
    [
        (Target(0.5), 0.5, True, 0),
        (Target(0.5), 0.6, False, 0.2),
        (Target(3.0), 9.0, False, 2.0),
        (Target(1.0, at_least=True), 1.0, True, 0),
        (Target(1.0, at_least=True), 0.9, False, 0.1),
    ],
)
def test_a_target_tells_how_far_off_a_number_is(
    target: Target, number: float, met: bool, distance: float
) -> None:
    assert target.met_by(number) is met
    assert target.distance(number) == pytest.approx(distance)


def test_a_target_is_judged_by_the_median_of_the_ratios() -> None:
    row = Row("boot", "s", (1.0, 1.0, 9.0), (2.0, 2.0, 2.0), Target(0.55))
    assert row.judged == 0.5
    assert row.met is True


def test_a_target_for_a_value_needs_no_peer() -> None:
    row = Row("memory", "MiB", (16.0,), target=Target(12, Judged.VALUE))
    assert row.met is False


def test_without_a_target_nothing_is_met_or_missed() -> None:
    assert Row("start", "s", (1.0,), (1.0,)).met is None


def test_without_a_number_nothing_is_met_or_missed() -> None:
    assert Row("flush", "s", (), target=Target(3, Judged.VALUE)).met is None


def test_a_row_comes_back_from_json_as_it_was() -> None:
    row = Row(
        "late NVMe",
        "s",
        (0.3, 0.4),
        target=Target(0.5, Judged.VALUE, at_least=True),
        kind=Kind.DETAIL,
        figure="late",
        peer_says="never",
        note="in words",
    )
    assert Row.from_json(row.to_json()) == row


def test_json_has_what_the_numbers_come_to() -> None:
    plain = Row("boot", "s", (1.0, 2.0), (2.0, 8.0), Target(0.55)).to_json()
    assert plain["ratios"] == {"values": [0.5, 0.25], "median": 0.375, "min": 0.25, "max": 0.5}
    assert plain["met"] is True


def test_a_slope_tells_what_a_disk_more_costs() -> None:
    assert slope([(1, 0.51), (8, 0.58), (16, 0.66)]) == pytest.approx(0.01)
