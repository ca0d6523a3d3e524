"""`gadgetd`: arguments and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gadgetd import __version__
from gadgetd.config.settings import CONFIG
from gadgetd.errors import ConfigError, ControlError, GadgetdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

OK, FAILED, USAGE, BAD_CONFIG, NO_DAEMON = 0, 1, 2, 3, 4

_DESCRIPTION = """\
Exports this board's eMMC, SD and NVMe to the PC on its USB cable, as USB disks.
Without a command, on a board: run."""

_EPILOG = f"""\
exit codes:
  {OK}  done                      {BAD_CONFIG}  the configuration is wrong
  {FAILED}  failed, and said why      {NO_DAEMON}  the daemon is not running, or refuses
  {USAGE}  wrong arguments

The configuration is {CONFIG}; without it the defaults hold. All options, each explained:
{CONFIG}.example"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. Errors become one sentence and a hint."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ["run"] or (not words and _on_a_board()):
            # What init starts. It does not pay for argparse.
            return _run(CONFIG)
        if not words:
            _parser().print_usage(sys.stderr)
            return _complain(
                "this is no board: it has no USB device controller",
                "gadgetd --help; to export this machine's disks all the same: gadgetd run",
                USAGE,
            )
        code = _dispatch(words)
        sys.stdout.flush()
    except ConfigError as error:
        return _complain_all(error)
    except GadgetdError as error:
        return _complain(error.message, error.hint, _code(error))
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        # Python's own end would try to write what is left once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    return code


