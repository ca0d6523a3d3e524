"""Pictures of HDMI for the documentation: each state that a board can be brought to, and is.

A board and a PC that are two machines go through a working day. A picture is taken when the word
stands there in its own colour, and beside it what the picture is to show; the board's CPU stands
still meanwhile, so that none is of the moment before.
"""

import contextlib
import itertools
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from emulator import cache
from emulator.cache import say
from emulator.errors import EmulatorError
from emulator.line import Line
from emulator.machine import Machine
from emulator.options import GIB, Drive, MachineOptions
from emulator.pc import Pc, PcShell
from emulator.shell import HostShell

SCREENS = ((1280, 800), (1920, 1080))
TIMEOUT_S = 180
CELL = (16, 32)  # a character of the kernel's font TER16x32, in pixels
LETTERS_CELLS = 60  # a word in block letters fills more of them; text fills none, a chart 30
CONFIG = "/etc/gadgetd.yaml"
ROOMY = b"writeback: {dirty_bytes: 64MiB}\n"  # a flush that lasts until its picture is taken
WARNING_SPARE = 1  # a bit of the critical warning in an NVMe disk's SMART log
POWER = "/sys/bus/usb/devices/1-1/power"  # of the board, as its own host sees it

# What the console makes of the colours of gadgetd/show/sign.py (drivers/tty/vt/vt.c, the default
# palette): name of the picture, its red, green and blue.
COLOURS = {
    "starting": "aaaaaa",
    "waiting": "aaaaaa",
    "no-host": "5555ff",
    "suspended": "5555ff",
    "ready": "55ffff",
    "health": "55ffff",
    "reading": "00aaaa",
    "writing": "ffff55",
    "flushing": "ff55ff",
    "ejected": "ffffff",
    "safe-to-unplug": "55ff55",
    "stopped": "ffffff",
    "locked": "aa5500",
    "error": "ff5555",
}


@dataclass(frozen=True)
class Scene:
    """The two machines, and a root shell on each."""

    machine: Machine
    board: HostShell
    pc: PcShell

    def disk(self, drive: str) -> str:
        """The PC's device node of the board's "sd" or "nvme0", once each has its medium there."""
        # It looks for one that is back when a disk is opened.
        size = "$(blockdev --getsize64 $disk 2>/dev/null || echo 0)"
        wait = f"until [ {size} -gt 0 ]; do usleep 100000; done"
        self.at_pc(f"for disk in /dev/sd?; do {wait}; done")
        wanted = self.machine.drives[drive].size
        return next(
            block.device for block in self.pc.wait_for_blocks(2) if block.size_bytes == wanted
        )

    def at_pc(self, command: str) -> None:
        """Run a command on the PC, which may have much to do."""
        self.pc.check(command, TIMEOUT_S)

    def at_board(self, command: str) -> None:
        """Run a command on the board, likewise."""
        self.board.check(command, TIMEOUT_S)

    def configure(self, text: str, command: str) -> None:
        """Write the board's configuration, and run a command of gadgetd's whatever it says."""
        self.at_board(f"printf '%s\\n' '{text}' >{CONFIG}")
        self.board.run(f"gadgetd {command}", TIMEOUT_S)

    def warn(self, bits: int) -> None:
        """Have the NVMe disk warn of this, or of nothing any more, and gadgetd know."""
        path, name = "/machine/peripheral/nvme0", "smart_critical_warning"
        self.machine.monitor.execute("qom-set", {"path": path, "property": name, "value": bits})
        # Whoever asks for the status has the disk asked; what it answers shows in the next.
        no = "" if bits else "!"
        self.at_board(f"until {no} gadgetd status | grep -q warns; do :; done")


@dataclass(frozen=True)
class Step:
    """What is done with the board or on the PC, and the picture that is taken then.

    `text`: what stands on the screen by then, in one line and in ASCII. `busy_s`: how long the
    state is to have lasted, for one whose numbers are worth seeing.
    """

    picture: str
    act: Callable[[Scene], object]
    text: str = ""
    busy_s: float = 0


def _warn(scene: Scene) -> None:
    scene.warn(WARNING_SPARE)


def _read(scene: Scene) -> None:
    scene.warn(0)
    scene.at_pc(f"dd if={scene.disk('sd')} of=/dev/null bs=1M iflag=direct >/dev/null 2>&1 &")


