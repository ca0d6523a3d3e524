"""Two shells over serial lines: the USB host's side of the emulator, and the board's own console.

UartShell knows nothing of QEMU: the same tests talk through it to a real board.
"""

import base64
import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.errors import EmulatorError
from emulator.line import Line

BOOT_S = 120
ANSWER_S = 30
WAKE_S = 10
SHOWN = 2000  # characters of what a command said, in an error
KILLED = 128 + 9  # the status that `timeout -s KILL` leaves
PROMPT = r"^\S{0,40} ?[#$] "
# What the daemon writes between others' lines: one for people, then one for programs. A command's
# own "gadgetd: …" has no second one.
DAEMON_LINES = re.compile(r"(?:gadgetd: .*\n)?@gadgetd \{.*\}\n")

FIELDS = """
    name address controller size block_size ro removable vendor model rev interface
    serial manufacturer product id_vendor id_product bcd_device speed
"""
ALWAYS = "address size block_size ro removable vendor interface id_vendor speed"
# A line with the FIELDS, tab-separated, for each disk that came over the emulated cable (dummy_hcd,
# or vhci for usbip). They are read with the shell's own `read`: a process costs 10 ms there.
LIST_BLOCKS = r"""
get() { value=; { IFS= read -r value <"$1"; } 2>/dev/null; printf '%s\t' "$value"; }
for disk in /sys/block/sd*; do
    at=$(readlink -f "$disk/device") || continue
    case $at in */dummy_hcd.*|*/vhci_hcd.*) ;; *) continue;; esac
    usb=${at%/*/*/*/*}
    interface=${at%/*/*/*}
    controller=${at#*/platform/}
    printf '%s\t%s\t%s\t' "${disk##*/}" "${at##*/}" "${controller%%/*}"
    for file in "$disk/size" "$disk/queue/logical_block_size" "$disk/ro" "$disk/removable" \
        "$at/vendor" "$at/model" "$at/rev" "$interface/bInterfaceNumber" \
        "$usb/serial" "$usb/manufacturer" "$usb/product" \
        "$usb/idVendor" "$usb/idProduct" "$usb/bcdDevice" "$usb/speed"; do
        get "$file"
    done
    echo
done
"""


def _block(line: str) -> "HostBlock | None":
    """One line of LIST_BLOCKS; None if it is not complete."""
    text = dict(zip(FIELDS.split(), line.split("\t"), strict=False))
    if not all(text.get(name) for name in ALWAYS.split()):
        return None
    return HostBlock(
        name=text["name"],
        size_bytes=int(text["size"]) * 512,  # sysfs counts these, whatever the disk's own blocks
        logical_block_size=int(text["block_size"]),
        ro=text["ro"] == "1",
        removable=text["removable"] == "1",
        address=text["address"],
        lun=int(text["address"].rpartition(":")[2]),
        function=int(text["interface"], 16),
        vendor=text["vendor"].strip(),
        model=text["model"].strip(),
        rev=text["rev"].strip(),
        inquiry=f"{text['vendor']:8}{text['model']:16}{text['rev']:4}",
        usb_serial=text["serial"],
        manufacturer=text["manufacturer"],
        product=text["product"],
        id_vendor=text["id_vendor"],
        id_product=text["id_product"],
        bcd_device=text["bcd_device"],
        speed=text["speed"],
        controller=text["controller"],
    )


@dataclass(frozen=True)
class HostBlock:
    """A disk as the USB host sees it: usb-storage's and the SCSI layer's sysfs files.

    `vendor`, `model` and `rev` are stripped; `inquiry` is the 28 characters as they came.
    """

    name: str  # on the host: sda
    size_bytes: int
    logical_block_size: int
    ro: bool
    removable: bool
    address: str  # the SCSI layer's, on the host: "0:0:0:1"
    lun: int
    function: int  # USB interface number: which mass_storage function
    vendor: str
    model: str
    rev: str
    inquiry: str
    usb_serial: str
    manufacturer: str
    product: str
    id_vendor: str  # as sysfs writes it: "0a5c"
    id_product: str
    bcd_device: str
    speed: str  # Mbit/s: "480"
    controller: str  # the host controller: "dummy_hcd.0"

    @property
    def device(self) -> str:
        """Its device node on the host's side."""
        return f"/dev/{self.name}"


def disk_numbers(blocks: Sequence[HostBlock]) -> list[int]:
    """The number that gadgetd gives to each of a board's disks, all of which are there.

    It deals them to the functions in turn, and the host counts anew in each.
    """
    functions = len({block.function for block in blocks})
    return [block.lun * functions + block.function for block in blocks]