def _complain(message: str, hint: str, code: int) -> int:
    print(f"gadgetd: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
    return code


def _complain_all(error: ConfigError) -> int:
    """Tell all errors of a file, and once what to do."""
    for other in (error, *error.also)[:-1]:
        _complain(other.message, "", BAD_CONFIG)
    return _complain((error, *error.also)[-1].message, error.hint, BAD_CONFIG)


def _on_a_board() -> bool:
    """Whether there is a controller, or init started us: one that is slow may come yet."""
    from gadgetd.usb.controllers import controllers

    return os.getppid() == 1 or bool(controllers())


def _code(error: GadgetdError) -> int:
    return NO_DAEMON if isinstance(error, ControlError) else FAILED


def _dispatch(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = options.action
    return command(options)


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="gadgetd",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gadgetd {__version__}")
    parser.set_defaults(action=lambda _: _run(CONFIG))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(
        name: str, action: Callable[[argparse.Namespace], int], words: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        added.set_defaults(action=action)
        return added

    run = command("run", lambda o: _run(o.config), "export the disks until stopped (init does it)")
    status = command("status", _status, "show what is exported and what is wrong")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="for programs; see docs/uart.md")
    how.add_argument("--watch", action="store_true", help="show it anew whenever it changes")
    scan = command("scan", _scan, "list all disks and why each is exported or not; changes nothing")
    scan.add_argument("--json", action="store_true", help="for programs")
    check = command("check", _check, "check configuration files; changes nothing")
    check.add_argument(
        "files", type=Path, nargs="*", default=[CONFIG], metavar="FILE", help="- is standard input"
    )
    run.add_argument("--config", type=Path, default=CONFIG, metavar="FILE")
    scan.add_argument("--config", type=Path, metavar="FILE", help="judge by another file")
    eject = command("eject", _eject, "take a disk from the host, flush it, and say when it is safe")
    eject.add_argument("disk", metavar="NUMBER|NAME")
    eject.add_argument("--force", action="store_true", help="even if the host has locked it")
    insert = command("insert", _insert, "give an ejected disk back to the host")
    insert.add_argument("disk", metavar="NUMBER|NAME")
    digest = command("hash", _hash, "print the SHA-256 of an exported disk")
    digest.add_argument("disk", metavar="NUMBER|NAME")
    erase = command("erase", _erase, "discard all that is on a disk that no host has")
    erase.add_argument("disk", metavar="NAME")
    erase.add_argument("--yes", action="store_true", help="do not ask for the name once more")
    attach = command("attach", _attach, "make a change that waits for the host, at the host's cost")
    attach.add_argument("--yes", action="store_true", help="do not ask first")
    command("stop", _stop, "take all disks from the host and flush them; the daemon stays")
    command("start", lambda _: _tell("start"), "export again after stop")
    command("reload", lambda _: _tell("reload"), f"read {CONFIG} again, as SIGHUP does")
    command("log", _log, "show what has happened since the start")
    return parser


def _run(config: Path) -> int:
    # A traceback lands on the consoles, and what reads the UART may be a program. The import below
    # can fail too.
    os.environ["PYTHON_COLORS"] = "0"
    # Imported here: pyudev is most of the start, and only the daemon needs it.
    from gadgetd.main import run

    run(config)
    return OK


def _status(options: argparse.Namespace) -> int:
    from gadgetd.control import client
    from gadgetd.show.layout import to_text

    if options.json:
        _print_json(client.fetch_status())
    elif options.watch:
        client.watch(lambda status: print(f"\x1b[H\x1b[2J{to_text(status)}", flush=True))
    else:
        print(to_text(client.from_json(client.fetch_status())))
    return OK


def _scan(options: argparse.Namespace) -> int:
    from gadgetd.control import client

    verdicts = client.scan(options.config)
    if options.json:
        _print_json([client.verdict_to_json(verdict) for verdict in verdicts])
    else:
        print("\n".join(client.scan_lines(verdicts)))
    return OK


def _check(options: argparse.Namespace) -> int:
    code = OK
    for file in options.files:
        try:
            _check_one(file)
        except ConfigError as error:
            code = _complain_all(error)
    return code


def _check_one(file: Path) -> None:
    from gadgetd.config.load import SIZE_LIMIT, load, parse
    from gadgetd.config.pitfalls import pitfalls

    if str(file) == "-":
        config = parse(sys.stdin.buffer.read(SIZE_LIMIT + 1), file)
    elif not os.path.exists(file):  # noqa: PTH110 - unlike Path.exists, it raises nothing
        raise ConfigError("there is no such file", file=file)
    else:
        config = load(file)
    doubts = list(pitfalls(config))
    for sentence in doubts:
        print(f"gadgetd: warning: {sentence}", file=sys.stderr)
    count = f", with {len(doubts)} warning{'s' * (len(doubts) > 1)}" if doubts else ""
    use = "; to use it: gadgetd reload" if file == CONFIG else ""
    print(f"{file}: good{count}{use}")


def _eject(options: argparse.Namespace) -> int:
    from gadgetd.control import client

    torn = client.send("eject", disk=options.disk, force=options.force).get("torn")
    row = client.wait_for_eject(options.disk)
    known = "all that the host wrote is on the disk"
    if torn:
        known = "all that arrived is on the disk; what the host still held is not known"
    print(f"{row.disk.name} is {row.life}: {known}")
    return OK


def _insert(options: argparse.Namespace) -> int:
    from gadgetd.control import client

    client.send("insert", disk=options.disk)
    row = client.find(client.from_json(client.fetch_status()), options.disk)
    print(f"{row.disk.name} is disk {row.lun} again")
    return OK


def _hash(options: argparse.Namespace) -> int:
    from gadgetd.control import client

    try:
        disk, digest = client.sha256(options.disk, client.show_progress)
    except KeyboardInterrupt as error:
        raise GadgetdError(f"interrupted: there is no sum of {options.disk}") from error
    print(f"{digest}  {disk.node}")
    return OK


def _erase(options: argparse.Namespace) -> int:
    from gadgetd.control import erasure

    erasure.run(options.disk, confirmed=options.yes)
    return OK


def _stop(_options: argparse.Namespace) -> int:
    from gadgetd.control import client

    answer = client.send("stop")
    if "refused" in answer:
        raise GadgetdError(str(answer["refused"]), hint="see gadgetd status and dmesg")
    if answer["safe"]:
        print("stopped: all that the host wrote is on the disks")
    elif answer["flushed"]:
        print("stopped: all that arrived is on the disks; what the host still held is not known")
    else:
        raise GadgetdError(
            "stopped, but not all data could be written", hint="see gadgetd log and dmesg"
        )
    return OK


def _attach(options: argparse.Namespace) -> int:
    from gadgetd.control import client

    if not options.yes:
        names = ", ".join(client.send("attach")["disks"])
        question = (
            f"This disconnects {names} from the host, which may lose what it has not written."
        )
        print(f"{question} Go on? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise GadgetdError("nothing was changed", hint="answer y, or give --yes")
    print(client.from_json(client.send("attach", confirmed=True)["status"]).message)
    return OK


def _tell(command: str) -> int:
    from gadgetd.control import client

    status = client.from_json(client.send(command)["status"])
    problem = status.problem or next((each for each in status.advice if each.file), None)
    if problem is not None:
        return _complain(problem.message, problem.hint, BAD_CONFIG if problem.file else FAILED)
    print(status.message)
    return OK


def _log(_options: argparse.Namespace) -> int:
    from gadgetd.control import client

    print("\n".join(client.send("log")["lines"]))
    return OK


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2))