def _write(scene: Scene) -> None:
    to = f"of={scene.disk('nvme0')} bs=1M count=40 oflag=direct"
    scene.at_pc(f"killall dd; dd if=/dev/urandom {to} >/dev/null 2>&1 &")


def _eject_without_a_flush(scene: Scene) -> None:
    """Eject as eject(1) does, but for the SYNCHRONIZE CACHE, which flushes on the board."""
    unlock, eject = 0x5381, 0x5309  # SCSI_IOCTL_DOORUNLOCK, CDROMEJECT
    opens = f"d = os.open('{scene.disk('nvme0')}', os.O_NONBLOCK)"
    code = f"{opens}; ioctl(d, {unlock}); ioctl(d, {eject})"
    ejects = f'python3 -S -c "import os; from fcntl import ioctl; {code}"'
    scene.at_pc(f"while pidof dd; do usleep 20000; done; {ejects}")


def _take_by_force(scene: Scene) -> None:
    scene.at_board("gadgetd insert mmcblk0 && gadgetd insert nvme0n1")
    for drive in ("sd", "nvme0"):
        node = scene.disk(drive)
        opened = f'[ "$(readlink /proc/$!/fd/0)" = {node} ]'
        scene.at_pc(f"sleep 1000 <{node} >/dev/null 2>&1 & until {opened}; do usleep 20000; done")
    scene.at_board("gadgetd eject --force mmcblk0 && gadgetd eject --force nvme0n1")


def _stop(scene: Scene) -> None:
    scene.at_pc("killall sleep")
    scene.at_board("gadgetd insert mmcblk0 && gadgetd stop")


STEPS = (
    Step("starting", lambda _: None, text="waiting for a USB device controller"),
    Step("no-host", lambda _: None, text="What to do: plug"),
    Step("ready", lambda scene: scene.pc.plug(), text="PC: connected"),
    Step("health", _warn, text="NOTE: nvme0n1 warns"),
    Step("reading", _read, busy_s=5),
    Step("writing", _write, busy_s=5),
    Step("flushing", _eject_without_a_flush),
    Step("safe-to-unplug", lambda scene: scene.at_pc("eject")),
    Step("ejected", _take_by_force, text="2 disks ejected"),
    Step("stopped", _stop, text="stopped: all that arrived"),
    Step("error", lambda scene: scene.configure("disks:\n  - kind: nvm", "start")),
    Step("locked", lambda scene: scene.configure('boards: "*0000beef"', "reload")),
    Step("waiting", lambda scene: scene.configure("disks:\n  - name: sda", "reload")),
)


def take(folder: Path) -> None:
    """Take all pictures, as `folder`/ready-1280x800.png and so on.

    Raises EmulatorError if the board does not come to a state.
    """
    for screen in SCREENS:
        with _scene(screen) as scene:
            for step in STEPS:
                step.act(scene)
                picture = _photograph(scene.machine, scene.board, step)
                _keep(picture, folder, step.picture, screen)
        _keep(_asleep(screen), folder, "suspended", screen)


@contextlib.contextmanager
def _scene(screen: tuple[int, int]) -> Iterator[Scene]:
    """A board whose USB controller comes late, its NVMe disk slow, and a PC without a cable."""
    with contextlib.ExitStack() as stack:
        directory = cache.run_directory()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        options = MachineOptions(
            sd=Drive(32 * GIB),
            nvme=(Drive(238 * GIB, write_bytes_per_s=1_000_000),),
            udc_delay_s=30,
            screen=screen,
            cable=directory,
            files={CONFIG: ROOMY},
        )
        pc = stack.enter_context(Pc(directory))
        machine = stack.enter_context(Machine(options))
        pc_shell, board = PcShell(pc.host_path), HostShell(machine.host_path)
        for shell in (pc_shell, board):
            stack.callback(shell.close)
        stack.enter_context(Line(machine.uart_path))  # somebody has to read it
        pc.go()
        pc_shell.wait_until_ready()
        machine.go()
        yield Scene(machine, board, pc_shell)


