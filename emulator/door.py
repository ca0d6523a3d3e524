"""The USB host's shell for other programs: a Unix socket in the directory of a board that runs.

The session that runs the board opens the door; `make host` in a second terminal goes through it.
Each request and each answer is one line of JSON.
"""

import contextlib
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emulator import cache
from emulator.cache import say
from emulator.errors import EmulatorError
from emulator.shell import HostShell

NAME = "host"
ABOUT = "about"  # beside it, for people: which board this is
PATIENCE_S = 5  # then a person wants to know what is waited for
TRY_THIS = """\
Commands for the USB host of the emulated board. Each line is a shell of its own.
  cat /proc/partitions        the board's disks are sda, sdb, ...
  dd if=/dev/urandom of=/dev/sda bs=1M count=8 conv=fsync
  eject                       all of the board's disks; or: eject /dev/sda
Ctrl-D ends."""


@contextlib.contextmanager
def opened(host: HostShell, directory: Path, about: str = "") -> Iterator[None]:
    """Let other programs give the host commands; they take turns with one another and with us.

    `about` says in a few words which board it is the host of, for people who have several.
    """
    (directory / ABOUT).write_text(about)
    with contextlib.ExitStack() as stack:
        server = _Server(stack.enter_context(_short(directory)), host)
        stack.callback((directory / NAME).unlink, missing_ok=True)
        stack.callback(server.server_close)
        threading.Thread(target=server.serve_forever, name="door", daemon=True).start()
        stack.callback(server.shutdown)
        yield


def run(words: Sequence[str], limit_s: float, board: str = "") -> int:
    """Have the host of the board that runs run a command; returns its exit status.

    The words are joined by spaces, as ssh does it. Without any, commands are read from stdin, a
    line each. `board` is the number of one of several, or enough of it to tell it from the others.
    Raises EmulatorError if there is no such board, or more than one, or if the command takes over
    `limit_s` seconds.
    """
    with visit(board) as connection:
        if words:
            status, said = connection.run(" ".join(words), limit_s)
            sys.stdout.write(said)
            return status
        return _converse(connection, limit_s)


def visit(board: str = "") -> "Visit":
    """A connection to the host of the board that is meant. Raises EmulatorError as `run` does."""
    return Visit(_chosen(board))


class Visit:
    """A connection to a board's door."""

    def __init__(self, directory: Path) -> None:
        """Connect. Raises EmulatorError if nobody is behind the door of this directory."""
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            with _short(directory) as path:
                self._connection.connect(path)
        except OSError as error:
            self._connection.close()
            raise _nobody() from error
        self._answers = self._connection.makefile("rb")

    def __enter__(self) -> "Visit":
        """The open connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up; a command that runs goes on."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._connection.close()

    def run(self, command: str, limit_s: float) -> tuple[int, str]:
        """Run a shell command; returns its exit status and what it said, as HostShell.run does."""
        request = json.dumps({"command": command, "limit_s": limit_s}) + "\n"
        patience = threading.Timer(
            PATIENCE_S, say, ["not done yet: waiting (Ctrl-C gives up; the command itself goes on)"]
        )
        patience.daemon = True
        try:
            self._connection.sendall(request.encode())
            patience.start()
            line = self._answers.readline()
        except OSError:
            line = b""
        finally:
            patience.cancel()
        if not line:
            raise EmulatorError("the board has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EmulatorError(answer["error"])
        return answer["status"], answer["said"]


class _Server(socketserver.ThreadingUnixStreamServer):
    """Gives every visitor a thread."""

    daemon_threads = True

    def __init__(self, path: str, host: HostShell) -> None:
        """Listen at `path`."""
        self.host = host
        super().__init__(path, _Visitor)


class _Visitor(socketserver.StreamRequestHandler):
    """Answers one visitor's requests until it hangs up."""

    server: _Server

    def handle(self) -> None:
        """Serve each line."""
        with contextlib.suppress(OSError):  # it has gone without waiting for the answer
            for line in self.rfile:
                self.wfile.write(json.dumps(self._answer(json.loads(line))).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, object]:
        """What the host says to one request."""
        try:
            status, said = self.server.host.run(request["command"], request["limit_s"])
        except EmulatorError as error:
            return {"error": str(error)}
        return {"status": status, "said": said}


def _converse(connection: Visit, limit_s: float) -> int:
    """Run the lines of stdin one after the other; returns the last one's exit status."""
    status = 0
    person = sys.stdin.isatty()
    if person:
        import readline  # noqa: F401 - input() then edits and remembers lines

        print(TRY_THIS)
    while True:
        try:
            command = input("host# " if person else "")
        except EOFError:
            return status
        if not command.strip():
            continue
        if person and command.strip() == "exit":
            return status
        try:
            status, said = connection.run(command, limit_s)
        except EmulatorError as error:
            status, said = 1, f"emulator: {error}\n"
        print(said, end="", flush=True)


def number(directory: Path) -> str:
    """What people call the board with this run directory: the process that runs it."""
    return directory.name.partition("-")[0]


def _chosen(board: str) -> Path:
    """The directory of the one running board that is meant. Raises EmulatorError without one."""
    runs = [
        run
        for run in cache.directory("run").iterdir()
        if (run / NAME).is_socket() and Path("/proc", number(run)).exists()
    ]
    if not runs:
        raise _nobody()
    meant = [run for run in runs if number(run) == board or run.name == board]
    meant = meant or [run for run in runs if run.name.startswith(board)]
    if len(meant) == 1:
        return meant[0]
    which = "these boards run" if meant else f"no board {board} runs; there is"
    listed = "".join(f"\n  {_line(run)}" for run in sorted(meant or runs, key=_started))
    raise EmulatorError(
        f"{which}{listed}", hint="choose one: make host BOARD=NUMBER, and ARGS as before"
    )


def _line(run: Path) -> str:
    """A board in a list of boards."""
    since = time.strftime("%H:%M:%S", time.localtime(_started(run)))
    # Two of one process, which nobody but a test has, are told apart by the whole name.
    return f"BOARD={number(run)}  since {since}  {(run / ABOUT).read_text()}".rstrip()


def _started(run: Path) -> float:
    return (run / NAME).stat().st_mtime


def _nobody() -> EmulatorError:
    return EmulatorError("no emulated board runs", hint="in another terminal: make run")


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[str]:
    """The socket's path in a form that fits: an address has room for 107 bytes, a cache's path may
    be longer.
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)
