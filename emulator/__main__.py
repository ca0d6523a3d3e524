"""The emulated CM4 from a command line: `python -m emulator run`; `make run` calls it."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emulator import base, image, session
from emulator.cache import say
from emulator.errors import EmulatorError
from emulator.options import CM3, CM4, Drive, MachineOptions

SIZE = re.compile(r"(\d+)([KMGT])(?:i?B)?", re.IGNORECASE)
SCALES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MODELS = {"CM3": CM3, "CM4": CM4}
MOST_NVME = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 0 if it went well, 1 if not, 2 if it makes no sense."""
    options = _parser().parse_args(arguments)
    session.end_on_sigterm()
    try:
        if options.command == "build":
            return _build()
        return _run(options)
    except EmulatorError as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _build() -> int:
    """Build the image's layers, so that a run need not."""
    ground = base.get()
    layers = (ground.kernel, ground.archive, image.project_layer(ground))
    for path in layers:
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path}")
    return 0


def _run(options: argparse.Namespace) -> int:
    """Boot a board in the way that suits where we are."""
    machine = _machine_options(options)
    wishes = session.Wishes(options.timeout, options.screenshot, options.uart_log)
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not options.no_terminal
    say(_described(machine))
    if options.port:
        return session.on_a_port(machine, wishes)
    return (session.attended if terminal else session.unattended)(machine, wishes)


def _described(machine: MachineOptions) -> str:
    """What is about to start, in words."""
    parts = [f"{machine.ram_mib} MiB of RAM", "an SD card" if machine.sd else "no SD card"]
    parts.append(f"{len(machine.nvme)} NVMe disk{'' if len(machine.nvme) == 1 else 's'}")
    parts.append(f"{machine.udcs} USB controller{'' if machine.udcs == 1 else 's'}")
    return f"starting {machine.model}: {', '.join(parts)}"


def _machine_options(options: argparse.Namespace) -> MachineOptions:
    """The board that the command line describes."""
    slow = None if options.slow is None else _size(options.slow)
    block = 4096 if options.four_kn else 512
    nvme = [drive for text in options.nvme or ["1"] for drive in _nvme(text)]
    if len(nvme) > MOST_NVME:
        raise EmulatorError(f"{len(nvme)} NVMe disks are too many", hint=f"at most {MOST_NVME}")
    sd = None if options.sd == "none" else _drive(options.sd)
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
    return Drive(path=path)


def _size(text: str) -> int:
    """`4M` in bytes; plain digits are bytes."""
    if text.isdecimal():
        return int(text)
    match = SIZE.fullmatch(text)
    if not match:
        raise EmulatorError(f"{text} is no size", hint="as in 4000000, 512M or 1G")
    return int(match[1]) * SCALES[match[2].upper()]


def _existing(path: Path) -> Path:
    """The path, if a file is there."""
    if not path.is_file():
        raise EmulatorError(f"there is no file {path}")
    return path


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m emulator",
        description="An emulated Raspberry Pi CM4 that runs this checkout's gadgetd, with its USB"
        " host. Built from Debian's arm64 packages, in a cache ($GADGETD_CACHE, default"
        " ~/.cache/gadgetd).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("build", help="build the image's layers only")
    run = commands.add_parser(
        "run",
        help="boot the board",
        description="Boot the board. In a terminal its UART is there to type at, until Ctrl-]."
        " Without one, or with --no-terminal, UART goes to stdout, and it ends by itself once the"
        " USB host sees every drive (exit status 0) or does not in time (1).",
    )
    drives = run.add_argument_group("drives")
    drives.add_argument(
        "--sd", default="1G", metavar="SIZE|FILE|none", help="the SD card (default: 1G)"
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
    board.add_argument("--udcs", type=int, default=1, metavar="N", help="USB controllers")
    board.add_argument(
        "--udc-delay", type=float, default=0, metavar="S", help="seconds they come late"
    )
    board.add_argument("--super-speed", action="store_true", help="USB 3 rather than 2")
    board.add_argument("--ram", type=int, default=1024, metavar="MIB", help="default: 1024")
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
        "--port", action="store_true", help="leave the UART to another program; prints its port"
    )
    result.add_argument(
        "--timeout", type=float, default=120, metavar="S", help="without a terminal; default: 120"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
