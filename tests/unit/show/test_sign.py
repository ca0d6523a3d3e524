"""The one word on HDMI: which it is, that it is no more than is known, and its letters."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.errors import Problem
from gadgetd.show import sign
from gadgetd.show.sign import Sign, sign_of
from gadgetd.status import Controller, DiskStatus, Life, Phase, Status
from tests.unit.statuses import PATIENT, STATUSES, UDC, left_out, nvme, status

HDMI_MD = Path(__file__).parents[3] / "docs/hdmi.md"
COLOURS = {
    "1;31": "red", "1;32": "green", "1;33": "yellow", "1;34": "blue", "1;35": "magenta",
    "1;36": "light cyan", "1;37": "white", "33": "brown", "36": "cyan", "37": "grey",
}  # fmt: skip
"""What a Linux console makes of them."""
WORDS = [each for each in vars(sign).values() if isinstance(each, Sign)]
PROBLEM = Problem("the kernel refused it", "try again")
LOCK = Problem("locked to other boards", "take another image", key="boards")
TYPO = Problem("a pattern is missing", "correct it", line=3, key="boards")
SLEEPS = UDC._replace(state="suspended")
GONE = UDC._replace(state="not attached")


def lives(*given: Life) -> tuple[DiskStatus, ...]:
    return tuple(nvme(number, life=life) for number, life in enumerate(given))


def stopped(*given: Life, safe: bool = False) -> Status:
    return status(*lives(*given), phase=Phase.STOPPED, controller=None, safe_to_unplug=safe)


CASES: list[tuple[Sign, Status]] = [
    (sign.STARTING, status(phase=Phase.STARTING)),
    (sign.STARTING, status(nvme(0), phase=Phase.WAITING_FOR_UDC, controller=None)),
    (sign.ERROR, status(nvme(0), phase=Phase.WAITING_FOR_UDC, problem=PROBLEM)),
    (sign.WAITING, status(left_out(), phase=Phase.WAITING_FOR_DISKS)),
    # Its disk left while others never came.
    (sign.WAITING, status(*lives(Life.GONE), phase=Phase.WAITING_FOR_DISKS)),
    # Only a disk that is not let in yet, as while another host's serial console is in use.
    (sign.WAITING, status(left_out()._replace(waits=True))),
    (sign.NO_HOST, status(nvme(0), controller=GONE)),
    (sign.NO_HOST, status(nvme(0), controller=UDC._replace(state="default"))),
    (sign.NO_HOST, status(nvme(0), controller=None)),
    (sign.SUSPENDED, status(nvme(0), controller=SLEEPS)),
    (sign.READY, status(*lives(Life.IDLE, Life.FLUSHED, Life.GONE))),
    (sign.READY, status(*lives(Life.EJECTED, Life.IDLE))),
    # A disk that waits until it may be added changes nothing about the others.
    (sign.READY, status(nvme(0), left_out()._replace(waits=True))),
    (sign.READY, status(nvme(0), advice=(PROBLEM,))),
    (sign.READING, status(*lives(Life.READING, Life.IDLE))),
    (sign.WRITING, status(*lives(Life.READING, Life.WRITING, Life.FLUSHING))),
    (sign.FLUSHING, status(*lives(Life.READING, Life.FLUSHING))),
    (sign.FLUSHING, status(*lives(Life.EJECTED, Life.EJECTING))),
    # Data that is still in RAM goes before what the host does, or whether there is one.
    (sign.WRITING, status(*lives(Life.WRITING), controller=GONE)),
    (sign.FLUSHING, status(*lives(Life.FLUSHING), controller=SLEEPS)),
    # By force, or after an error: all is out, and it is not known whether all is on the disk.
    (sign.EJECTED, status(*lives(Life.EJECTED, Life.GONE))),
    (sign.EJECTED, status(*lives(Life.EJECTED), controller=SLEEPS)),
    (sign.SAFE, status(*lives(Life.EJECTED), safe_to_unplug=True)),
    (sign.SAFE, status(*lives(Life.EJECTED), controller=SLEEPS, safe_to_unplug=True)),
    (sign.SAFE, stopped(safe=True)),
    # The disks are safe, whatever else could not be taken down.
    (sign.SAFE, stopped(safe=True)._replace(problem=PROBLEM)),
    (sign.STOPPED, stopped()),
    (sign.FLUSHING, stopped(Life.FLUSHED, Life.FLUSHING)),
    (sign.FLUSHING, stopped(Life.WRITING)),
    (sign.ERROR, stopped()._replace(problem=PROBLEM)),
    (sign.ERROR, status(*lives(Life.IDLE, Life.FAILED))),
    (sign.ERROR, status(*lives(Life.WRITING, Life.FAILED))),
    # The kernel would not take it from the host, or it has left, or come back.
    *(
        (sign.ERROR, status(nvme(0), nvme(1, life=life)._replace(data_lost=True)))
        for life in (Life.IDLE, Life.WRITING, Life.FLUSHED, Life.GONE)
    ),
    (sign.ERROR, status(phase=Phase.FAILED)),
    (sign.ERROR, status(phase=Phase.CONFIG_ERROR, problem=PROBLEM)),
    (sign.ERROR, status(phase=Phase.CONFIG_ERROR, problem=TYPO)),
    (sign.LOCKED, status(phase=Phase.CONFIG_ERROR, problem=LOCK)),
]


@pytest.mark.parametrize(("expected", "shown"), CASES)
def test_each_status_has_its_word(expected: Sign, shown: Status) -> None:
    assert sign_of(shown) is expected


def test_each_word_is_reached() -> None:
    assert {expected for expected, _ in CASES} == set(WORDS)


@PATIENT
@given(STATUSES)
def test_safe_is_never_claimed_without_the_statuss_own_word(shown: Status) -> None:
    if sign_of(shown) is sign.SAFE:
        assert shown.safe_to_unplug
        assert not any(row.life is Life.FAILED for row in shown.disks if row.lun is not None)


@PATIENT
@given(STATUSES)
def test_ready_and_reading_mean_a_host_and_nothing_in_ram(shown: Status) -> None:
    if sign_of(shown) in (sign.READY, sign.READING):
        assert shown.phase is Phase.EXPORTED
        assert isinstance(shown.controller, Controller)
        assert shown.controller.state == "configured"
        busy = (Life.WRITING, Life.FLUSHING, Life.EJECTING, Life.FAILED)
        assert not any(row.life in busy for row in shown.disks if row.lun is not None)


def test_the_words_that_matter_differ_in_colour_too() -> None:
    apart = (
        *(sign.STARTING, sign.NO_HOST, sign.READY, sign.WRITING, sign.FLUSHING, sign.SAFE),
        *(sign.ERROR, sign.STOPPED),
    )
    assert len({each.style for each in apart}) == len(apart)
    assert len({each.word for each in WORDS}) == len(WORDS)


def test_the_documentation_has_every_word_and_its_colour() -> None:
    text = HDMI_MD.read_text().partition("\n## ")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line[:2] == "| "]
    told = {row[0].removeprefix("| "): row[1] for row in rows[1:]}
    assert told == {each.word: COLOURS[each.style] for each in WORDS}


# --- the letters ----------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS, ids=lambda each: each.word)
@pytest.mark.parametrize(("columns", "rows"), [(80, 13), (120, 17), (240, 34)])
def test_each_word_stands_whole_and_at_least_five_rows_high(
    word: Sign, columns: int, rows: int
) -> None:
    drawn = sign.letters(word.spellings, columns, rows)
    assert 5 <= len(drawn) <= rows
    widest = max(map(len, drawn))
    assert columns // 2 <= widest <= columns
    assert set("".join(drawn)) <= {" ", sign.FULL, sign.UPPER, sign.LOWER}
    # Nothing of the word is lost: each of its letters has its own shape.
    assert drawn != sign.letters([("READY",)], columns, rows) or word is sign.READY


def test_no_two_letters_look_alike() -> None:
    alphabet = sorted({letter for each in WORDS for letter in each.word} - {" "})
    shapes = [tuple(sign.letters([(letter,)], 60, 5)) for letter in alphabet]
    assert all(one != other for one, other in combinations(shapes, 2))


def test_ready_in_letters() -> None:
    assert sign.letters([("READY",)], 40, 7) == [
        "       ███  ████  ██  ███  █   █",
        "       █  █ █    █  █ █  █  █ █",
        "       ███  ███  ████ █  █   █",
        "       █ █  █    █  █ █  █   █",
        "       █  █ ████ █  █ ███    █",
    ]


def test_higher_letters_have_half_rows() -> None:
    assert sign.letters([("LOW",)], 34, 8) == [
        "  ██          ████    ██      ██",
        "  ██        ▄▄▀▀▀▀▄▄  ██      ██",
        "  ██        ██    ██  ██      ██",
        "  ██        ██    ██  ██  ██  ██",
        "  ██        ██    ██  ██  ██  ██",
        "  ██        ██    ██  ██  ██  ██",
        "  ████████    ████      ██  ██",
        "  ▀▀▀▀▀▀▀▀    ▀▀▀▀      ▀▀  ▀▀",
    ]


@given(st.integers(-3, 300), st.integers(-3, 90), st.sampled_from(WORDS))
def test_letters_never_leave_their_room(columns: int, rows: int, word: Sign) -> None:
    drawn = sign.letters(word.spellings, columns, rows)
    assert len(drawn) <= max(rows, 0)
    assert all(len(line) <= columns for line in drawn)
