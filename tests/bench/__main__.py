"""`make board-report`: the bench list of docs/image.md, walked on a board, and written down."""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from emulator import EmulatorError, HostShell, UartShell, door
from emulator.cache import CHECKOUT
from gadgetd import __version__
from tests.bench.person import Answers, Person, Terminal, read_answers
from tests.bench.report import PASSED, Report, plain
from tests.bench.walk import KEYS, STEPS, Walk, walk
from tests.vm.board import Board, LocalHost

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DOOR_S = 60
DOOR_POLL_S = 0.1


class DoorHost(HostShell):
    """The USB host of an emulated board that another process runs, as `make host` speaks to it."""

    def __init__(self, number: str) -> None:
        """Nothing is opened. `number` is which board, if several run."""
        self._number = number

    def wait_until_ready(self, timeout_s: float = DOOR_S) -> None:
        """Wait until the board's port has been found open and its power is on.

        Raises EmulatorError, as the door does, if there is still no such board after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return door.visit(self._number).close()
            except EmulatorError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(DOOR_POLL_S)

    def run(self, command: str, timeout_s: float = 30) -> tuple[int, str]:
        """Run a shell command: its exit status and all it said."""
        with door.visit(self._number) as visit:
            return visit.run(command, timeout_s)

    def close(self) -> None:
        """Nothing is open."""


def main(argv: Sequence[str] | None = None) -> int:
    """Walk, write, and say where: 0 if no step failed, 1 if one did, 2 if it could not begin."""
    options = _parser().parse_args(argv)
    try:
        if options.name and not NAME.fullmatch(options.name):
            raise EmulatorError(
                f"--name {options.name!r} is no name of a file", hint="letters, digits, . _ -"
            )
        given = read_answers(options.answers, options.answer, KEYS)
        person: Person = Answers(given, Terminal() if sys.stdin.isatty() else None)
        with tempfile.TemporaryDirectory(prefix="board-report-") as directory:
            report = _walked(options, person, Path(directory))
        options.out.mkdir(parents=True, exist_ok=True)
        for suffix, text in (("json", report.as_json()), ("md", report.as_markdown())):
            (options.out / f"{report.name}.{suffix}").write_text(text, "utf-8")
    except (EmulatorError, OSError) as error:
        print(f"board-report: {plain(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    done = sum(entry.outcome.status == PASSED for entry in report.entries)
    left = len(report.entries) - done - report.failed
    print(f"\n{done} passed, {report.failed} failed, {left} skipped")
    print(f"written: {options.out / report.name}.md, and .json to send")
    return 1 if report.failed else 0


def _walked(options: argparse.Namespace, person: Person, directory: Path) -> Report:
    """The report of one walk over the board of the command line."""
    emulated = options.emulated is not None
    host: HostShell = DoorHost(options.emulated) if emulated else LocalHost("")
    uart = UartShell(options.board)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (directory / "rpiboot.log").open("wb") as log:
            command = ["rpiboot", "-d", str(options.rpiboot)]
            try:
                started.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                )
            except OSError as error:
                raise EmulatorError(f"{shlex.join(command)}: {error.strerror}") from error

    context = Walk(Board(uart, host, directory), person, options.pulls)
    if not emulated:
        context.before = context.host_disks()
        context.host_with = lambda serial: LocalHost(options.board_disks or serial)
    if options.rpiboot:
        context.start = start
    try:
        host.wait_until_ready()
        entries = tuple(walk(context, STEPS, lambda text: print(plain(text), flush=True)))
    finally:
        uart.close()
        for process in started:
            process.terminate()
            process.wait()
    now = datetime.fromtimestamp(time.time(), UTC)
    return Report(
        name=options.name or _name(entries[2].outcome.text if context.shell else "", now),
        date=now.strftime("%Y-%m-%d %H:%M UTC"),
        gadgetd=__version__,
        pc=platform.platform(terse=True),
        entries=entries,
        secrets=tuple(context.secrets),
    )


def _name(model: str, now: datetime) -> str:
    """A file's name for a board of this model, today."""
    words = re.findall(r"[a-z0-9]+", model.lower())
    return "-".join([*(words or ["board"]), now.strftime("%Y%m%d-%H%M")])[:64]


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make board-report",
        description="Walk the bench list of docs/image.md on a board, with a person who is asked"
        " for what only eyes and hands can do, and write the report. docs/boards/README.md has the"
        " wiring and every question.",
    )
    parser.add_argument("--board", required=True, metavar="PORT", help="its UART, /dev/ttyUSB0")
    parser.add_argument("--rpiboot", type=Path, metavar="DIR", help="run `rpiboot -d DIR` for it")
    parser.add_argument("--name", default="", help="of the files; default: model and date")
    parser.add_argument(
        "--out", type=Path, default=CHECKOUT / "docs/boards", metavar="DIR", help="where to write"
    )
    parser.add_argument(
        "--board-disks", metavar="SERIAL", help="USB serial number of its disks; default: its own"
    )
    parser.add_argument("--answers", type=Path, metavar="FILE", help='{"led": "yes"}, for a jig')
    parser.add_argument("--answer", action="append", default=[], metavar="KEY=VALUE", help="one")
    parser.add_argument("--pulls", type=int, default=3, metavar="N", help="of the cable; default 3")
    parser.add_argument(
        "--emulated",
        nargs="?",
        const="",
        metavar="NUMBER",
        help="PORT is that of `make run ARGS=--port`, and its USB host is the emulated one",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
