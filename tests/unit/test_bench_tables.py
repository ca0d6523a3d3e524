"""The benchmark's results as they stand in the document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import tables
from bench.row import Judged, Kind, Row, Target
from bench.text import NOTHING, number

DOCUMENT = Path(__file__).parents[2] / "docs/benchmarks.md"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123, "0.0012"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234.4, "1234"),
        (-1.5, "-1.50"),
    ],
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_figure_shows_median_spread_ratio_target_and_verdict() -> None:
    row = Row("boot", "s", (1.0, 1.2, 1.1), (2.0, 2.0, 2.0), Target(0.6))
    line = tables.figures([row]).splitlines()[-1]
    assert line == (
        "| boot | s | **1.10** (1.00 to 1.20) | **2.00** (2.00 to 2.00)"
        " | **0.550** (0.500 to 0.600) | ratio ≤ 0.6 | met |"
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("start", "s", (0.66,), (1.0,), Target(0.55)), "**missed**: 20% above"),
        (Row("start", "s", (9.0,), (1.0,), Target(3.0)), "**missed**: 3.0 times it"),
        (
            Row("read", "MB/s", (9.0,), (10.0,), Target(1.0, at_least=True)),
            "**missed**: 10% below",
        ),
        (Row("resets", "", (2.0,), target=Target(0, Judged.VALUE)), "**missed**: 2.00"),
        (Row("memory", "MiB", (11.0,), target=Target(12, Judged.VALUE)), "met"),
        (Row("stall", "s", (11.0,)), NOTHING),
    ],
)
def test_a_missed_target_is_flagged_with_its_distance(row: Row, said: str) -> None:
    assert tables.verdict(row) == said


def test_what_the_peer_cannot_do_stands_in_words() -> None:
    row = Row("late", "s", (0.4,), target=Target(0.5, Judged.VALUE), peer_says="never")
    assert "| 0.400 | never | - | ≤ 0.5 | met |" in tables.figures([row])


def test_ideas_and_details_have_tables_of_their_own() -> None:
    rows = [
        Row("a figure", "s", (1.0,)),
        Row("an idea", "s", (1.0,), (2.0,), kind=Kind.IDEA),
        Row("a detail", "s", (1.0,), kind=Kind.DETAIL),
        Row("an image", "s", (1.0,), (4.0,), kind=Kind.SHIPPED),
    ]
    assert "an idea" not in tables.figures(rows)
    assert "| an idea | s | 1.00 | 2.00 | 0.500 |" in tables.ideas(rows)
    assert "| a detail | s | 1.00 | - | - |" in tables.details(rows)
    assert "| an image | s | 1.00 | 4.00 | 0.250 |" in tables.shipped(rows)


def test_shares_add_up() -> None:
    said = tables.shares([("imports", 75.0), ("bind", 25.0)], "Step", "ms")
    assert "| imports | 75.0 | 75% |" in said
    assert said.endswith("| all | 100 | |")


def test_what_people_wrote_around_the_markers_stays() -> None:
    document = "why\n<!-- begin figures -->\nold\n<!-- end -->\nbecause\n"
    assert tables.put(document, {"figures": "new \\1"}) == (
        "why\n<!-- begin figures -->\nnew \\1\n<!-- end -->\nbecause\n"
    )


def test_a_part_without_its_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places for 'figures'"):
        tables.put("no markers", {"figures": "new"})


def test_the_document_has_a_place_for_everything_that_a_run_finds() -> None:
    places = re.findall(r"<!-- begin (.*) -->", DOCUMENT.read_text())
    assert sorted(places) == sorted(
        [
            "made",
            "figures",
            "shipped",
            "ideas",
            "details",
            "boot gadgetd",
            "boot peer",
            "imports",
            "steps",
        ]
    )
