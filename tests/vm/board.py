"""A board as the tests see it: its UART, the USB host's side, its power. Emulated or on a bench.

The parts follow labgrid's: serial line, shell, storage and power are apart, so that a test which
needs no emulation runs on both. Every wait has a deadline; nothing sleeps in the hope that it
will do.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator import EmulatorError, HostBlock, HostShell, Machine, MachineOptions, UartShell
from gadgetd import __version__
from gadgetd.show import sign

BOOT_S = 180
"""Until the root shell, in seconds, on a machine that has much else to do."""
WAIT_S = 60
"""Until something that gadgetd or a host does at once, on such a machine."""
CHUNK = 1 << 16
"""Bytes that dd moves at once: a whole number of blocks of any disk."""
CONFIG = "/etc/gadgetd.yaml"
TAIL = "a1b2c3d4"
"""The emulated board's serial number ends so."""
REVISION = __version__.rpartition(".")[0]

LOGS = "gadgetd log; gadgetd status; cat /var/log/gadgetd* 2>/dev/null; dmesg | tail -n 60"
"""Commands that tell what happened on a board."""

Event = dict[str, Any]
EVENT = re.compile(r"^@gadgetd (\{.*\})$", re.MULTILINE)


def until(
    what: str, condition: Callable[[], Any], timeout_s: float = WAIT_S, pause_s: float = 0.1
) -> Any:
    """Ask again and again until the answer is true, and return it. AssertionError at the end."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {what}"
        time.sleep(pause_s)


@dataclass(frozen=True)
class Pattern:
    """Bytes of which no two blocks are alike, which a shell can make as well as we can.

    They are lines of digits, as `seq` prints them, so that a block in the wrong place shows.
    """

    first: int
    size_bytes: int

    @property
    def command(self) -> str:
        """Shell command that prints it."""
        last = self.first + self.size_bytes // 8
        return f"seq {self.first} {last} | head -c {self.size_bytes}"

    @property
    def data(self) -> bytes:
        """The same bytes. All numbers have seven digits, so a line is eight bytes."""
        numbers = range(self.first, self.first + self.size_bytes // 8)
        return "".join(f"{number}\n" for number in numbers).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


class LocalHost(HostShell):
    """This machine as the USB host of a board on the bench. Its disks are known by their iSerial.

    Reading and writing them takes the rights for it: root, or the group `disk`.
    """

    def __init__(self, usb_serial: str, sys: Path = Path("/sys")) -> None:
        """Nothing is opened: commands run in a local shell."""
        self._usb_serial = usb_serial
        self._sys = sys

    def wait_until_ready(self, timeout_s: float = 0) -> None:
        """This machine is."""

    def close(self) -> None:
        """Nothing is open."""

    def run(self, command: str, timeout_s: float = WAIT_S) -> tuple[int, str]:
        """Run a shell command and return its exit status and all it said (stdout and stderr)."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def has_attached(self, blocks: Sequence[HostBlock]) -> bool:
        """Wait until udev is done with what has come, so that nobody else has the disks open."""
        self.run("udevadm settle --timeout=20", WAIT_S)  # a machine without udev is done
        return all(Path(block.device).is_block_device() for block in blocks)

    def blocks(self) -> list[HostBlock]:
        """The board's disks on this machine, in the order of `disk_numbers`."""
        disks = (self._sys / "block").glob("sd*")
        found = [block for disk in disks if (block := self._block(disk))]
        return sorted(found, key=lambda block: (block.lun, block.function))

    def _block(self, disk: Path) -> HostBlock | None:
        # .../USB DEVICE/INTERFACE/hostH/targetH:0:0/H:0:0:LUN/block/sdX
        at = (disk / "device").resolve()
        usb, interface = at.parents[3], at.parents[2]
        try:
            if _line(usb / "serial") != self._usb_serial:
                return None
            vendor, model, rev = (_line(at / name) for name in ("vendor", "model", "rev"))
            return HostBlock(
                name=disk.name,
                size_bytes=int(_line(disk / "size")) * 512,
                logical_block_size=int(_line(disk / "queue" / "logical_block_size")),
                ro=_line(disk / "ro") == "1",
                removable=_line(disk / "removable") == "1",
                address=at.name,
                lun=int(at.name.rpartition(":")[2]),
                function=int(_line(interface / "bInterfaceNumber"), 16),
                vendor=vendor.strip(),
                model=model.strip(),
                rev=rev.strip(),
                inquiry=f"{vendor:8}{model:16}{rev:4}",
                usb_serial=self._usb_serial,
                manufacturer=_line(usb / "manufacturer"),
                product=_line(usb / "product"),
                id_vendor=_line(usb / "idVendor"),
                id_product=_line(usb / "idProduct"),
                bcd_device=_line(usb / "bcdDevice"),
                speed=_line(usb / "speed"),
                controller="",
            )
        except (OSError, ValueError):
            return None  # No USB disk, or it is going away at this moment.


