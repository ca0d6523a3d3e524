"""The host on the other end of the cable, as a controller's attributes show it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gadgetd.show.snapshot import controller
from gadgetd.usb import controllers
from gadgetd.usb.link import INTERRUPTION_S, Host
from tests.unit.fakes import FakeLoop

UDC = "fe980000.usb"


class Cable:
    """A controller in a sysfs of its own, and a Host that follows it."""

    def __init__(self, sys_udc: Path) -> None:
        self.sys_udc = sys_udc
        self.loop = FakeLoop()
        self.heard: list[str] = []
        self.add(UDC)
        self.host = Host(
            self.loop,
            lambda: controllers.controllers(sys_udc),
            arrived=lambda: self.heard.append("arrived"),
            left=lambda: self.heard.append("left"),
            changed=lambda: self.heard.append("changed"),
        )

    def add(self, name: str, state: str = "not attached") -> None:
        (self.sys_udc / name).mkdir()
        self.set(state, name)
        (self.sys_udc / name / "current_speed").write_text("high-speed\n")

    def set(self, state: str, name: str = UDC) -> None:
        (self.sys_udc / name / "state").write_text(f"{state}\n")

    def goes(self, *states: str) -> list[str]:
        """Take the controller through states, and tell what was heard meanwhile."""
        self.heard.clear()
        for state in states:
            self.set(state)
            self.loop.settle()
        return self.heard


@pytest.fixture
def cable(tmp_path: Path) -> Cable:
    made = Cable(tmp_path)
    made.host.follow(UDC)
    return made


ENUMERATION = ("powered", "default", "addressed", "configured")


def test_a_host_arrives_when_it_has_set_the_gadget_up(cable: Cable) -> None:
    assert cable.goes("powered", "default", "addressed").count("arrived") == 0
    assert not cable.host.ready
    assert cable.goes("configured") == ["arrived", "changed"]
    assert cable.host.ready
    assert cable.host.awake


def test_a_host_that_is_there_already_has_arrived(tmp_path: Path) -> None:
    cable = Cable(tmp_path)
    cable.set("configured")
    cable.host.follow(UDC)
    assert cable.heard == ["arrived", "changed"]


def test_a_host_leaves_when_the_cable_is_pulled(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    assert cable.goes("not attached") == ["left", "changed"]
    assert not cable.host.ready


def test_a_host_that_sleeps_has_not_left_and_need_not_arrive_again(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    assert cable.goes("suspended") == ["changed"]
    assert cable.host.ready
    assert not cable.host.awake
    assert cable.goes("configured") == ["changed"]


def test_a_host_that_resets_is_counted_and_a_cable_that_is_plugged_anew_is_not(
    cable: Cable,
) -> None:
    cable.goes(*ENUMERATION)
    assert cable.host.link.interruptions == 0
    for count in (1, 2):
        cable.goes("default", "addressed", "configured")
        assert cable.host.link.interruptions == count
    cable.goes("not attached", *ENUMERATION)
    cable.goes("not attached", "default", "addressed", "configured")
    assert cable.host.link.interruptions == 0


@pytest.mark.parametrize("state", ["not attached", "attached", "powered"])
def test_resets_are_of_one_cable_and_one_host(cable: Cable, state: str) -> None:
    cable.goes(*ENUMERATION, "default", "configured")
    assert cable.host.link.interruptions == 1
    cable.goes(state)
    assert cable.host.link.interruptions == 0


@pytest.mark.parametrize("began", [True, False])
def test_a_cable_that_was_out_for_a_while_is_no_reset_though_the_state_stays_at_default(
    cable: Cable,
    began: bool,
) -> None:
    # usbip-vudc tells of a pulled cable by `default`; see docs/kernel.md.
    cable.goes(*ENUMERATION, "default", "configured")
    assert cable.host.link.interruptions == 1
    cable.goes("default")
    cable.loop.run_for(INTERRUPTION_S + 0.1)
    assert cable.host.link.interruptions == 0
    cable.goes(*(("addressed", "configured") if began else ("configured",)))
    assert cable.host.link.interruptions == 0
    cable.goes("default", "configured")
    assert cable.host.link.interruptions == 1


def test_what_we_did_to_the_host_ourselves_is_no_reset(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    cable.host.expect_anew()
    assert "arrived" in cable.goes("default", "addressed", "configured")
    assert cable.host.link.interruptions == 0
    cable.goes("default", "configured")
    assert cable.host.link.interruptions == 1


def test_a_state_of_before_the_gadget_was_bound_makes_no_reset_of_the_first_connection(
    tmp_path: Path,
) -> None:
    # dummy_udc keeps `configured` over an unbind; see docs/kernel.md.
    cable = Cable(tmp_path)
    cable.set("configured")
    cable.host.follow(UDC)
    cable.goes("default", "addressed", "configured")
    assert cable.host.link.interruptions == 0
    cable.goes("default", "addressed", "configured")
    assert cable.host.link.interruptions == 1


def test_how_long_a_state_has_lasted_is_told(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    cable.loop.run_for(7)
    assert cable.host.link.for_s == pytest.approx(7, abs=0.1)


def test_a_sleep_that_the_state_does_not_tell_is_seen_in_the_gadget(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    gadget = cable.sys_udc / UDC / "device" / "gadget.0"
    gadget.mkdir(parents=True)
    (gadget / "suspended").write_text("1\n")
    cable.host.refresh()
    assert cable.host.link.state == "suspended"
    # What is shown above the advice must not say otherwise.
    shown = controller(cable.host.link, "")
    assert shown is not None
    assert shown.state == "suspended"
    (gadget / "suspended").write_text("0\n")
    cable.host.refresh()
    assert cable.host.link.state == "configured"


def test_the_controller_is_shown_as_it_is(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    cable.host.refresh()
    shown = controller(cable.host.link, "the only controller")
    assert shown is not None
    assert (shown.name, shown.state, shown.speed, shown.note) == (
        UDC,
        "configured",
        "high-speed",
        "the only controller",
    )


def test_following_none_watches_nothing(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    cable.heard.clear()
    cable.host.follow("")
    assert cable.heard == ["left", "changed"]
    assert cable.loop.watched == set()
    assert controller(cable.host.link, "") is None


def test_following_another_controller_leaves_the_first(cable: Cable) -> None:
    cable.add("dummy_udc.1", "configured")
    cable.host.follow("dummy_udc.1")
    assert len(cable.loop.watched) == 1
    assert cable.heard[-2:] == ["arrived", "changed"]
    assert cable.goes("configured") == []  # that is the first one


def test_following_the_same_controller_again_changes_nothing(cable: Cable) -> None:
    cable.goes(*ENUMERATION)
    cable.heard.clear()
    cable.host.follow(UDC)
    assert cable.heard == []


def test_a_controller_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    cable = Cable(tmp_path)
    cable.host.follow("fe990000.usb")
    assert cable.host.state == ""
    assert controller(cable.host.link, "") is None
    assert cable.host.link.speed == ""


def test_a_controller_that_has_gone_is_not_polled_for_ever(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel reports POLLPRI and POLLERR without end on an attribute that is gone.
    cable.goes(*ENUMERATION)
    monkeypatch.setattr(controllers, "read_state", lambda _: "")
    assert cable.goes("gone") == ["left", "changed"]
    assert cable.loop.watched == set()


def test_a_controller_that_went_and_came_back_is_watched_again(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    cable.goes(*ENUMERATION)
    with monkeypatch.context() as patch:
        patch.setattr(controllers, "read_state", lambda _: "")
        shutil.rmtree(cable.sys_udc / UDC)
        cable.host.follow(UDC)
        cable.host._look()
    cable.host.follow(UDC)  # It is not back yet.
    cable.add(UDC)
    cable.host.follow(UDC)
    assert "arrived" in cable.goes(*ENUMERATION)


def test_a_state_whose_event_has_not_been_heard_yet_is_seen_when_it_is_followed_again(
    cable: Cable,
) -> None:
    cable.heard.clear()
    cable.set("configured")
    cable.host.follow(UDC)
    assert cable.host.ready
    assert cable.heard == ["arrived", "changed"]
