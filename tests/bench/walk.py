"""The bench list of docs/image.md, walked on one board with a person: a step for what can be told.

A step measures what can be measured and asks for the rest. One that fails, or that nobody can do
here, says so in the report, and the next one is tried.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from emulator import EmulatorError, HostShell
from emulator.drivers import LIST
from tests.bench.person import NO, SKIP, YES, Person
from tests.bench.report import FAILED, PASSED, SKIPPED, Entry, Outcome
from tests.vm.board import Board

BOOT_S = 180
UNPLUG_S = 30
LOAD_S = 3
BLOCKS = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20)
READ_BYTES = 64 << 20
POLL_S = 0.05
COPIED = re.compile(r"(\d+) bytes.* copied, ([\d.,e-]+) s")
# A device's files in sysfs, and its descriptors in hex, by its serial number.
DESCRIPTORS = """
for usb in /sys/bus/usb/devices/*; do
    [ "$(cat $usb/serial 2>/dev/null)" = '{serial}' ] || continue
    for file in idVendor idProduct bcdDevice bcdUSB manufacturer product speed bMaxPower \
        bNumInterfaces bmAttributes; do
        echo "$file: $(cat $usb/$file 2>/dev/null)"
    done
    for interface in $usb/*:*; do
        echo "interface ${{interface##*:}}: class $(cat $interface/bInterfaceClass)\
 subclass $(cat $interface/bInterfaceSubClass) protocol $(cat $interface/bInterfaceProtocol)"
    done
    od -An -v -tx1 $usb/descriptors
done
"""


class SkippedError(Exception):
    """A step that is not done here; its text says why."""


@dataclass
class Walk:
    """What the steps share: a board, its host, a person, and what earlier steps have found."""

    board: Board
    person: Person
    pulls: int = 3
    read_bytes: int = READ_BYTES  # at most, for each size of a read
    start: Callable[[], None] | None = None
    """Starts rpiboot, or another board; None: the person does."""
    host_with: Callable[[str], HostShell] | None = None
    """The host that knows the board's disks by this serial number; None: it does already."""
    clock: Callable[[], float] = time.monotonic
    shell: bool = False
    before: frozenset[str] = frozenset()
    since: float | None = None  # when it was started; None: it ran already
    secrets: list[str] = field(default_factory=list)

    def host_disks(self) -> frozenset[str]:
        """The names of the disks that the host has, whoever's they are."""
        names = self.board.host.check("ls /sys/block").split()
        return frozenset(name for name in names if name.startswith("sd"))

    def ask(self, key: str, request: str) -> str:
        """A person's YES or NO. Raises SkippedError if there is no answer."""
        answer = self.person.answer(key, request)
        if answer == SKIP:
            raise SkippedError("nobody has answered")
        return answer

    def done(self, key: str, request: str) -> None:
        """Have a person do something. Raises SkippedError if it is not done."""
        if self.ask(key, request) == NO:
            raise SkippedError("a person has said no")

    def asked(self, key: str, request: str, otherwise: str) -> Outcome:
        """A step that only eyes can do."""
        right = self.ask(key, request) == YES
        return Outcome(PASSED if right else FAILED, "seen by a person" if right else otherwise)


@dataclass(frozen=True)
class Step:
    """A line of the report: `row` is docs/image.md's."""

    key: str
    row: int
    title: str
    do: Callable[[Walk], Outcome]
    needs_shell: bool = True


def walk(context: Walk, steps: tuple[Step, ...], say: Callable[[str], None]) -> Iterator[Entry]:
    """Do every step, whatever becomes of those before it; Ctrl-C leaves the rest out."""
    ended = False
    for step in steps:
        say(f"{step.title} …")
        begin = time.monotonic()
        try:
            if ended:
                raise SkippedError("the walk was ended before")
            if step.needs_shell and not context.shell:
                raise SkippedError("there is no shell on the UART")
            outcome = step.do(context)
        except KeyboardInterrupt:
            ended = True
            outcome = Outcome(SKIPPED, "the walk was ended here")
        except SkippedError as reason:
            outcome = Outcome(SKIPPED, str(reason))
        except (EmulatorError, AssertionError, OSError, LookupError, ValueError) as error:
            outcome = Outcome(FAILED, str(error) or type(error).__name__)
        except Exception as error:  # one step's fault is no reason to lose the others
            outcome = Outcome(FAILED, f"the step itself is at fault: {error!r}")
        say(f"{step.title}: {outcome.status}, {_first_line(outcome.text)}")
        yield Entry(step.key, step.row, step.title, outcome, time.monotonic() - begin)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


# ---- From power-on -------------------------------------------------------------------------------


def power_on(context: Walk) -> Outcome:
    """Row 3, 11: from rpiboot to the UART's first byte and to the first disk."""
    line, clock = context.board.uart.line, context.clock
    if context.ask("off", "Is the board switched off? (n: it runs, and stays as it is)") == NO:
        raise SkippedError("the board ran already")
    context.done(
        "power",
        "Fit the jumper that disables eMMC boot (nRPIBOOT to ground), connect the USB cable and the"
        " serial cable. Then answer"
        + (
            ", and switch the board on at once."
            if context.start
            else f", start `rpiboot -d DIR` at once, and switch the board on; {BOOT_S} s from then."
        ),
    )
    figures: dict[str, Any] = {}
    from_here = line.position
    context.since = begin = clock()

    def hear() -> None:
        # Apart: to ask an emulated host for its disks takes as long as its kernel does to boot.
        with suppress(EmulatorError):
            line.expect(r"[\s\S]", BOOT_S, from_here)
            figures["first_byte_s"] = round(clock() - begin, 2)

    threading.Thread(target=hear, name="first byte", daemon=True).start()
    if context.start:
        context.start()
    while clock() < begin + BOOT_S and "first_disk_s" not in figures:
        if context.host_disks() - context.before:
            figures["first_disk_s"] = round(clock() - begin, 2)
        time.sleep(POLL_S)
    if "first_disk_s" not in figures:
        return Outcome(FAILED, f"no disk has come to the PC in {BOOT_S} s", dict(figures))
    return Outcome(PASSED, f"the first disk after {figures['first_disk_s']} s", dict(figures))


def login(context: Walk) -> Outcome:
    """Row 5, 4: a root shell, and all that the UART said until then."""
    uart = context.board.uart
    try:
        uart.login(BOOT_S)
        context.shell = True
    except EmulatorError as error:
        return Outcome(FAILED, str(error), texts={"The UART": uart.line.text()})
    text = uart.line.text()
    figures: dict[str, Any] = {"lines_of_gadgetd": text.count("\n@gadgetd ")}
    if context.since is not None:
        figures["login_s"] = round(context.clock() - context.since, 2)
    return Outcome(PASSED, "root, without a password", figures, {"The UART": text})


# ---- What the board says of itself ---------------------------------------------------------------


def model(context: Walk) -> Outcome:
    """Row 3: which board."""
    check = context.board.check
    serial = check("tr -d '\\0' </proc/device-tree/serial-number").strip()
    context.secrets += [serial, serial[-8:]]  # the whole, and what disks are called by
    if context.host_with is not None:
        context.board.host = context.host_with(serial)
    name = check("tr -d '\\0' </proc/device-tree/model").strip()
    memory = check("sed -n 's/MemTotal: *//p' /proc/meminfo").strip()
    return Outcome(PASSED, name, {"model": name, "memory": memory, "serial": serial})


