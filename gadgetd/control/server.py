"""The Unix socket over which the commands of the UART shell speak to the daemon.

A request is one line of JSON, `{"command": "eject", ...}`; so is the reply, which has `ok` and,
where it is false, `error` and `hint`. One request a connection. Only root can open the socket.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from gadgetd.errors import ControlError, GadgetdError
from gadgetd.eventloop import WRITABLE, Loop, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reply = Callable[[dict[str, Any]], None]
    Handler = Callable[[dict[str, Any], Reply], None]
    """Gets the request and answers through the reply, at once or later."""

SOCKET = Path("/run/gadgetd/control")
REQUEST_LIMIT_BYTES = 64 * 1024
PATIENCE_S = 10.0
"""How long the daemon lets a silent connection stay open."""
RETRY_S = 1.0
"""How long after it could not take a connection the daemon tries again."""


class Server:
    """Listens on the socket, inside the loop. A stale socket file is replaced.

    Raises OSError if the socket cannot be made.
    """

    def __init__(self, loop: Loop, handler: Handler, path: Path = SOCKET) -> None:
        self._loop = loop
        self._handler = handler
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It gets its name once it listens: whoever finds it can speak to it.
        nameless = path.with_name(f"{path.name}.new")
        nameless.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # The mode is there from the first moment, not a chmod later.
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(nameless))
        finally:
            os.umask(mask)
        self._socket.listen()
        nameless.rename(path)
        self._retry: Timer | None = None
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening and remove the socket file. Does no harm the second time."""
        if self._retry is not None:
            self._retry.cancel()
        if self._socket.fileno() != -1:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return  # It went away again.
        except OSError:
            # Out of descriptors or memory. It goes on waiting, and poll would tell without end.
            self._loop.unwatch(self._socket.fileno())
            self._retry = self._loop.call_later(RETRY_S, self._watch)
            return
        connection.setblocking(False)
        _Connection(self._loop, connection, self._handler)


class _Connection:
    def __init__(self, loop: Loop, connection: socket.socket, handler: Handler) -> None:
        self._loop = loop
        self._socket = connection
        self._handler = handler
        self._request = b""
        self._answer = b""
        self._patience = loop.call_later(PATIENCE_S, self._close)
        loop.watch(connection.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._request += data
        if not data or len(self._request) > REQUEST_LIMIT_BYTES:
            self._close()
        elif self._request.endswith(b"\n"):
            self._loop.unwatch(self._socket.fileno())
            self._patience.cancel()
            self._handle()

    def _handle(self) -> None:
        import json

        try:
            request = json.loads(self._request)
        except (ValueError, RecursionError) as error:
            self._refuse(f"not JSON: {error}")
            return
        try:
            if not isinstance(request, dict):
                raise ControlError("a request is a JSON object")
            self._handler(request, self._reply)
        except GadgetdError as error:
            self._refuse(error.message, error.hint)
        except ValueError as error:
            self._refuse(f"the daemon failed at it: {error}", "please report it, with: gadgetd log")

    def _refuse(self, message: str, hint: str = "") -> None:
        self._reply({"ok": False, "error": message, "hint": hint})

    def _reply(self, value: dict[str, Any]) -> None:
        import json

        if self._socket.fileno() == -1:
            return  # Whoever asked has gone.
        self._answer = json.dumps(value).encode() + b"\n"
        self._patience = self._loop.call_later(PATIENCE_S, self._close)
        self._loop.watch(self._socket.fileno(), self._write, WRITABLE)

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._answer)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._answer)
        self._answer = self._answer[sent:]
        if not self._answer:
            self._close()

    def _close(self) -> None:
        self._patience.cancel()
        if self._socket.fileno() != -1:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()


def ask(
    request: dict[str, Any], path: Path = SOCKET, timeout_s: float | None = 30.0
) -> dict[str, Any]:
    """Send one request to the daemon and return its reply.

    Raises ControlError if no daemon listens, if it does not answer within `timeout_s` seconds, or
    with the daemon's own sentence if it refuses.
    """
    import json

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        except (TimeoutError, BlockingIOError) as error:
            # The latter is a full queue: so many wait already that the daemon must be busy.
            raise ControlError(
                f"the daemon did not answer within {timeout_s:g} s",
                hint="a disk may be very slow; look at the screen and try again",
            ) from error
        except PermissionError as error:
            raise ControlError("only root may speak to the daemon") from error
        except OSError as error:
            raise ControlError(
                "gadgetd is not running",
                hint="init starts it within a second; if not, run: gadgetd run",
            ) from error
    try:
        reply = json.loads(answer)
    except ValueError as error:
        raise ControlError("the daemon broke off its answer", hint="try again") from error
    if not isinstance(reply, dict):
        raise ControlError("the daemon's answer makes no sense", hint="try again")
    if not reply.get("ok"):
        raise ControlError(str(reply.get("error", "refused")), hint=str(reply.get("hint", "")))
    return reply
