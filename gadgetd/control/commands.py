"""What the daemon answers to the commands that come over its socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gadgetd.errors import ControlError, GadgetError
from gadgetd.export.outcome import Waits
from gadgetd.status import Life, Phase, find_disk, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gadgetd.control.server import Reply
    from gadgetd.daemon import Daemon
    from gadgetd.export.drive import Drive

    Request = dict[str, Any]

HEALTH_AGE_S = 10.0
"""What a disk has told so lately is good enough for who asks for the status."""


class Commands:
    """Handles requests of the shape that server.py describes. Raises ControlError to refuse.

    `log` are the events so far, a line each.
    """

    def __init__(self, daemon: Daemon, log: Iterable[str]) -> None:
        self._daemon = daemon
        self._events = log
        self._table: dict[str, Callable[[Request, Reply], None]] = {
            "status": self._status,
            "log": self._log,
            "eject": self._eject,
            "insert": self._insert,
            "attach": self._attach,
            "hash": self._hash,
            "stop": self._stop,
            "start": self._start,
            "reload": self._reload,
        }

    def handle(self, request: Request, reply: Reply) -> None:
        """Carry out one request; the reply is called now or once it is done."""
        command = self._table.get(str(request.get("command")))
        if command is None:
            known = ", ".join(sorted(self._table))
            raise ControlError("unknown command", hint=f"the daemon knows {known}")
        command(request, reply)

    def _status(self, _request: Request, reply: Reply) -> None:
        reply({"ok": True, "status": to_json(self._daemon.status)})
        self._daemon.checkups.ask(HEALTH_AGE_S)

    def _log(self, _request: Request, reply: Reply) -> None:
        reply({"ok": True, "lines": list(self._events)})

    def _eject(self, request: Request, reply: Reply) -> None:
        drive = self._find(request)
        if not drive.inserted:
            raise ControlError(f"{drive.name} is not with the host: {drive.life}")

        def over(error: GadgetError | None) -> None:
            if error is not None:
                reply({"ok": False, "error": error.message, "hint": error.hint})
            else:
                reply({"ok": True, "torn": True} if drive.torn else {"ok": True})

        self._daemon.by_hand.eject(drive, force=bool(request.get("force")), then=over)

    def _insert(self, request: Request, reply: Reply) -> None:
        drive = self._find(request)
        if self._daemon.shutdown.stop.under_way:
            raise ControlError("it is stopping", hint="wait a moment, then: gadgetd start")
        if not drive.ejected:
            raise ControlError(f"{drive.name} cannot be inserted: it was not ejected")
        if drive.life is Life.EJECTING:
            hint = "wait for the flush"
            raise ControlError(f"{drive.name} cannot be inserted: it is {drive.life}", hint=hint)
        self._daemon.by_hand.insert(drive)
        reply({"ok": True})

    def _attach(self, request: Request, reply: Reply) -> None:
        """Make a change that waits; without `confirmed`, say only what it takes from the host."""
        if self._daemon.outcome.waits is not Waits.IDLE:
            raise ControlError("nothing waits for the host to let go of the disks")
        with_host = [drive.name for drive in self._daemon.drives if drive.inserted]
        if request.get("confirmed"):
            with self._daemon.reconnect.forced():
                self._daemon.reconcile()
        reply({"ok": True, "disks": with_host, "status": to_json(self._daemon.status)})

    def _hash(self, request: Request, reply: Reply) -> None:
        """Note that the client will read the disk; it does the hashing."""
        try:
            self._daemon.board_reads.begin(self._find(request), int(request["pid"]))
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ControlError("there is no such process") from error
        reply({"ok": True})

    def _stop(self, _request: Request, reply: Reply) -> None:
        stop = self._daemon.shutdown.stop
        if stop.begun and not stop.under_way and stop.error is None:
            raise ControlError("nothing is exported: it is stopped already")
        self._daemon.stop(
            lambda: reply(
                {
                    "ok": True,
                    "safe": self._daemon.status.safe_to_unplug,
                    "flushed": self._daemon.shutdown.stop.flushed,
                }
                | self._refused()
            )
        )

    def _refused(self) -> dict[str, str]:
        error = self._daemon.shutdown.stop.error
        return {"refused": self._daemon.status.message} if error is not None else {}

    def _start(self, request: Request, reply: Reply) -> None:
        if self._daemon.status.phase is Phase.CONFIG_ERROR:
            self._reload(request, reply)  # Somebody has corrected the file, and wants to go on.
            return
        if self._daemon.status.phase is not Phase.STOPPED:
            raise ControlError("it is not stopped", hint="to read the file again: gadgetd reload")
        if self._daemon.shutdown.stop.under_way:
            raise ControlError(
                "it is still stopping", hint="disks are being flushed; wait a moment"
            )
        self._daemon.resume()
        reply({"ok": True, "status": to_json(self._daemon.status)})

    def _reload(self, _request: Request, reply: Reply) -> None:
        self._daemon.reload(lambda: reply({"ok": True, "status": to_json(self._daemon.status)}))

    def _find(self, request: Request) -> Drive:
        drives = self._daemon.drives
        try:
            row = find_disk((drive.to_status() for drive in drives), str(request.get("disk", "")))
        except ControlError as error:
            if self._daemon.status.phase is Phase.STOPPED:
                raise ControlError(self._daemon.status.message) from error
            raise
        return next(drive for drive in drives if drive.number == row.lun)
