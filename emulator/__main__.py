"""The emulated CM4 from a command line: `python -m emulator run`; `make run` calls it."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NoReturn

from emulator import (
    arguments,
    base,
    cable,
    door,
    image,
    newer_qemu,
    packages,
    pc,
    pictures,
    session,
)
from emulator.errors import EmulatorError
from emulator.machine import check_sd_size
from emulator.options import CM3, CM4, Drive, MachineOptions

SIZE = re.compile(r"(\d+)([KMGT])(?:i?B)?", re.IGNORECASE)
SCALES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MODELS = {"CM3": CM3, "CM4": CM4}
MOST_NVME = 16
MOST_UDCS = 32  # dummy_hcd's own limit
RAM_MIB = (512, 8192)
HOST_LIMIT_S = 600
FROM_MAKE = "--from-make"  # `make host`: what to do is in the environment
BOARD_VARIABLE = "GADGETD_BOARD"
TARGETS = ("run", "host")  # the commands that make has too
HOST_OPTIONS = frozenset(("--timeout", "--board"))


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; 0 if it went well, 1 if not, 2 if it makes no sense."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    command = ""
    try:
        if given[:2] == ["host", FROM_MAKE]:
            given, command = _from_make()
        options, unknown = parser.parse_known_args(given)
        if unknown:
            parser.refuse(f"unrecognized arguments: {' '.join(unknown)}", options.command)
        session.end_on_signals()
        if options.command == "build":
            return _build(tests_too=options.tests)
        if options.command == "pictures":
            return _pictures(options.folder)
        if options.command == "host":
            words = [command] if command else options.words
            return door.run(words, options.timeout, options.board)
        return _run(options)
    except EmulatorError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _from_make() -> tuple[list[str], str]:
    """What `make host` was given: a command line without a command, and the command as it is."""
    options, command = arguments.options_and_command(arguments.text(), HOST_OPTIONS)
    board = os.environ.get(BOARD_VARIABLE)
    return ["host", *([f"--board={board}"] if board else []), *options], command


def _build(*, tests_too: bool) -> int:
    """Build the image's layers, so that a run need not; silent if they are there."""
    image.project_layer(base.get())
    if tests_too:
        packages.fetch_more(cable.PACKAGES)
        pc.root()
        newer_qemu.with_raspi4b()
    return 0


