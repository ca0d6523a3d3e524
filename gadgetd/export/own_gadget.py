"""Our own gadget as it stands in configfs, and the controller that it is bound to."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from gadgetd.config.settings import AUTO, Usb
from gadgetd.configfs import ConfigFs
from gadgetd.errors import GadgetError
from gadgetd.usb import controllers
from gadgetd.usb.gadget import LUNS_PER_FUNCTION, MOST_FUNCTIONS, NAME, Gadget, Lun, UsbIdentity

_ACM_ENDPOINTS = 2
"""What the serial port takes of a controller's IN endpoints: data, and notifications."""


class OwnGadget:
    """The gadget called gadgetd. Methods raise GadgetError where the kernel refuses a step."""

    def __init__(self, configfs: ConfigFs, sys: Path) -> None:
        self._configfs = configfs
        self._sys = sys
        self.udc = ""
        """The controller the gadget is bound to; empty if it is not."""
        self._why = ""
        self.standing: Gadget | None = None
        """What was last read back."""
        self.luns: frozenset[int] = frozenset()
        """The LUNs that the host can see, empty ones included."""
        self.identity: UsbIdentity | None = None
        """What tells a host that it is ours."""
        self.room = MOST_FUNCTIONS
        """How many mass_storage functions the controller carries, as far as it has refused more."""
        self.before_removal: Callable[[], None] = lambda: None
        """Called when a gadget is off the bus and about to be removed."""

    @property
    def waits(self) -> bool:
        """A write to it has not come to its end."""
        return bool(self._configfs.silent(NAME))

    @property
    def silent(self) -> frozenset[int]:
        """The LUNs of which a write has not come to its end: a command of the host's goes on."""
        names = self._configfs.silent(NAME)
        functions = self.standing.functions if names and self.standing else ()
        stuck = [each for each in functions if each.name in names or NAME in names]
        return frozenset(lun.number for function in stuck for lun in function.luns)

    def on_late(self, call: Callable[[int], None]) -> None:
        """Have `call` called with a descriptor for each write that goes on; see kernelfs."""
        self._configfs.on_late(call)

    def answers(self) -> bool:
        """Tell whether every function is ready to be unbound: none is busy with a command."""
        functions = self.standing.functions if self.standing else ()
        firsts = [function.luns[0].number for function in functions if function.luns]
        return all(self.is_locked(number) is not None for number in firsts)

    def spare(self, wanted: Gadget) -> Gadget:
        """Give what is wanted, with the functions that do not answer as they stand."""
        silent, standing = self.silent, self.standing
        if not silent or standing is None:
            return wanted
        known = {f.name: f for f in standing.functions if silent & {lun.number for lun in f.luns}}
        functions = tuple(known.get(each.name, each) for each in wanted.functions)
        return wanted._replace(functions=functions)

    @property
    def note(self) -> str:
        """Why this controller, or why none, in words; and what the kernel refused to bind there."""
        if not self.udc or self.room == MOST_FUNCTIONS:
            return self._why
        return f"{self._why}; mass_storage functions that it has endpoints for: {self.room}"

    def take_over(self) -> Gadget | None:
        """Mount configfs; give the gadget that an earlier run left bound, and remove others."""
        self._configfs.mount()
        found = None
        for name in self._configfs.leftovers(NAME):
            self._configfs.check_readable(name)
            bound = self._configfs.bound_udc(name)
            standing = self._configfs.read_back(name)
            if name == NAME and bound and standing is not None:
                self.udc, self._why = bound, "taken over from an earlier run"
                self.identity = standing.identity
                found = standing
            else:
                self._configfs.unbind(name)
                self.before_removal()
                self._configfs.teardown(name)
        return found

    def look_at_controller(self) -> None:
        """Notice that the gadget has been unbound, or that its controller has left."""
        self.udc = self._configfs.bound_udc(NAME)
        if self.udc and self.udc not in {each.name for each in self.controllers()}:
            # It has left, but its name stands in the gadget until that is unbound.
            self.disconnect()

    def controllers(self) -> tuple[controllers.Udc, ...]:
        """List the board's USB device controllers."""
        return controllers.controllers(self._sys / "class" / "udc")

    def most_functions(self, usb: Usb) -> int:
        """Tell how many mass_storage functions the disks may be spread over."""
        asked = usb.functions if usb.functions != AUTO else MOST_FUNCTIONS
        named = usb.udc if usb.udc != AUTO else self.udc
        found = (each for each in self.controllers() if named in ("", each.name))
        known = [count for each in found if (count := controllers.in_endpoints(each))]
        room = min(known, default=MOST_FUNCTIONS) - _ACM_ENDPOINTS * usb.acm
        return max(1, min(room, self.room, asked))

    def can_share(self, wanted: Gadget, error: GadgetError) -> bool:
        """Tell whether the gadget may be bound after all if its disks share fewer functions.

        The kernel has one answer for a controller that lacks endpoints and for one that is taken.
        """
        fewer = len(wanted.storage) - 1
        refused = (error.step, error.errno) == ("write UDC", errno.EBUSY)
        # Not fewer than before, if a host would not see all LUNs of so few.
        if not refused or not 0 < fewer < self.room:
            return False
        self.room = fewer
        return True

    @property
    def no_room(self) -> GadgetError:
        """The error that says why there cannot be more functions."""
        return GadgetError(
            f"the controller has endpoints for {self.room} mass_storage functions, and a host sees"
            f" {LUNS_PER_FUNCTION} disks in each",
            hint="fewer disks or slots",
        )

    def forget_room(self) -> None:
        """Begin anew with as many functions as there are LUNs."""
        self.room = MOST_FUNCTIONS

    def read_back(self) -> Gadget | None:
        """Read what stands; None if that is nothing, or not finished."""
        self.standing = self._configfs.read_back(NAME, self.standing)
        return self.standing

    def is_empty(self, number: int) -> bool:
        """Tell whether a LUN is known to have no medium."""
        try:
            return not self._configfs.lun_file(NAME, number)
        except GadgetError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            return False

    @property
    def is_bare(self) -> bool:
        """No LUN that the host can see has a medium, and that is known."""
        try:
            return all(self.is_empty(number) for number in self.luns)
        except GadgetError:
            return False

    def build(self, wanted: Gadget) -> None:
        """Make the whole of `wanted`, where nothing stands. It is not bound yet."""
        self._configfs.build(wanted)
        self.identity = wanted.identity

    def extend(self, wanted: Gadget) -> None:
        """Add what the gadget lacks; a host is disconnected for a moment."""
        self._configfs.extend(wanted)

    def set_lun(self, lun: Lun) -> bool:
        """Make a LUN what is wanted; False if the host has locked the medium."""
        try:
            if lun.file is None:
                # No word of the host's keeps a disk in that we do not hold any more.
                self._force_out(lun.number)
            self._configfs.set_lun(NAME, lun)
        except GadgetError as error:
            if error.errno != errno.EBUSY:
                error.lun = lun.number if error.step.endswith("/file") else -1
                raise
            return False
        return True

    def eject(self, number: int) -> bool:
        """Take the disk out of a LUN; False if the host has locked it."""
        try:
            self._configfs.take_out(NAME, number)
        except GadgetError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def is_locked(self, number: int) -> bool | None:
        """Tell whether the host has locked the medium in a LUN; None if that cannot be told."""
        try:
            return self._configfs.is_locked(NAME, number)
        except GadgetError:
            return None

    def take_out_at_once(self, number: int) -> bool:
        """Take the disk out before the host's next command; False if the kernel refuses that."""
        try:
            self._configfs.force_eject(NAME, number)
        except GadgetError as error:
            return error.errno == errno.ETIMEDOUT
        return True

    def take_out(self, number: int) -> bool:
        """Take the disk out of a LUN, whatever the host says; False if it is out only later.

        No error without such a LUN.
        """
        try:
            self._force_out(number)
        except GadgetError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            return False
        return True

    def _force_out(self, number: int) -> None:
        try:
            self._configfs.force_eject(NAME, number)
        except GadgetError as error:
            if error.errno != errno.ENOENT:
                raise
            # A kernel without that attribute (it came with 6.0), or there is no such LUN.
            standing = self.read_back()
            if standing is not None and number in (lun.number for lun in standing.luns):
                self._configfs.take_out(NAME, number)

    def bind(self, wanted: str) -> bool:
        """Bind to a controller, any if `wanted` is empty; False if there is none: see `note`."""
        others = self._configfs.other_gadgets(NAME)
        busy = {controller: name for name, controller in others.items() if controller}
        chosen, self._why = controllers.bind_first(
            lambda controller: self._configfs.bind(NAME, controller),
            wanted,
            self.controllers(),
            busy,
            NAME,
        )
        self.udc = chosen or ""
        return chosen is not None

    def disconnect(self) -> None:
        """Take the gadget from the host. With ETIMEDOUT it is, and a command of its goes on."""
        self._configfs.unbind(NAME)
        self.udc = ""

    def remove(self) -> None:
        """Take the gadget down, if there is one."""
        try:
            self._configfs.unbind(NAME)
            self.before_removal()
            self._configfs.teardown(NAME)
        finally:
            try:
                self.udc = self._configfs.bound_udc(NAME)
            except GadgetError as error:
                if error.errno != errno.ETIMEDOUT:
                    self.udc = ""
            if not self.udc:
                self.luns = frozenset()
