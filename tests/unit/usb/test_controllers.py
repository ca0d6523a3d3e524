from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gadgetd.errors import GadgetError
from gadgetd.usb import controllers
from gadgetd.usb.controllers import Udc


@pytest.fixture
def sys_udc(tmp_path: Path) -> Path:
    path = tmp_path / "class/udc"
    path.mkdir(parents=True)
    return path


def add(sys_udc: Path, name: str, **attributes: str) -> Path:
    """Make a controller as sysfs shows it: a class directory and the platform device behind."""
    path, device = sys_udc / name, sys_udc.parent.parent / "devices" / name
    path.mkdir()
    device.mkdir(parents=True)
    (path / "device").symlink_to(device)
    for attribute, text in attributes.items():
        (path / attribute).write_text(f"{text}\n")
    return path


def names(sys_udc: Path) -> list[str]:
    return [each.name for each in controllers.controllers(sys_udc)]


def pick(sys_udc: Path, wanted: str = "", **busy: str) -> tuple[str | None, str]:
    found = controllers.controllers(sys_udc)
    return controllers.bind_first(lambda _: None, wanted, found, busy)


def test_controllers_are_listed_in_natural_order(sys_udc: Path) -> None:
    assert names(sys_udc) == []
    for name in ("dummy_udc.10", "dummy_udc.2", "dummy_udc.1"):
        add(sys_udc, name)
    assert names(sys_udc) == ["dummy_udc.1", "dummy_udc.2", "dummy_udc.10"]
    assert names(sys_udc / "missing") == []


def test_what_a_controller_tells_is_read_without_its_newline(sys_udc: Path) -> None:
    path = add(
        sys_udc,
        "fe980000.usb",
        state="not attached",
        current_speed="UNKNOWN",
        function="gadgetd",
    )
    (controller,) = controllers.controllers(sys_udc)
    assert controller == Udc("fe980000.usb", path)
    assert controllers.current_speed(controller) == "UNKNOWN"
    assert controllers.driver(controller) == "gadgetd"


def test_a_controller_that_is_gone_tells_nothing(sys_udc: Path) -> None:
    gone = Udc("gone", sys_udc / "gone")
    assert controllers.current_speed(gone) == ""
    assert controllers.driver(gone) == ""
    assert not controllers.suspended(gone)
    with pytest.raises(FileNotFoundError):
        controllers.open_state(gone)


@pytest.mark.parametrize("gadget", ["gadget.0", "gadget.1", "gadget"])
def test_suspension_is_found_whatever_the_gadget_device_is_called(
    sys_udc: Path, gadget: str
) -> None:
    add(sys_udc, "dummy_udc.1")
    (controller,) = controllers.controllers(sys_udc)
    assert not controllers.suspended(controller)
    suspended = controller.path / "device" / gadget / "suspended"
    suspended.parent.mkdir()
    for text, is_suspended in (("0\n", False), ("1\n", True)):
        suspended.write_text(text)
        assert controllers.suspended(controller) is is_suspended


def test_the_state_is_read_again_from_one_descriptor(sys_udc: Path) -> None:
    path = add(sys_udc, "dummy_udc.0", state="not attached")
    (controller,) = controllers.controllers(sys_udc)
    descriptor = controllers.open_state(controller)
    try:
        assert controllers.read_state(descriptor) == "not attached"
        assert not os.get_inheritable(descriptor)
        (path / "state").write_text("configured\n")
        assert (
            controllers.read_state(descriptor) == controllers.read_state(descriptor) == "configured"
        )
    finally:
        os.close(descriptor)
    assert controllers.read_state(descriptor) == ""


# Which one, and why.


def test_no_controller_is_told(sys_udc: Path) -> None:
    assert pick(sys_udc) == (None, "no USB device controller")
    assert pick(sys_udc, "a") == (
        None,
        "usb.udc names a, which is not there; there is no USB device controller",
    )


def test_the_only_controller_is_taken(sys_udc: Path) -> None:
    add(sys_udc, "a")
    assert pick(sys_udc) == ("a", "the only controller")
    assert pick(sys_udc, a="camera") == (
        None,
        "no free USB device controller: a is used by gadget camera",
    )