def kernel(context: Walk) -> Outcome:
    """Row 2: what booted, and what it complains of."""
    check = context.board.check
    log = check("dmesg", 120)
    wrong = [line for line in log.splitlines() if re.search(r"(?i)\b(error|fail|warn|oops)", line)]
    return Outcome(
        PASSED,
        check("uname -srm").strip(),
        {"cmdline": check("cat /proc/cmdline").strip(), "lines_that_complain": len(wrong)},
        {"What complains": "\n".join(wrong) or "(nothing)", "The kernel's log": log},
    )


def drivers(context: Walk) -> Outcome:
    """Row 4, 6, 7: which drivers have found their device."""
    bound = sorted(context.board.check(LIST, 60).splitlines())
    controllers = context.board.check("ls /sys/class/udc").split()
    return Outcome(
        PASSED if controllers else FAILED,
        f"{len(bound)} bound" + ("" if controllers else "; there is no USB device controller"),
        {"usb_device_controllers": controllers},
        {"Bus, driver, device": "\n".join(bound)},
    )


def clocks(context: Walk) -> Outcome:
    """Row 12: temperature, and the CPU's clock idle and under load."""
    check = context.board.check
    place = "/sys/devices/system/cpu/cpu0/cpufreq"
    if context.board.run(f"[ -r {place}/scaling_cur_freq ]")[0] != 0:
        return Outcome(FAILED, "the kernel has no cpufreq for this CPU")
    read = f"cat {place}/scaling_cur_freq"
    idle = int(check(read))
    loaded = int(check(f"(timeout {LOAD_S} sh -c 'while :; do :; done' &) ; sleep 1; {read}"))
    figures: dict[str, Any] = {
        "idle_mhz": idle // 1000,
        "loaded_mhz": loaded // 1000,
        "most_mhz": int(check(f"cat {place}/cpuinfo_max_freq")) // 1000,
        "mailbox": context.board.run("[ -c /dev/vcio ]")[0] == 0,
    }
    status, said = context.board.run("cat /sys/class/thermal/thermal_zone0/temp")
    if status == 0:
        figures["temperature_c"] = int(said) / 1000
    right = loaded == int(figures["most_mhz"]) * 1000
    return Outcome(PASSED if right else FAILED, f"{loaded // 1000} MHz under load", figures)


