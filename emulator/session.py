"""A person's or a script's run of the emulated board: its UART, and what the USB host sees."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from emulator import cache, door
from emulator.cache import say
from emulator.errors import EmulatorError
from emulator.line import Line
from emulator.machine import Machine
from emulator.options import MachineOptions
from emulator.pc import Pc, PcShell
from emulator.shell import HostBlock, HostShell, disk_numbers

END_KEY = b"\x1d"  # Ctrl-]
POLL_S = 0.5
STEADY_S = 10  # a screen that still changes after this is photographed as it is
# gadgetd's line for a configuration error: no other problem has a file.
WRONG_YAML = re.compile(
    r'^@gadgetd (\{"event":"problem","active":true,.*"file":".*\})$', re.MULTILINE
)
WIDTH = 80
COLUMNS = ("disk", "no.", "size", "block", "access", "inquiry string")
OPEN_S = 0.2  # between two looks whether somebody has opened the port

TRY_THIS = """\
  The board's UART is in this terminal: log in as root (no password).
  Try there:   gadgetd status     what is exported, and to whom
               gadgetd scan       every disk and why it is exported or not
               poweroff           ends the emulator, and so does reboot
  What the USB host sees is shown in tables that begin with "host:".
  To be the host, in a second terminal: make host ARGS=eject
  (where several boards run: make host BOARD={number} ARGS=eject)
  Ctrl-] ends; Ctrl-C goes to the board.
"""


@dataclass(frozen=True)
class Wishes:
    """What is to come of a run besides a board that runs.

    `disks`: how many the host is to see, for a configuration that leaves some out. `pc`: the host
    is a machine of its own.
    """

    timeout_s: float
    disks: int | None
    screenshot: Path | None
    uart_log: Path | None
    pc: bool = False


def attended(options: MachineOptions, wishes: Wishes) -> int:
    """Run the board with its UART in this terminal until Ctrl-] or until it is switched off."""
    with contextlib.ExitStack() as stack:
        options, pc = _with_pc(options, wishes, stack)
        machine = stack.enter_context(Machine(options))
        say(_described(options))
        print(TRY_THIS.format(number=door.number(machine.directory)), flush=True)
        out = sys.stdout.fileno()
        line = Line(machine.uart_path, log=_fresh(wishes.uart_log), tap=_writer(out))
        stack.callback(line.close)
        host = pc or HostShell(machine.host_path)
        stack.callback(host.close)
        tables = _Tables("\r\n")
        watcher = threading.Thread(target=_watch, args=(host, tables), daemon=True)
        stack.callback(watcher.join, 5)
        stack.callback(tables.end)
        stack.enter_context(door.opened(host, machine.directory, _described(options)))
        machine.go()
        watcher.start()
        with _raw_terminal():
            _type(line, machine)
        tables.end()
        print()
        running = machine.running
        if wishes.screenshot and running:
            machine.screendump(wishes.screenshot)
            say(f"HDMI's picture is in {wishes.screenshot}")
        machine.kill()  # now: what else ends waits for a command that the host is at
        say(
            "the board is ended"
            if running
            else "the board has switched itself off or rebooted: the emulator ends with either"
        )
    return 0


def unattended(options: MachineOptions, wishes: Wishes) -> int:
    """Boot the board, its UART going to stdout; 0 if the host comes to see every drive, else 1."""
    with contextlib.ExitStack() as stack:
        options, pc = _with_pc(options, wishes, stack)
        machine = stack.enter_context(Machine(options))
        say(_described(options))
        line = Line(
            machine.uart_path, log=_fresh(wishes.uart_log), tap=_writer(sys.stdout.fileno())
        )
        stack.callback(line.close)
        host = pc or HostShell(machine.host_path)
        stack.callback(host.close)
        stack.enter_context(door.opened(host, machine.directory, _described(options)))
        machine.go()
        start = time.monotonic()
        board = host
        if pc:
            board = HostShell(machine.host_path)
            stack.callback(board.close)
        blocks, why = _await(host, board, line, machine, wishes)
        if blocks and not why:
            line.expect("login: ", wishes.timeout_s)
        took = time.monotonic() - start
        if wishes.screenshot and machine.running:
            _photograph(machine, wishes.screenshot)
        machine.power_off()
    print(f"\nThe USB host, {took:.1f} s after power-on:")
    print(table(blocks))
    if why:
        print(f"emulator: {why}", file=sys.stderr)
        return 1
    return 0


def on_a_port(options: MachineOptions, wishes: Wishes) -> int:
    """Run the board with its UART left to another program, which opens the port named here.

    Only then is the board switched on: the program hears it from its first byte. Raises
    EmulatorError if nobody has opened the port after `wishes.timeout_s`.
    """
    with contextlib.ExitStack() as stack:
        options, pc = _with_pc(options, wishes, stack)
        machine = stack.enter_context(Machine(options))
        say(_described(options))
        host = pc or HostShell(machine.host_path)
        stack.callback(host.close)
        print(f"uart: {machine.uart_path}", flush=True)
        tables = _Tables("\n")
        with contextlib.suppress(KeyboardInterrupt):
            say("power comes on when a program opens that port; Ctrl-C ends")
            _until_opened(machine.uart_path, wishes.timeout_s)
            stack.enter_context(door.opened(host, machine.directory, _described(options)))
            machine.go()
            say("power is on")
            _watch(host, tables)
        if wishes.screenshot and machine.running:
            machine.screendump(wishes.screenshot)
    return 0


def _with_pc(
    options: MachineOptions, wishes: Wishes, stack: contextlib.ExitStack
) -> tuple[MachineOptions, PcShell | None]:
    """Boot the PC, if there is to be one, with the cable in; the board's options with its end."""
    if not wishes.pc:
        return options, None
    directory = cache.run_directory()
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    pc = stack.enter_context(Pc(directory))
    say("starting the PC")
    shell = PcShell(pc.host_path)
    pc.go()
    shell.wait_until_ready()
    shell.plug()
    return replace(options, cable=directory), shell