def _asleep(screen: tuple[int, int]) -> bytes:
    """What HDMI shows when the PC sleeps.

    The cable between two machines does not tell of that, the one between a board and itself does.
    """
    with contextlib.ExitStack() as stack:
        options = MachineOptions(sd=Drive(32 * GIB), nvme=(Drive(238 * GIB),), screen=screen)
        machine = stack.enter_context(Machine(options))
        board = HostShell(machine.host_path)
        stack.callback(board.close)
        stack.enter_context(Line(machine.uart_path))
        machine.go()
        board.wait_for_blocks(2)
        # A Linux host suspends a device that no driver uses.
        unbind = (
            "cd /sys/bus/usb/drivers/usb-storage; for each in 1-1:*; do echo $each >unbind; done"
        )
        board.check(unbind, TIMEOUT_S)
        board.check(f"echo 0 >{POWER}/autosuspend_delay_ms; echo auto >{POWER}/control", TIMEOUT_S)
        asleep = Step("suspended", lambda _: None, text="What to do: wake the host", busy_s=5)
        return _photograph(machine, board, asleep)


def _photograph(machine: Machine, board: HostShell, step: Step) -> bytes:
    """Give HDMI's picture (PPM, P6) once it has been what the step is to show for long enough.

    Raises EmulatorError if that does not happen in time.
    """
    colour = bytes.fromhex(COLOURS[step.picture])
    target = machine.directory / "hdmi.ppm"
    seen_at: float | None = None
    deadline = time.monotonic() + TIMEOUT_S
    while (now := time.monotonic()) < deadline:
        told = not step.text or step.text in board.run("cat /dev/vcs1", TIMEOUT_S)[1]
        machine.monitor.execute("stop")
        machine.monitor.execute("screendump", {"filename": str(target), "format": "ppm"})
        machine.monitor.execute("cont")
        picture = target.read_bytes()
        there = told and has_letters(picture, colour)
        seen_at = (seen_at or now) if there else None
        if seen_at is not None and now - seen_at >= step.busy_s:
            return picture
        time.sleep(0.1)
    raise EmulatorError(f"HDMI has not come to the picture {step.picture} in {TIMEOUT_S} s")


def _keep(picture: bytes, folder: Path, name: str, screen: tuple[int, int]) -> None:
    target = folder / f"{name}-{screen[0]}x{screen[1]}.png"
    target.write_bytes(png(picture))
    say(f"{target}, {target.stat().st_size} bytes")


def _pixels(picture: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels, three bytes each, of a picture as QEMU writes it (PPM, P6)."""
    _, size, _, pixels = picture.split(b"\n", 3)
    width, height = map(int, size.split())
    return width, height, pixels


def has_letters(picture: bytes, colour: bytes) -> bool:
    """Whether a word in block letters of this colour stands in a picture."""
    width, height, pixels = _pixels(picture)
    filled = 0
    for top in range(0, height - CELL[1] + 1, CELL[1]):
        for left in range(0, width - CELL[0] + 1, CELL[0]):
            rows = (top, top + CELL[1] // 2, top + CELL[1] - 1)
            starts = (3 * (row * width + left) for row in rows)
            filled += all(pixels[at : at + 3 * CELL[0]] == colour * CELL[0] for at in starts)
    return filled >= LETTERS_CELLS


def png(picture: bytes) -> bytes:
    """Pack a picture of at most 16 colours as PNG, in as few bits a pixel as that takes.

    Raises EmulatorError if there are more. Source: Portable Network Graphics (RFC 2083).
    """
    width, height, pixels = _pixels(picture)
    palette = sorted({pixels[at : at + 3] for at in range(0, len(pixels), 3)})
    if len(palette) > 16:
        raise EmulatorError(f"HDMI shows {len(palette)} colours; a Linux console has 16")
    bits = next(bits for bits in (1, 2, 4) if len(palette) <= 1 << bits)
    # Of several pixels at once, since all in a row are mostly the same.
    step = 8 // bits
    packed_as = {
        b"".join(some): sum(palette.index(one) << 8 - bits * at for at, one in enumerate(some, 1))
        for some in itertools.product(palette, repeat=step)
    }
    packed = bytes(packed_as[pixels[at : at + 3 * step]] for at in range(0, len(pixels), 3 * step))
    row = width // step
    lines = b"".join(b"\0" + packed[at : at + row] for at in range(0, len(packed), row))
    header = struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)  # 3: by a palette
    chunks = ((b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(lines, 9)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in (*chunks, (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