def test_the_first_free_controller_is_taken(sys_udc: Path) -> None:
    for name in ("b", "a", "c"):
        add(sys_udc, name)
    assert pick(sys_udc) == ("a", "first free of a, b, c")
    assert pick(sys_udc, a="camera") == (
        "b",
        "first free of a, b, c (a is used by gadget camera)",
    )


def test_a_named_controller_is_taken_or_none(sys_udc: Path) -> None:
    for name in ("a", "b"):
        add(sys_udc, name)
    assert pick(sys_udc, "b") == ("b", "named by usb.udc")
    assert pick(sys_udc, "b", b="camera") == (
        None,
        "usb.udc names b, which is used by gadget camera",
    )
    assert pick(sys_udc, "c") == (None, "usb.udc names c, which is not there; there is a, b")


def test_a_controller_of_a_gadget_outside_configfs_is_in_use(sys_udc: Path) -> None:
    add(sys_udc, "a", function="g_ether")
    add(sys_udc, "b", function="")
    assert pick(sys_udc) == ("b", "first free of a, b (a is used by gadget g_ether)")


def test_our_own_gadget_does_not_keep_us_from_its_controller(sys_udc: Path) -> None:
    add(sys_udc, "a", function="gadgetd")
    assert pick(sys_udc) == ("a", "the only controller")


# Binding.


def bind_first(
    sys_udc: Path, answers: dict[str, int], wanted: str = "", **busy: str
) -> tuple[str | None, str]:
    """Bind where a controller answers with an errno, 0 for success."""

    def bind(name: str) -> None:
        if answers[name]:
            raise GadgetError(f"no {name}", errno=answers[name])

    return controllers.bind_first(bind, wanted, controllers.controllers(sys_udc), busy)


@pytest.mark.parametrize("answer", [errno.EBUSY, errno.ENODEV])
def test_a_controller_lost_to_another_is_passed_over(sys_udc: Path, answer: int) -> None:
    for name in ("a", "b", "c"):
        add(sys_udc, name)
    assert bind_first(sys_udc, {"b": answer, "c": 0}, a="camera") == (
        "c",
        "first free of a, b, c (a is used by gadget camera, b is refused by the kernel)",
    )


def test_the_first_refusal_is_raised_when_no_controller_is_left(sys_udc: Path) -> None:
    for name in ("a", "b"):
        add(sys_udc, name)
    with pytest.raises(GadgetError, match="no a"):
        bind_first(sys_udc, {"a": errno.EBUSY, "b": errno.EBUSY})
    with pytest.raises(GadgetError, match="no b"):
        bind_first(sys_udc, {"a": 0, "b": errno.EBUSY}, "b")


def test_an_error_that_is_not_about_the_controller_is_raised_at_once(sys_udc: Path) -> None:
    for name in ("a", "b"):
        add(sys_udc, name)
    with pytest.raises(GadgetError, match="no a"):
        bind_first(sys_udc, {"a": errno.EIO, "b": 0})


def test_nothing_is_bound_where_nothing_can_be(sys_udc: Path) -> None:
    assert bind_first(sys_udc, {}) == (None, "no USB device controller")
    add(sys_udc, "a")
    assert bind_first(sys_udc, {}, "b")[0] is None


def test_the_endpoints_of_a_known_driver_are_known_and_of_others_not(sys_udc: Path) -> None:
    for name, driver in (("fe980000.usb", "dwc2"), ("dummy_udc.0", "dummy_udc"), ("gone", "")):
        path = add(sys_udc, name)
        if driver:
            (path / "device" / "driver").symlink_to(f"../../../bus/platform/drivers/{driver}")
    found = {each.name: each for each in controllers.controllers(sys_udc)}
    assert controllers.in_endpoints(found["fe980000.usb"]) == 7
    assert controllers.in_endpoints(found["dummy_udc.0"]) == 4
    assert controllers.in_endpoints(found["gone"]) is None
