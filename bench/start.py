"""Start: from exec to a bound controller with the disks present; ideas for a faster one, tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.boards import NO_HOST, PYTHON, TOOLS, Booted, booted, options
from bench.row import Kind, Row, Target
from bench.sheet import Sheet
from emulator import EmulatorError

AT_MOST = Target(6.0)
LIMIT_S = 900
READY = "[ -d /sys/kernel/config/usb_gadget ] && [ -e /sys/class/udc/* ]"
DISKS_THERE = "[ -b /dev/mmcblk0 ] && [ -b /dev/nvme0n1 ]"
CONFIG = "/etc/gadgetd.yaml"
ASKED = "/tmp/starts.json"

Times = dict[str, tuple[float, float, int]]
"""Name of a program: seconds from its exec, CPU seconds of it, disks that it exported."""


@dataclass(frozen=True)
class Program:
    """Something that is started and timed; see board/starts.py."""

    name: str
    command: tuple[str, ...]
    until: str = "end"
    environment: dict[str, str] = field(default_factory=dict)
    before: str = ""
    after: str = ""


def _python(name: str, code: str, *flags: str) -> Program:
    return Program(name, ("/usr/bin/python3", *flags, "-c", code))


def gadgetd(name: str = "gadgetd", *command: str, **more: str) -> Program:
    """The daemon, or a variant of it, until it has bound the gadget."""
    environment = {key: value for key, value in more.items() if key.isupper()}
    return Program(
        name,
        command or ("/usr/bin/gadgetd", "run"),
        "bound",
        environment,
        more.get("before", ""),
        "rm -rf /run/gadgetd;" + more.get("after", ""),
    )


OURS = gadgetd()
PEER = Program(
    "peer",
    ("/etc/init.d/S99gadget",),
    "bound",
    {"FLASH_S": "0"},
    after="/etc/init.d/S99gadget undo",
)
SHELL = Program("sh", ("/bin/sh", "-c", ":"))
BARE = _python("python", "pass")

ISOLATED = ("/usr/bin/python3", *PYTHON.split()[1:])
VARIANTS = (
    gadgetd("without site: python3 -I -S -E", *ISOLATED, f"{TOOLS}/isolated.py"),
    gadgetd(
        "without .pyc files",
        PYTHONPYCACHEPREFIX="/nowhere",
        PYTHONDONTWRITEBYTECODE="1",
    ),
    gadgetd(
        "with a configuration file, so with PyYAML",
        before=f"echo 'slots: 0' >{CONFIG}",
        after=f"rm {CONFIG}",
    ),
)
"""Against the daemon as init starts it."""

IMPORTS = (
    ("import pyudev", "import pyudev"),
    ("import yaml", "import yaml"),
    ("import dataclasses", "import dataclasses"),
    ("import typing", "import typing"),
    ("import pathlib", "import pathlib"),
    ("import socket", "import socket"),
    ("import ctypes", "import ctypes"),
    ("import argparse", "import argparse"),
    ("import json", "import json"),
)
"""Each against a bare Python, and by itself: what two of them share counts in both."""


def _script(name: str, *words: str) -> Program:
    return Program(name, ("/usr/bin/python3", f"{TOOLS}/{words[0]}", *words[1:]))


WITH_CONTEXT = _python("pyudev with a context", "import pyudev; pyudev.Context()")
SAFE_LOADER = _script("SafeLoader's modules", "safe_loader.py")
LAZY_PYUDEV = _script("pyudev, less at once", "lazy_pyudev.py")
DATACLASSES = _script("30 dataclasses", "classes.py", "dataclass")
TUPLES = _script("30 NamedTuples", "classes.py", "NamedTuple")
CLASSES = _script("30 classes", "classes.py", "class")
FROZEN = _script("30 of gadgetd's own", "classes.py", "Frozen")

ALTERNATIVES = (
    ("import only what SafeLoader needs, not all of PyYAML", SAFE_LOADER, "import yaml"),
    (
        "pyudev without ctypes.util, subprocess, datetime (to change upstream)",
        LAZY_PYUDEV,
        WITH_CONTEXT.name,
    ),
    ("30 NamedTuples, not 30 frozen dataclasses with slots", TUPLES, DATACLASSES.name),
    ("30 classes written by hand, not 30 frozen dataclasses", CLASSES, DATACLASSES.name),
    ("30 of gadgetd's frozen.Frozen, not 30 frozen dataclasses", FROZEN, DATACLASSES.name),
)
"""An idea, the program that follows it, and the one that does not; whole programs, with Python."""


def measure(sheet: Sheet) -> None:
    """Start everything in turns on one board that has booted and is at rest."""
    programs = [OURS, PEER, SHELL, BARE, *VARIANTS]
    if sheet.effort.whole:
        programs += [_python(name, code) for name, code in IMPORTS]
        programs += [WITH_CONTEXT, SAFE_LOADER, LAZY_PYUDEV, DATACLASSES, TUPLES, CLASSES, FROZEN]
    sheet.say(f"{len(programs)} programs, {sheet.effort.rounds} times each, in turns")
    with booted(options(None, udcs=0, hook=NO_HOST)) as board:
        board.wait_until(DISKS_THERE)
        rounds = run(board, programs, sheet.effort.rounds, 2)

    def times(name: str) -> tuple[float, ...]:
        return tuple(each[name][0] for each in rounds)

    def add(name: str, of: str, beside: str = "", *, kind: Kind) -> None:
        sheet.add(Row(name, "s", times(of), times(beside) if beside else (), kind=kind))

    ours = times(OURS.name)
    sheet.add(
        Row("start: exec → controller bound, disks present", "s", ours, times("peer"), AT_MOST)
    )
    cpu = tuple(each[OURS.name][1] for each in rounds)
    sheet.add(Row("start: gadgetd's CPU time until then", "s", cpu, kind=Kind.DETAIL))
    add("start: a bare Python / the peer's script", "python", "peer", kind=Kind.DETAIL)
    add("start: a bare shell", "sh", kind=Kind.DETAIL)
    for variant in VARIANTS:
        add(variant.name, variant.name, OURS.name, kind=Kind.IDEA)
    if sheet.effort.whole:
        for idea, program, instead_of in ALTERNATIVES:
            add(idea, program.name, instead_of, kind=Kind.IDEA)
        for name, _ in IMPORTS:
            add(f"python3 -c '{name}' / python3 -c pass", name, "python", kind=Kind.DETAIL)


def run(board: Booted, programs: Sequence[Program], rounds: int, disks: int) -> list[Times]:
    """Start each program once a round, on a board that has its disks and is at rest.

    Raises EmulatorError if a start did not export all `disks`.
    """
    board.wait_until(READY)
    asked = json.dumps({"rounds": rounds, "programs": [vars(program) for program in programs]})
    board.host.check(f"cat >{ASKED} <<'END'\n{asked}\nEND")
    said = board.host.check(f"{PYTHON} {TOOLS}/starts.py <{ASKED}", LIMIT_S)
    found: list[Times] = json.loads(said.strip().splitlines()[-1])
    for name in (program.name for program in programs if program.until == "bound"):
        if any(each[name][2] != disks for each in found):
            raise EmulatorError(
                f"{name} exported {[each[name][2] for each in found]} disks, not {disks}"
            )
    return found