def _until_opened(port: str, timeout_s: float) -> None:
    """Wait until a program that we may look at has the terminal `port` open."""
    deadline = time.monotonic() + timeout_s
    while not any(_is_link_to(link, port) for link in Path("/proc").glob("[0-9]*/fd/*")):
        if time.monotonic() > deadline:
            raise EmulatorError(
                f"after {timeout_s:g} s no program has opened {port}", hint="--timeout S"
            )
        time.sleep(OPEN_S)


def _is_link_to(link: Path, target: str) -> bool:
    """Whether a link, which may be gone or not ours to read, leads there."""
    try:
        return os.readlink(link) == target  # noqa: PTH115
    except OSError:
        return False


def table(blocks: Sequence[HostBlock]) -> str:
    """The disks as the USB host sees them, a row each, no wider than a terminal of 80 columns."""
    if not blocks:
        return "  no disk"
    grid = Table(*COLUMNS, box=None, padding=(0, 0, 0, 2), header_style="none")
    for block, number in zip(blocks, disk_numbers(blocks), strict=True):
        cells = (
            block.device,
            str(number),
            size_text(block.size_bytes),
            str(block.logical_block_size),
            "read-only" if block.ro else "read-write",
            f"{block.vendor} {block.model} {block.rev}",
        )
        grid.add_row(*map(Text, cells))
    console = Console(width=WIDTH, color_system=None, highlight=False)
    with console.capture() as drawn:
        console.print(grid)
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    serials = sorted({block.usb_serial for block in blocks})
    return "\n".join([*lines, f"  USB serial number {', '.join(serials)}"])


def size_text(size_bytes: int) -> str:
    """A size as people order it: 1 GiB, 512 MiB."""
    if size_bytes == 0:
        return "no medium"
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size_bytes >= scale and size_bytes % (scale // 8) == 0:
            return f"{size_bytes / scale:g} {unit}"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes} bytes"


def _described(options: MachineOptions) -> str:
    """What has been put together, in words."""
    parts = [f"{options.ram_mib} MiB of RAM", "an SD card" if options.sd else "no SD card"]
    parts.append(f"{len(options.nvme)} NVMe disk{'' if len(options.nvme) == 1 else 's'}")
    cable = "a PC at the cable" if options.cable else ""
    parts.append(cable or f"{options.udcs} USB controller{'' if options.udcs == 1 else 's'}")
    return f"starting {options.model}: {', '.join(parts)}"


