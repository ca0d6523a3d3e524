"""Finds and reads the USB device controllers (UDCs), and says which one to use and why."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gadgetd import sysfs
from gadgetd.errors import GadgetError
from gadgetd.frozen import Frozen
from gadgetd.sysfs import natural_key
from gadgetd.usb.gadget import NAME

SYS_UDC = Path("/sys/class/udc")

_TAKEN = (errno.EBUSY, errno.ENODEV)

_IN_ENDPOINTS = {"dwc2": 7, "dummy_udc": 4}
"""By driver, where the kernel binds too much without a word. dwc2 gives each its transmit FIFO only
when a host sets the gadget up (source: dwc2_hsotg_ep_enable in drivers/usb/dwc2/gadget.c), and
dwc2-overlay.dts of raspberrypi/linux has seven of them. dummy_udc binds nine functions, and a host
finds no disk in the fifth and the sixth (measured on Debian's 6.1)."""


class Udc(Frozen):
    """A USB device controller. What changes is read by the functions below."""

    name: str
    """As it is written into a gadget's UDC: `fe980000.usb`."""
    path: Path
    """Its directory below /sys/class/udc."""


def controllers(sys_udc: Path = SYS_UDC) -> tuple[Udc, ...]:
    """List the controllers in natural order; none if the kernel has none."""
    try:
        names = os.listdir(sys_udc)  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return ()
    return tuple(Udc(name, sys_udc / name) for name in sorted(names, key=natural_key))


def current_speed(udc: Udc) -> str:
    """Tell the speed of the link: `high-speed`, `full-speed`; `UNKNOWN` without one."""
    return _read(udc.path / "current_speed")


def driver(udc: Udc) -> str:
    """Tell what the controller is used by, of configfs or not; empty if it is free.

    For a gadget of configfs that is the gadget's name.
    """
    return _read(udc.path / "function")


def in_endpoints(udc: Udc) -> int | None:
    """Tell how many IN endpoints a controller has beside endpoint 0; None if that is not known."""
    try:
        driver = os.readlink(udc.path / "device" / "driver")  # noqa: PTH115 - as above
    except OSError:
        return None
    return _IN_ENDPOINTS.get(driver.rpartition("/")[2])


def suspended(udc: Udc) -> bool:
    """Tell whether the host has suspended the gadget; False if none is bound."""
    # The device is called gadget.0 on the first controller, gadget.1 on the second.
    try:
        names = os.listdir(udc.path / "device")  # noqa: PTH208 - as above
    except OSError:
        return False  # The controller has left while we looked.
    gadgets = (name for name in names if name.startswith("gadget"))
    return any(_read(udc.path / "device" / name / "suspended") == "1" for name in gadgets)


def open_state(udc: Udc) -> int:
    """Open the state for `poll`, which reports POLLPRI at each change; see `read_state`.

    Raises OSError if the controller is gone. Source: sysfs_notify in the kernel's udc/core.c.
    """
    return os.open(udc.path / "state", os.O_RDONLY | os.O_CLOEXEC)


def read_state(descriptor: int) -> str:
    """Read the state, `not attached` or `configured`, which also arms the next POLLPRI.

    It is empty if the controller is gone. Some drivers leave it at `configured` after an unbind:
    believe it only of a bound gadget.
    """
    try:
        return os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
    except OSError:
        return ""


def bind_first(
    bind: Callable[[str], None],
    wanted: str,
    found: Sequence[Udc],
    busy: Mapping[str, str],
    ours: str = NAME,
) -> tuple[str | None, str]:
    """Bind to a controller and say why that one; None and why none can be had.

    `wanted` is a controller's name; empty for the first that is free. `busy` maps the name of a
    controller to what uses it. What the kernel says of a controller counts too, unless it is our
    own gadget `ours`. If `bind` is refused, the next is tried: so nothing is lost to another
    process that takes a controller meanwhile. Raises the GadgetError of `bind` if it is not about
    the controller, or if no other is left.
    """
    refused: list[str] = []
    refusal: GadgetError | None = None
    while True:
        name, note = _choose(wanted, found, busy, ours, refused)
        if name is None:
            if refusal is not None:
                raise refusal
            return None, note
        try:
            bind(name)
        except GadgetError as error:
            if error.errno not in _TAKEN:
                raise
            refusal = refusal or error
            refused.append(name)
        else:
            return name, note


def _choose(
    wanted: str, found: Sequence[Udc], busy: Mapping[str, str], ours: str, refused: Sequence[str]
) -> tuple[str | None, str]:
    names = [udc.name for udc in found]
    gadgets = {udc.name: used for udc in found if (used := driver(udc)) and used != ours}
    users = dict.fromkeys(refused, "refused by the kernel")
    users |= {name: f"used by gadget {user}" for name, user in (gadgets | dict(busy)).items()}
    listed = ", ".join(names)
    if wanted:
        if wanted not in names:
            there = f"there is {listed}" if names else "there is no USB device controller"
            return None, f"usb.udc names {wanted}, which is not there; {there}"
        if wanted in users:
            return None, f"usb.udc names {wanted}, which is {users[wanted]}"
        return wanted, "named by usb.udc"
    if not names:
        return None, "no USB device controller"
    taken = ", ".join(f"{name} is {users[name]}" for name in names if name in users)
    free = [name for name in names if name not in users]
    if not free:
        return None, f"no free USB device controller: {taken}"
    if len(names) == 1:
        return free[0], "the only controller"
    return free[0], f"first free of {listed}" + (f" ({taken})" if taken else "")


def _read(path: Path) -> str:
    try:
        return sysfs.read(path).strip()
    except OSError:
        return ""