# ---- What the PC has -----------------------------------------------------------------------------


def disks(context: Walk) -> Outcome:
    """Row 8: each disk that is exported is at the PC, and as large."""
    rows = context.board.exported()
    blocks = context.board.host.wait_for_blocks(len(rows), 60)
    context.secrets += [block.usb_serial for block in blocks]
    context.secrets += [str(row.get("serial") or "") for row in rows]
    sizes = sorted(block.size_bytes for block in blocks), sorted(row["size_bytes"] for row in rows)
    told = {row["name"]: {"kind": row["kind"], "bytes": row["size_bytes"]} for row in rows}
    texts = {"gadgetd scan": context.board.check("gadgetd scan", 60)}
    right = bool(rows) and sizes[0] == sizes[1]
    return Outcome(
        PASSED if right else FAILED,
        f"{len(rows)} exported, {len(blocks)} at the PC" + ("" if right else ": they differ"),
        {"disks": told},
        texts,
    )


def descriptors(context: Walk) -> Outcome:
    """Row 7: the gadget as the PC has read it."""
    (block, *_) = context.board.host.blocks()
    if not re.fullmatch(r"[\w.-]+", block.usb_serial):
        raise ValueError(f"the USB serial number {block.usb_serial!r} has characters of no number")
    said = context.board.host.check(DESCRIPTORS.format(serial=block.usb_serial))
    right = block.speed in ("480", "5000")
    return Outcome(
        PASSED if right else FAILED,
        f"{block.speed} Mbit/s",
        {"speed_mbit_s": block.speed},
        {"As the PC's sysfs has it, descriptors in hex": said},
    )


def read_speed(context: Walk) -> Outcome:
    """Row 11: how fast the PC reads, by the size of a read, past its cache."""
    (block, *_) = context.board.host.blocks()
    size = min(context.read_bytes, block.size_bytes)
    figures: dict[str, Any] = {}
    for each in BLOCKS:
        some = min(size, each * 2048)
        count = some // each
        begin = context.clock()
        said = context.board.host.check(
            f"LC_ALL=C dd if={block.device} of=/dev/null bs={each} count={count} iflag=direct 2>&1",
            300,
        )
        seconds = _seconds(said) or context.clock() - begin  # BusyBox's dd does not say
        figures[f"{each >> 10} KiB, MB/s"] = round(some / seconds / 1e6, 2)
    fastest = max(figures.values())
    return Outcome(PASSED, f"{fastest} MB/s at most, {block.name}", figures)