def _pictures(folder: Path) -> int:
    """Take pictures of all that HDMI can show."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise EmulatorError(f"{folder} is no directory that you may write to")
    pictures.take(folder)
    return 0


def _run(options: argparse.Namespace) -> int:
    """Boot a board in the way that suits where we are."""
    machine = _machine_options(options)
    for result in filter(None, (options.screenshot, options.uart_log)):
        _check_writable(result)
    wishes = session.Wishes(
        options.timeout, options.disks, options.screenshot, options.uart_log, options.host == "pc"
    )
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not options.no_terminal
    if options.port:
        return session.on_a_port(machine, wishes)
    return (session.attended if terminal else session.unattended)(machine, wishes)


def _machine_options(options: argparse.Namespace) -> MachineOptions:
    """The board that the command line describes."""
    slow = None if options.slow is None else _size(options.slow)
    block = 4096 if options.four_kn else 512
    nvme = [drive for text in options.nvme or ["1"] for drive in _nvme(text)]
    if len(nvme) > MOST_NVME:
        raise EmulatorError(f"{len(nvme)} NVMe disks are too many", hint=f"at most {MOST_NVME}")
    sd = None if options.sd == "none" else _drive(options.sd)
    if sd is not None:
        check_sd_size(sd.path.stat().st_size if sd.path else sd.size_bytes or 0)
    _check_apart([drive.path for drive in (sd, *nvme) if drive is not None and drive.path])
    files: dict[str, bytes | Path] = {}
    if options.config:
        files["/etc/gadgetd.yaml"] = _existing(options.config).read_bytes()
    return MachineOptions(
        # QEMU 7.2 hangs now and then when it throttles an SD card.
        sd=sd,
        nvme=tuple(
            replace(drive, write_bytes_per_s=slow, logical_block_size=block) for drive in nvme
        ),
        udcs=options.udcs,
        udc_delay_s=options.udc_delay,
        super_speed=options.super_speed,
        ram_mib=options.ram,
        model=MODELS.get(options.model.upper(), options.model),
        led=None if options.no_led else "ACT",
        files=files,
        hook=_existing(options.hook).read_text() if options.hook else "",
        cmdline=options.append,
    )


def _nvme(text: str) -> list[Drive]:
    """`3`: so many disks; otherwise a size or a file: one disk."""
    if text.isdecimal():
        return [Drive(size_bytes=SCALES["G"]) for _ in range(int(text))]
    return [] if text == "none" else [_drive(text)]


def _drive(text: str) -> Drive:
    """A disk of a size, or from an image file."""
    if SIZE.fullmatch(text):
        return Drive(size_bytes=_size(text))
    path = Path(text)
    if not path.is_file():
        raise EmulatorError(
            f"{text} is neither a size nor an image file",
            hint=f"a size is like 512M or 1G; an empty image: truncate -s 1G {text}",
        )
    if path.stat().st_size == 0:
        raise EmulatorError(
            f"{text} has no bytes, and so no size", hint=f"an empty image: truncate -s 1G {text}"
        )
    return Drive(path=path)


def _check_apart(images: Sequence[Path]) -> None:
    """Two drives cannot have one image. Raises EmulatorError."""
    for one, other in combinations(images, 2):
        if one.samefile(other):
            raise EmulatorError(f"{other} is given twice", hint="each drive needs its own image")


def _size(text: str) -> int:
    """`4M` in bytes; plain digits are bytes."""
    match = SIZE.fullmatch(text)
    if match:
        size = int(match[1]) * SCALES[match[2].upper()]
    else:
        size = int(text) if text.isdecimal() else 0
    if size == 0:
        raise EmulatorError(f"{text} is no size", hint="as in 4000000, 512M or 1G")
    return size


def _existing(path: Path) -> Path:
    """The path, if a file is there that can be read."""
    if path.is_dir():
        raise EmulatorError(f"{path} is a directory", hint="name a file in it")
    if not path.exists():
        raise EmulatorError(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise EmulatorError(f"you may not read {path}")
    return path


def _check_writable(path: Path) -> None:
    """A result that could not be kept is told before the board boots. Raises EmulatorError."""
    if path.is_dir():
        raise EmulatorError(f"{path} is a directory", hint="name a file in it")
    if not path.absolute().parent.is_dir():
        raise EmulatorError(f"{path} cannot be written: there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise EmulatorError(f"you may not write {path}")


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is no whole number from {least} to {most}")
        return int(text)

    return read


def _seconds(least: float) -> Callable[[str], float]:
    """Reads a time of at least this many seconds."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not least <= number < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is no number of seconds from {least:g} on")
        return number

    return read


class _Parser(argparse.ArgumentParser):
    """Errors in the words that all of the emulator's have."""

    def error(self, message: str) -> NoReturn:
        """Say it and exit with 2."""
        self.refuse(message, self.prog.rpartition(" ")[2])

    def refuse(self, message: str, command: str) -> NoReturn:
        """Say it, with where the command's options stand, and exit with 2."""
        makes = f"make {command if command in TARGETS else 'run'} ARGS=--help"
        self.exit(2, f"emulator: {message}\n  hint: all options: {makes}\n")


