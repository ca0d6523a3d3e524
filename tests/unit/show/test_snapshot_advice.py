"""What is wrong, in words, with what to do about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.show.snapshot import PATIENCE_S, about_link
from gadgetd.usb.link import Link

STATES = ["", "not attached", "attached", "powered", "default", "addressed", "configured"]


def said(
    state: str,
    *,
    speed: str = "high-speed",
    for_s: float = 60.0,
    resets: int = 0,
    touched: bool = False,
) -> str:
    link = Link(state, speed, for_s, resets, touched)
    return "; ".join(problem.message for problem in about_link(link))


def test_a_host_that_uses_the_disks_is_no_problem() -> None:
    assert said("configured", touched=True) == ""


@pytest.mark.parametrize("state", ["not attached", "attached", ""])
def test_no_cable_is_said_once_it_lasts(state: str) -> None:
    assert said(state, for_s=PATIENCE_S - 0.1) == ""
    assert "no host" in said(state, for_s=PATIENCE_S)


@pytest.mark.parametrize("speed", ["full-speed", "low-speed"])
def test_a_slow_link_is_said_at_once(speed: str) -> None:
    assert f"the link is {speed} only" in said("configured", speed=speed, for_s=0, touched=True)


@pytest.mark.parametrize("speed", ["high-speed", "super-speed", "super-speed-plus", "UNKNOWN", ""])
def test_a_fast_or_unknown_link_is_not_called_slow(speed: str) -> None:
    assert said("configured", speed=speed, touched=True) == ""


def test_disks_that_no_host_opens_are_said_once_it_lasts() -> None:
    assert said("configured", for_s=PATIENCE_S - 0.1) == ""
    assert "has not opened any" in said("configured", for_s=PATIENCE_S)


def test_a_host_that_sleeps_is_said() -> None:
    assert said("suspended", for_s=0) == "the host has suspended this board"


@pytest.mark.parametrize("state", ["powered", "default", "addressed", "reconnecting"])
def test_a_host_that_does_not_get_on_is_said_once_it_lasts(state: str) -> None:
    assert said(state, for_s=PATIENCE_S - 0.1) == ""
    assert f"state: {state}" in said(state, for_s=PATIENCE_S)


def test_resets_are_counted_in_words() -> None:
    assert said("configured", resets=1, touched=True).endswith("has reset the connection once")
    assert said("configured", resets=3, touched=True).endswith("has reset the connection 3 times")


@given(
    st.builds(
        Link,
        st.sampled_from(STATES) | st.text(),
        st.text(),
        st.floats(0, 1e9),
        st.integers(0, 9),
        st.booleans(),
    )
)
def test_every_advice_says_what_to_do(link: Link) -> None:
    for problem in about_link(link):
        assert problem.message
        assert problem.hint