def _seconds(said: str) -> float:
    copied = COPIED.search(said)
    return float(copied[2].replace(",", ".")) if copied else 0.0


# ---- With a person -------------------------------------------------------------------------------


def screen(context: Walk) -> Outcome:
    """Row 6."""
    question = "Does HDMI show gadgetd's screen, whole and sharp?"
    return context.asked("screen", question, "HDMI does not show gadgetd's screen")


def led(context: Walk) -> Outcome:
    """Row 9: the pattern of exported disks."""
    question = "Has the ACT LED flashed three times when the disks came, and is it lit since?"
    return context.asked("led", question, "ACT has not shown the pattern of exported disks")


def pulls(context: Walk) -> Outcome:
    """Row 7: a cable that is pulled and plugged."""
    wanted = len(context.board.exported())
    times: list[float] = []
    for number in range(1, context.pulls + 1):
        context.done("pull", f"Pull the USB cable ({number} of {context.pulls}).")
        context.board.expect_host_without_disks(UNPLUG_S)
        context.done("plug", "Plug it in again; answer before you do.")
        begin = context.clock()
        context.board.host.wait_for_blocks(wanted, 60)
        times.append(round(context.clock() - begin, 2))
    figures = {"disks_back_s": times}
    return Outcome(PASSED, f"{len(times)} times, all disks back each time", figures)


def eject(context: Walk) -> Outcome:
    """Row 7, 9: eject at the PC, the word on the UART, the slow blinking."""
    board = context.board
    names = [row["name"] for row in board.exported()]
    since = board.uart.line.position
    for block in board.host.blocks():
        board.host.check(f"eject {block.device}", 60)
    board.uart.line.expect("SAFE TO UNPLUG", 60, since)
    blinks = context.person.answer("blink", "Does the ACT LED blink slowly now?")
    for name in names:
        board.check(f"gadgetd insert {name}", 60)
    told = {
        YES: "and slow blinking",
        NO: "but ACT does not blink slowly",
        SKIP: "ACT not looked at",
    }
    return Outcome(FAILED if blinks == NO else PASSED, f"SAFE TO UNPLUG, {told[blinks]}")


def poweroff(context: Walk) -> Outcome:
    """Row 10, the last: the board ends."""
    context.done("end", "May the board be switched off now, by its own command?")
    context.board.uart.line.send(b"poweroff\n")
    context.shell = False
    gone = context.person.answer("dark", "Is the board off, or is it back in its boot ROM?")
    if gone == SKIP:
        return Outcome(SKIPPED, "the command was given; nobody has looked what became of it")
    return Outcome(
        PASSED if gone == YES else FAILED, "the board is off" if gone == YES else "it is not off"
    )


STEPS = (
    Step("power_on", 11, "From rpiboot to the first disk", power_on, needs_shell=False),
    Step("login", 5, "The UART, and a login on it", login, needs_shell=False),
    Step("model", 3, "Model", model),
    Step("kernel", 2, "Kernel and its log", kernel),
    Step("drivers", 4, "Drivers", drivers),
    Step("disks", 8, "Disks", disks),
    Step("descriptors", 7, "The gadget as the PC sees it", descriptors),
    Step("read_speed", 11, "MB/s by the size of a read", read_speed),
    Step("clocks", 12, "Clock, temperature, mailbox", clocks),
    Step("screen", 6, "HDMI", screen),
    Step("led", 9, "ACT LED", led),
    Step("pulls", 7, "The cable pulled and plugged", pulls),
    Step("eject", 7, "Eject", eject),
    Step("poweroff", 10, "poweroff", poweroff),
)
KEYS = frozenset(("off", "power", "screen", "led", "pull", "plug", "blink", "end", "dark"))
"""What a person is asked for; docs/boards/README.md has the questions."""
