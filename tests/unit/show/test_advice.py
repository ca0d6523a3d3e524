"""What is wrong, in words, with what to do about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.show.advice import PATIENCE_S, about_link
from gadgetd.usb.link import Link

STATES = ["", "not attached", "attached", "powered", "default", "addressed", "configured"]


def said(
    state: str,
    *,
    speed: str = "high-speed",
    for_s: float = 60.0,
    interruptions: int = 0,
    touched: bool = False,
) -> str:
    link = Link(state, speed, for_s, interruptions)
    return "; ".join(problem.message for problem in about_link(link, touched=touched))


def test_a_host_that_uses_the_disks_is_no_problem() -> None:
    assert said("configured", touched=True) == ""


@pytest.mark.parametrize("state", ["not attached", ""])
def test_no_cable_is_said_once_it_lasts(state: str) -> None:
    assert said(state, for_s=PATIENCE_S - 0.1) == ""
    assert said(state, for_s=PATIENCE_S).startswith("no host")


@pytest.mark.parametrize("speed", ["full-speed", "low-speed"])
def test_a_slow_link_is_said_at_once(speed: str) -> None:
    assert f"the link is {speed} only" in said("configured", speed=speed, for_s=0, touched=True)


@pytest.mark.parametrize("speed", ["high-speed", "super-speed", "super-speed-plus", "UNKNOWN", ""])
def test_a_fast_or_unknown_link_is_not_called_slow(speed: str) -> None:
    assert said("configured", speed=speed, touched=True) == ""


def test_disks_that_no_host_opens_are_said_once_it_lasts() -> None:
    assert said("configured", for_s=PATIENCE_S - 0.1) == ""
    assert "has not opened any" in said("configured", for_s=PATIENCE_S)


def test_a_suspend_is_a_host_that_sleeps_or_a_cable_that_is_out() -> None:
    # dwc2 tells of a pulled cable by nothing but the bus at rest; see docs/kernel.md.
    words = "suspended: the host is asleep, or the cable is out"
    assert said("suspended", for_s=0) == words


@pytest.mark.parametrize("state", ["attached", "powered", "default", "addressed", "reconnecting"])
def test_a_board_that_no_host_sets_up_blames_nothing_that_may_be_fine(state: str) -> None:
    assert said(state, for_s=PATIENCE_S - 0.1) == ""
    # usbip-vudc stays at `default` when the cable is pulled.
    (problem,) = about_link(Link(state, "high-speed", PATIENCE_S), touched=False)
    assert problem.message == (
        f"no host has set this board up (state: {state}):"
        " the cable may be out, or the PC off or asleep"
    )
    assert problem.hint.startswith("plug the cable in, wake the PC;")


def test_interruptions_are_counted_in_words() -> None:
    once = said("configured", interruptions=1, touched=True)
    assert once == "the connection was interrupted once"
    thrice = said("configured", interruptions=3, touched=True)
    assert thrice == "the connection was interrupted 3 times"


@given(
    st.builds(
        Link,
        st.sampled_from(STATES) | st.text(),
        st.text(),
        st.floats(0, 1e9),
        st.integers(0, 9),
    ),
    st.booleans(),
)
def test_every_advice_says_what_to_do(link: Link, touched: bool) -> None:
    for problem in about_link(link, touched=touched):
        assert problem.message
        assert problem.hint
