"""What the kernel refused and would refuse again: a change of the gadget, disks it cannot open.

The first refusal may be bad luck, so it takes two. After that nothing is tried until `clear`,
because each try disconnects the host, or keeps the other disks from it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gadgetd.disks.disk import Disk, Verdict
from gadgetd.errors import GadgetError
from gadgetd.eventloop import Clock
from gadgetd.export.numbering import identity
from gadgetd.usb.gadget import Gadget, compare, shape

PAUSE_S = 5.0
"""Between the two tries, in seconds: what fails twice within a moment may work in the next."""
REFUSED_S = 60.0
"""After which it is tried again if there is no host: none takes so long to set a gadget up."""


class RefusedChange:
    """A change for which the host was disconnected, in vain. Times are the loop's clock."""

    def __init__(self, clock: Clock) -> None:
        self.error: GadgetError | None = None
        """The kernel's answer; None if there is no such change."""
        self._clock = clock
        self._shape: tuple[object, ...] = ()
        self._times = 0
        self._since = 0.0

    def covers(self, wanted: Gadget) -> bool:
        """Whether the change that leads to this gadget is not to be tried, or not yet."""
        if self.error is None or self._shape != shape(wanted):
            return False
        return self._times > 1 or self._clock() < self._since + PAUSE_S

    def refuse(self, wanted: Gadget, error: GadgetError) -> None:
        """Count a refusal."""
        self._times = self._times + 1 if self._shape == shape(wanted) else 1
        self.error, self._shape, self._since = error, shape(wanted), self._clock()

    def rule_out(self, wanted: Gadget, error: GadgetError) -> None:
        """Note a change that is known to be refused, so that it is not even tried."""
        self.refuse(wanted, error)
        self._times = 2

    def changed(self, wanted: Gadget, standing: Gadget | None) -> None:
        """Note that nothing was refused. If what stands is another gadget, that counts as if."""
        left = compare(standing, wanted)
        if left.rebuild or left.extend:
            hint = "gadgetd and this kernel disagree; please report it"
            self.refuse(wanted, GadgetError("the gadget is not what was built", hint=hint))
        else:
            self.clear()

    def clear(self) -> None:
        """Give it another chance."""
        self.error, self._shape, self._times = None, (), 0


class Unusable:
    """Disks that the gadget cannot open, remembered while they are there."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[object, ...], list[str]] = {}
        """The reasons for each disk, in turn."""

    def __bool__(self) -> bool:
        """Whether a disk is left out."""
        return any(len(reasons) > 1 for reasons in self._refusals.values())

    def refuse(self, disk: Disk, reason: str) -> bool:
        """Count a refusal; returns whether the disk is left out from now on."""
        reasons = self._refusals.setdefault(identify(disk), [])
        reasons.append(reason)
        return len(reasons) > 1

    def clear(self) -> None:
        """Give all of them another chance."""
        self._refusals.clear()

    def judge(self, verdicts: Iterable[Verdict]) -> list[Verdict]:
        """Return the verdicts anew, and forget the disks that are not among them any more."""
        known = {identify(verdict.disk): verdict for verdict in verdicts}
        self._refusals = {who: why for who, why in self._refusals.items() if who in known}
        for who, reasons in self._refusals.items():
            if len(reasons) > 1 and known[who].exported:
                known[who] = known[who]._replace(exported=False, reason=reasons[-1])
        return list(known.values())


def identify(disk: Disk) -> tuple[object, ...]:
    """Give what two looks at the same disk have in common.

    Under another kernel name it is held under the old one, so it is another. With another size
    too: the gadget reads the size when it opens the disk.
    """
    return disk.name, identity(disk), disk.size_bytes