class HostShell:
    """A root shell on the USB host's side: the emulator's second channel."""

    def __init__(self, port: str, *, log: Path | None = None) -> None:
        """Open the channel; commands can be given from `wait_until_ready` on."""
        self.line = Line(port, log=log)
        self._ids = itertools.count(1)
        self._ready = False
        self._turn = threading.Lock()  # the other end takes one command at a time

    def wait_until_ready(self, timeout_s: float = BOOT_S) -> None:
        """Wait for the board's kernel to bring the channel up; at once if it is."""
        if not self._ready:
            self.line.expect("\x01ready", timeout_s)
            self._ready = True

    def run(self, command: str, timeout_s: float = ANSWER_S) -> tuple[int, str]:
        """Run a shell command and return its exit status and all it said (stdout and stderr).

        A command that takes longer than `timeout_s` is killed; raises EmulatorError for that, and
        if the channel does not answer. Threads take turns.
        """
        with self._turn:
            return self._run(command, timeout_s)

    def _run(self, command: str, timeout_s: float) -> tuple[int, str]:
        """The work of `run`."""
        self.wait_until_ready()
        number = next(self._ids)
        since = self.line.position
        encoded = base64.b64encode(command.encode()).decode()
        seconds = max(1, int(timeout_s))
        self.line.send(f"{number} {seconds} {encoded}\n".encode())
        match, _ = self.line.expect(
            f"\x01{number} begin\n([\\s\\S]*)\x01{number} end (\\d+)\n", timeout_s + 10, since
        )
        status = int(match[2])
        if status == KILLED:
            raise EmulatorError(
                f"on the host, {command!r} took over {seconds} s; it said:\n{match[1][-SHOWN:]}"
            )
        return status, match[1]

    def check(self, command: str, timeout_s: float = ANSWER_S) -> str:
        """Run a command that has to succeed and return all it said.

        Raises EmulatorError with that if its exit status is not 0.
        """
        status, said = self.run(command, timeout_s)
        if status != 0:
            raise EmulatorError(f"on the host, {command!r} ended with {status}:\n{said[-SHOWN:]}")
        return said

    def blocks(self) -> list[HostBlock]:
        """The disks that the USB host sees now, by controller, in the order of `disk_numbers`.

        Those that are just coming or going, with half of their files, are not among them.
        """
        lines = self.check(LIST_BLOCKS).splitlines()
        found = [block for line in lines if (block := _block(line)) is not None]
        return sorted(found, key=lambda block: (block.controller, block.lun, block.function))

    def has_attached(self, blocks: Sequence[HostBlock]) -> bool:
        """Whether the host's SCSI layer is done with these disks.

        Before, it asks them for the same things again, and its answers flicker: a read-only disk is
        writable for a moment. The kernel's log is the only place where the end of that shows.
        """
        log = self.check("dmesg")
        for block in blocks:
            _, _, since = log.rpartition(f"scsi {block.address}: Direct-Access")
            if f"sd {block.address}: [{block.name}] Attached SCSI" not in since:
                return False
        return True

    def wait_for_blocks(
        self,
        count: int,
        timeout_s: float = BOOT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> list[HostBlock]:
        """Wait until the host sees `count` disks, all with a medium, and is done with them.

        Raises EmulatorError after `timeout_s`, naming those that it does see.
        """
        deadline = clock() + timeout_s
        while True:
            blocks = self.blocks()
            with_medium = all(block.size_bytes for block in blocks)
            if len(blocks) == count and with_medium and self.has_attached(blocks):
                return self.blocks()
            if clock() > deadline:
                names = ", ".join(f"{block.name} {block.inquiry!r}" for block in blocks)
                raise EmulatorError(
                    f"after {timeout_s:g} s the host sees {len(blocks)} disks, not {count}"
                    + (f": {names}" if names else "")
                )
            self.run("usleep 200000")

    def close(self) -> None:
        """Close the channel."""
        self.line.close()


class UartShell:
    """The board's root shell on its UART, emulated or real, with a log of every byte."""

    def __init__(
        self,
        port: str,
        *,
        log: Path | None = None,
        baud: int = 115200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the port, which is read from here on. Nothing is sent before `login` or `run`."""
        self.line = Line(port, baud=baud, log=log, clock=clock)
        self._clock = clock
        self._ids = itertools.count(1)

    def login(self, timeout_s: float = BOOT_S) -> None:
        """Come to a root shell: answer `login:` with root, which has no password.

        A board on the bench may have booted long ago: it is woken with an empty line, and a shell
        that is open already is taken as it is. Raises EmulatorError if no shell comes.
        """
        deadline = self._clock() + timeout_s
        match = self._wake(deadline)
        if match[0].startswith("login:"):
            since = self.line.position
            self.line.send(b"root\n")
            self.line.expect(PROMPT, deadline - self._clock(), since)
        self.run("true", max(1.0, deadline - self._clock()))

    def run(self, command: str, timeout_s: float = ANSWER_S) -> tuple[int, str]:
        """Run a shell command and return its exit status and what it said.

        Lines of the daemon that come between are left out (`line.text()` has them). Raises
        EmulatorError if there is no answer in `timeout_s`.
        """
        number = next(self._ids)
        since = self.line.position
        # The marks are quoted in halves: the terminal's echo of them is no answer.
        begin, end = f"'=''={number} begin'", f"'=''={number} end'"
        script = f"echo {begin}; {{ {command}\n}} </dev/null; printf '\\n%s %s\\n' {end} $?\n"
        self.line.send(script.encode())
        match, _ = self.line.expect(
            f"=={number} begin\n([\\s\\S]*?)\n=={number} end (\\d+)", timeout_s, since
        )
        return int(match[2]), DAEMON_LINES.sub("", match[1])

    def check(self, command: str, timeout_s: float = ANSWER_S) -> str:
        """Run a command that has to succeed and return what it said.

        Raises EmulatorError with that if its exit status is not 0.
        """
        status, said = self.run(command, timeout_s)
        if status != 0:
            raise EmulatorError(f"on the board, {command!r} ended with {status}:\n{said[-SHOWN:]}")
        return said

    def close(self) -> None:
        """Close the port."""
        self.line.close()

    def _wake(self, deadline: float) -> re.Match[str]:
        """Wait for `login:` or a shell's prompt; an idle line is sent an empty line now and then.

        Raises EmulatorError at the deadline.
        """
        while True:
            left = deadline - self._clock()
            try:
                return self.line.expect(f"login: |{PROMPT}", min(WAKE_S, left))[0]
            except EmulatorError:
                if left <= WAKE_S:
                    raise
            self.line.send(b"\n")