def _await(
    host: HostShell, board: HostShell, line: Line, machine: Machine, wishes: Wishes
) -> tuple[list[HostBlock], str]:
    """Wait for the board's disks at the host; returns what it sees and what is wrong, or "".

    A drive without a medium, an empty slot, is no disk of the board's. `board` is a shell there.
    """
    deadline = time.monotonic() + wishes.timeout_s
    sizes = sorted(drive.size for drive in machine.drives.values())
    wanted = len(sizes) if wishes.disks is None else wishes.disks
    blocks: list[HostBlock] = []
    try:
        host.wait_until_ready(wishes.timeout_s)
        while machine.running:
            said = line.text()
            wrong = WRONG_YAML.search(said)
            if wrong:
                problem = json.loads(wrong[1])
                return blocks, f"the configuration is wrong: {problem['message']}"
            blocks = host.blocks()
            seen = sorted(block.size_bytes for block in blocks if block.size_bytes)
            there = len(seen) == wanted and (wanted != len(sizes) or seen == sizes)
            # No disk at all is only a result once gadgetd has read its configuration.
            if there and (wanted or _has_begun(board)) and host.has_attached(blocks):
                return host.blocks(), ""
            if time.monotonic() > deadline:
                return blocks, (
                    f"drives of the board: {len(sizes)}; disks that the host sees after"
                    f" {wishes.timeout_s:g} s: {len(seen)}. The UART's lines above say why.\n"
                    "  hint: --disks N, if the configuration leaves some out"
                )
            host.run("usleep 200000")
    except EmulatorError as error:
        if machine.running:
            return blocks, str(error)
    return blocks, "the board switched itself off before the host saw its drives"


def _has_begun(board: HostShell) -> bool:
    """Whether gadgetd knows what it does, or waits for; its lines on the UART may be off."""
    status, said = board.run("gadgetd status --json 2>/dev/null")
    return status == 0 and json.loads(said)["phase"] != "starting"


class _Tables:
    """The host's tables on the terminal, until the run is ended: none comes after that."""

    def __init__(self, newline: str) -> None:
        """`newline` ends a line on this terminal."""
        self._newline = newline
        self._ended = threading.Event()
        self._turn = threading.Lock()

    def end(self) -> None:
        """No more of them."""
        with self._turn:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end; whether that has come."""
        return self._ended.wait(seconds)

    def show(self, blocks: Sequence[HostBlock]) -> None:
        """Print what the host sees, if the run has not ended."""
        with self._turn:
            if not self._ended.is_set():
                lines = ["", "host: the USB host now sees", *table(blocks).splitlines(), ""]
                sys.stdout.write(self._newline.join(lines) + self._newline)
                sys.stdout.flush()


def _watch(host: HostShell, tables: _Tables) -> None:
    """Show the host's table whenever it has changed and stands still, until told to stop."""
    shown: list[HostBlock] = []
    before = shown
    with contextlib.suppress(EmulatorError):  # the board is off
        host.wait_until_ready(timeout_s=600)
        while not tables.wait(POLL_S):
            blocks = host.blocks()
            steady, before = blocks == before, blocks
            # Linux looks for a medium that is back when a disk is opened: on a PC udev does that.
            empty = [block.device for block in blocks if not block.size_bytes]
            if empty:
                host.run(f"for disk in {' '.join(empty)}; do : <$disk; done")
            if steady and blocks != shown and host.has_attached(blocks):
                shown = blocks
                tables.show(blocks)


def _type(line: Line, machine: Machine) -> None:
    """Pass what is typed to the UART, until Ctrl-] or until the board is off."""
    keyboard = sys.stdin.fileno()
    while machine.running:
        ready, _, _ = select.select([keyboard], [], [], POLL_S)
        if not ready:
            continue
        typed = os.read(keyboard, 1024)
        if not typed or END_KEY in typed:
            return
        line.send(typed)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes through as it is; the terminal is as it was when this ends."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal itself has gone
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _photograph(machine: Machine, target: Path) -> None:
    """Save HDMI's picture once it has stood still for a second."""
    deadline = time.monotonic() + STEADY_S
    earlier = None
    while True:
        machine.screendump(target)
        picture = target.read_bytes()
        if picture == earlier or time.monotonic() > deadline:
            break
        earlier = picture
        time.sleep(1)  # that is what is measured: a second without change
    say(f"HDMI's picture is in {target}")


def _writer(descriptor: int) -> Callable[[bytes], None]:
    """Writes bytes as they come, all of them."""

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    return write


def _fresh(log: Path | None) -> Path | None:
    """A log begins with this run."""
    if log is not None:
        log.write_bytes(b"")
    return log


def end_on_signals() -> None:
    """Have SIGTERM and a terminal that goes end this program the way Ctrl-C does, cleaning up."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
