"""The end of all exporting, and whether the disks are safe after it."""

from __future__ import annotations

from collections.abc import Callable

from gadgetd.errors import GadgetdError
from gadgetd.exporter import Exporter
from gadgetd.report import problem_of
from gadgetd.status import Problem


class Stopping:
    """Disconnects the host at once, and takes the gadget down once the disks are flushed.

    Flushing is the caller's. Nothing is raised: what the kernel refuses is in `problem`.
    """

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._then: list[Callable[[], None]] = []
        self._disconnected = True
        self.begun = False
        """Nothing is to be exported, until `end`."""
        self.safely: bool | None = None
        """All that the host wrote is on the disks; None until the gadget is down."""
        self.problem: Problem | None = None

    @property
    def under_way(self) -> bool:
        """Disks are still being flushed."""
        return bool(self._then)

    def begin(self, then: Callable[[], None]) -> bool:
        """Disconnect the host, and have `then` called in the end.

        Returns False if there is no more to do for it: it joins a stop that is under way, or all
        is stopped already. Then nothing new is said either, least of all of a safe board.
        """
        if self.begun and not self.under_way and self.problem is None:
            then()
            return False
        self._then.append(then)
        if len(self._then) > 1:
            return False
        self.begun, self._disconnected, self.problem = True, True, None
        try:
            self._exporter.gadget.disconnect()
        except GadgetdError as error:
            # The host can go on writing, so whatever is flushed now proves nothing.
            self._disconnected = False
            self.problem = problem_of(error)
        return True

    def finish(self) -> list[Callable[[], None]]:
        """Take the gadget down if no disk is being flushed; returns what is to be called then."""
        if not self._then or any(each.flush for each in self._exporter.exports.values()):
            return []
        if self.safely is None:  # Else this is a second stop, of nothing.
            self.safely = self._disconnected and self._exporter.written
        try:
            self._exporter.close()
        except GadgetdError as error:
            self.problem = problem_of(error)
        callbacks, self._then = self._then, []
        return callbacks

    def end(self) -> None:
        """Let disks be exported again; the word of this stop does not hold any more."""
        self.begun, self.safely, self.problem = False, None, None