def _line(path: Path) -> str:
    return path.read_text("utf-8", "replace").removesuffix("\n")


@dataclass
class Board:
    """A board that runs, with a root shell on its UART, and the host that it is plugged into."""

    uart: UartShell
    host: HostShell
    directory: Path
    """Where the UART's log is, and whatever else is kept of this boot."""
    emulated: Machine | None = None
    options: MachineOptions = field(default_factory=MachineOptions)
    writes_allowed: bool = True
    second: HostShell | None = None
    """A root shell on the board beside its UART, where the host is another machine."""

    @property
    def machine(self) -> Machine:
        """The emulated board."""
        assert self.emulated is not None, "this test needs the marker `emulated`"
        return self.emulated

    @property
    def inside(self) -> HostShell:
        """A root shell on an emulated board beside its UART: the host's, if both are one kernel."""
        assert self.emulated is not None, "this test needs the marker `emulated`"
        return self.second or self.host

    # The board's side

    def run(self, command: str, timeout_s: float = WAIT_S) -> tuple[int, str]:
        """Run a command in the root shell on the UART: its exit status and what it said."""
        return self.uart.run(command, timeout_s)

    def check(self, command: str, timeout_s: float = WAIT_S) -> str:
        """Run a command there that has to succeed, and return what it said."""
        return self.uart.check(command, timeout_s)

    def status(self) -> dict[str, Any]:
        """What `gadgetd status --json` says."""
        status: dict[str, Any] = json.loads(self.check("gadgetd status --json"))
        return status

    def write_file(self, path: str, content: str | bytes) -> None:
        """Put a file on the board. One on the bench lives in RAM, so a reboot forgets it."""
        data = content.encode() if isinstance(content, str) else content
        octal = "".join(f"\\{byte:03o}" for byte in data)
        # Short lines: a shell's line editor takes long ones slowly.
        self.check(f": >{path}")
        for start in range(0, len(octal), 400):
            self.check(f"printf '{octal[start : start + 400]}' >>{path}")

    def medium_digest(self, name: str, offset: int, size: int) -> str:
        """SHA-256 of bytes of a disk past the gadget: of its image outside, or the board's own."""
        if self.emulated is None:
            dd = f"dd if=/dev/{name} bs={CHUNK} skip={offset // CHUNK} count={size // CHUNK}"
            return self.check(f"{dd} 2>/dev/null | sha256sum").split()[0]
        with self.image_of(name).open("rb") as image:
            image.seek(offset)
            return hashlib.sha256(image.read(size)).hexdigest()

    def image_of(self, name: str) -> Path:
        """The image file of the disk with this kernel name, told by its serial number."""
        if name.startswith("mmcblk"):
            return self.machine.image_path("sd")
        serial = self.check(f"cat /sys/block/{name}/device/serial").strip()
        for index, drive in enumerate(self.options.nvme):
            if serial == (drive.serial or f"nvme-{index}"):
                return self.machine.image_path(f"nvme{index}")
        return self.machine.image_path(serial)  # plugged in later, under this name

    # What gadgetd says

    def events(self, since: int = 0) -> list[Event]:
        """The machine-readable lines on the UART since a position of `uart.line`."""
        return [json.loads(found) for found in EVENT.findall(self.uart.line.text(since))]

    def expect_event(self, since: int = 0, timeout_s: float = WAIT_S, /, **wanted: object) -> Event:
        """Wait for a machine-readable line with these fields, and return all of it."""
        line = self.uart.line
        deadline = time.monotonic() + timeout_s
        while True:
            seen = line.position
            for event in self.events(since):
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event
            left = deadline - time.monotonic()
            with suppress(EmulatorError):
                if left > 0:
                    line.expect("\n", left, seen)
            if left <= 0:
                said = "".join(f"\n  {json.dumps(each)}" for each in self.events(since))
                raise AssertionError(f"no event {wanted} in {timeout_s:g} s; there were:{said}")

    def expect_phase(self, phase: str, since: int = 0, timeout_s: float = WAIT_S) -> Event:
        """Wait until gadgetd says on the UART that it is in this phase."""
        return self.expect_event(since, timeout_s, event="phase", phase=phase)

    def screen(self) -> list[str]:
        """The text on HDMI, a string a row; the letters of the sign are made of `%`, `^`, `v`."""
        # From the console's own memory: what stands there, however it came. A byte is a place in
        # the font, which has the order of code page 437: whole, upper and lower half of a cell.
        said = self.check(r"stty size </dev/tty1; tr '\333\337\334' '%^v' </dev/vcs1")
        size, _, text = said.partition("\n")
        rows, columns = map(int, size.split())
        return [text[row * columns : (row + 1) * columns].rstrip() for row in range(rows)]

    def words(self) -> str:
        """The text on HDMI in one line, whatever width it was broken to, without the sign."""
        lines = [line for line in self.screen() if set(line) - set(" %^v")]
        return " ".join(" ".join(lines).split())

    def expect_sign(self, word: sign.Sign, timeout_s: float = WAIT_S) -> None:
        """Wait until this word stands on HDMI in block letters, whatever their size."""
        until(f"{word.word} on HDMI", lambda: self._sign_is(word), timeout_s)

    def _sign_is(self, word: sign.Sign) -> bool:
        lines = self.screen()
        shown = [line for line in lines if line and not set(line) - set(" %^v")]
        columns = int(self.check("stty size </dev/tty1").split()[1])
        for rows in range(len(lines) // 2 + 1, 4, -1):
            drawn = sign.letters(word.spellings, columns, rows)
            table = str.maketrans({sign.FULL: "%", sign.UPPER: "^", sign.LOWER: "v"})
            if shown == [line.translate(table) for line in drawn if line]:
                return True
        return False

    def expect_on_screen(self, *texts: str, timeout_s: float = WAIT_S) -> str:
        """Wait until all of these stand on HDMI; line breaks in it count as spaces."""
        words = ""
        deadline = time.monotonic() + timeout_s
        while True:
            words = self.words()
            missing = [text for text in texts if text not in words]
            if not missing:
                return words
            assert time.monotonic() < deadline, f"HDMI lacks {missing}; it shows:\n{words}"

    def expect_on_both(self, *texts: str, since: int = 0) -> None:
        """Wait until the UART has said, and HDMI shows, each of these texts."""
        for text in texts:
            self.uart.line.expect(re.escape(text), WAIT_S, since)
        self.expect_on_screen(*texts)

    def led(self) -> list[tuple[float, bool]]:
        """Every change of the ACT LED since power-on, seen outside: (seconds, lit)."""
        return [(at, lit) for at, lit in self.machine.led_changes() if at > 0]

    def seconds_since_power_on(self) -> float:
        """The emulated board's age, on the clock of `led`."""
        return time.time() - self.machine.started_at

    # The daemon

    def daemon(self) -> int:
        """The process id of the running daemon; 0 if there is none."""
        # The oldest: a flush under way is a child with the same name.
        found = self.check("ps -o pid,args | grep '[/]usr/bin/gadgetd run' | sort -n | head -n 1")
        return int(found.split()[0]) if found.strip() else 0

    def restart(self, signal: str = "TERM") -> int:
        """End the daemon with a signal; init starts another. Returns the position in the UART."""
        old = self.daemon()
        assert old, "there is no daemon to restart"
        since = self.uart.line.position
        self.check(f"kill -{signal} {old}")
        self.expect_event(since, event="started")
        return since

    def configure(self, text: str | bytes, signal: str = "TERM") -> int:
        """Write the configuration and restart the daemon. Returns the position in the UART."""
        self.write_file(CONFIG, text)
        return self.restart(signal)

    def keep(self, directory: Path) -> None:
        """Keep what may tell why a test failed."""
        # The second shell answers even if the UART is what is wrong.
        ask = self.run if self.emulated is None else self.inside.run
        if self.emulated is not None:
            with suppress(EmulatorError):
                self.emulated.screendump(directory / "hdmi.png")
        with suppress(EmulatorError):
            (directory / "gadgetd.log").write_text(ask(f"{{ {LOGS}; }} 2>&1", 30)[1])
        if self.second is not None:
            with suppress(EmulatorError):
                (directory / "pc-kernel.log").write_text(self.host.check("dmesg"))

    # The host's side

    def exported(self) -> list[dict[str, Any]]:
        """The rows of the status that have a LUN, in its order."""
        rows = [row for row in self.status()["disks"] if row["lun"] is not None]
        return sorted(rows, key=lambda row: int(row["lun"]))

    def expect_host_without_disks(self, timeout_s: float = WAIT_S) -> None:
        """Wait until the host sees none of the board's disks."""
        until("the host sees no disk", lambda: not self.host.blocks(), timeout_s)

    def host_digest(self, block: HostBlock, offset: int, size: int) -> str:
        """SHA-256 of bytes of a disk as the host reads them, past its cache."""
        command = f"dd if={block.device} bs={CHUNK} skip={offset // CHUNK} count={size // CHUNK}"
        return self.host.check(f"{command} iflag=direct 2>/dev/null | sha256sum").split()[0]

    def host_writes(self, block: HostBlock, offset: int, pattern: Pattern) -> tuple[int, str]:
        """Have the host write a pattern, and flush: the exit status of dd and what it said."""
        return self.host.run(
            f"{pattern.command} | dd of={block.device} bs={CHUNK} seek={offset // CHUNK}"
            " iflag=fullblock conv=fsync,notrunc",
            timeout_s=WAIT_S,
        )

    @contextmanager
    def borrowed(self, block: HostBlock, offset: int, size: int) -> Iterator[None]:
        """Put back what was there, on a board whose disks somebody still wants."""
        if self.emulated is not None:
            yield
            return
        kept = self.directory / f"{block.name}-{offset}.kept"
        place = f"bs={CHUNK} count={size // CHUNK}"
        file = shlex.quote(str(kept))
        self.host.check(f"dd if={block.device} of={file} {place} skip={offset // CHUNK}")
        try:
            yield
        finally:
            self.host.check(
                f"dd of={block.device} if={file} {place} seek={offset // CHUNK} conv=fsync,notrunc"
            )
            self.host.check(f"rm {file}")


def inquiry(name: str, tail: str = TAIL) -> str:
    """The 28 characters by which a host knows a disk: board, disk, version."""
    return f"{tail:8.8}{name:16.16}{REVISION:4.4}"


def yaml_file(text: str | bytes) -> Mapping[str, bytes]:
    """A configuration that is there from boot, for MachineOptions.files."""
    return {CONFIG: text.encode() if isinstance(text, str) else text}