def _parser() -> _Parser:
    """The command line."""
    parser = _Parser(
        prog="python -m emulator",
        description="An emulated Raspberry Pi CM4 that runs this checkout's gadgetd, with its USB"
        " host. Built from Debian's arm64 packages, in a cache ($GADGETD_CACHE, default"
        " ~/.cache/gadgetd).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="build the image's layers only")
    build.add_argument(
        "--tests", action="store_true", help="and the PC's root file system, a QEMU with a BCM2711"
    )
    taken = commands.add_parser("pictures", help="take a picture of each state that HDMI shows")
    taken.add_argument("folder", type=Path, metavar="FOLDER", help="where the PNGs go")
    host = commands.add_parser(
        "host",
        help="have the USB host of a running board do something",
        usage="%(prog)s [-h] [--timeout S] [--board NUMBER] [COMMAND]",
        description="Run a shell command on the USB host of an emulated board that runs: what it"
        " says goes to stdout, its exit status is ours. Without a command, read commands from"
        " stdin, a line each. `make host ARGS=COMMAND` calls this; the host's shell gets COMMAND"
        " as it was written, with each ; | > $ and * in it.",
    )
    host.add_argument(
        "--board",
        default="",
        metavar="NUMBER",
        help="which one, if several run (make host BOARD=NUMBER); without, they are listed",
    )
    host.add_argument(
        "--timeout",
        type=_seconds(1),
        default=HOST_LIMIT_S,
        metavar="S",
        help=f"when to kill a command; default: {HOST_LIMIT_S}",
    )
    host.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="as in: eject /dev/sda; several words are joined as ssh joins them",
    )
    run = commands.add_parser(
        "run",
        help="boot the board",
        description="Boot the board. In a terminal its UART is there to type at, until Ctrl-]."
        " Without one, or with --no-terminal, UART goes to stdout, and it ends by itself once the"
        " USB host sees every drive (exit status 0) or does not in time (1; make turns that into"
        " its own 2).",
    )
    drives = run.add_argument_group(
        "drives",
        "An image FILE is the disk itself: the board writes to it, and it keeps its size.",
    )
    drives.add_argument(
        "--sd",
        default="1G",
        metavar="SIZE|FILE|none",
        help="the SD card; its size is a power of two (default: 1G)",
    )
    drives.add_argument(
        "--nvme",
        action="append",
        metavar="N|SIZE|FILE|none",
        help="so many NVMe disks of 1 GiB, or one of this size or from this image; may be given"
        " again (default: 1)",
    )
    drives.add_argument("--slow", metavar="BYTES/S", help="limit writes to NVMe disks, as in 4M")
    drives.add_argument(
        "--4kn", dest="four_kn", action="store_true", help="NVMe with 4096-byte blocks"
    )
    board = run.add_argument_group("board")
    board.add_argument(
        "--udcs", type=_whole(0, MOST_UDCS), default=1, metavar="N", help="USB controllers"
    )
    board.add_argument(
        "--udc-delay", type=_seconds(0), default=0, metavar="S", help="seconds they come late"
    )
    board.add_argument(
        "--host",
        choices=("same", "pc"),
        default="same",
        help="the USB host: the board's own kernel, or a second machine with Debian's udev and"
        " udisks, over USB/IP; `make host` speaks to it (default: same)",
    )
    board.add_argument("--super-speed", action="store_true", help="USB 3 rather than 2")
    board.add_argument(
        "--ram", type=_whole(*RAM_MIB), default=1024, metavar="MIB", help="default: 1024"
    )
    board.add_argument("--model", default="CM4", help="CM4, CM3 or a device tree's model string")
    board.add_argument("--no-led", action="store_true", help="no ACT LED")
    board.add_argument("--config", type=Path, metavar="FILE", help="as /etc/gadgetd.yaml")
    board.add_argument("--hook", type=Path, metavar="FILE", help="shell script run before init")
    board.add_argument("--append", default="", metavar="TEXT", help="more kernel command line")
    result = run.add_argument_group("result")
    result.add_argument("--screenshot", type=Path, metavar="FILE", help="HDMI's picture, a PNG")
    result.add_argument("--uart-log", type=Path, metavar="FILE", help="all that UART said")
    result.add_argument("--no-terminal", action="store_true", help="even if there is one")
    result.add_argument(
        "--port",
        action="store_true",
        help="leave the UART to another program; prints its port, and switches the board on when"
        " the program opens it",
    )
    result.add_argument(
        "--timeout",
        type=_seconds(1),
        default=120,
        metavar="S",
        help="without a terminal: for the host to see its disks; with --port: for a program to open"
        " it; default: 120",
    )
    result.add_argument(
        "--disks",
        type=_whole(0, MOST_NVME + 1),
        metavar="N",
        help="without a terminal: how many the host is to see (default: every drive)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
