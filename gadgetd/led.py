"""Patterns on the activity LED, driven by the daemon's poll loop; repeating ones by the kernel.

docs/led.md shows the patterns to people; the table here is the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gadgetd import sysfs
from gadgetd.config.settings import AUTO, NONE
from gadgetd.errors import Problem
from gadgetd.frozen import Frozen
from gadgetd.status import Life, Phase, Status

SYS_LEDS = Path("/sys/class/leds")
ACTIVITY_LEDS = ("ACT", "led0")
"""The ACT LED's name on kernels from 6.1 on, and before."""
_ONLY_LED = {"Raspberry Pi 400": "PWR"}
"""Boards that have no ACT LED, by how their model begins, and the one that they have.

Source: bcm2711-rpi-400.dts, which deletes led_act and puts led_pwr on the same line, GPIO 42.
"""
_OURS = ("none", "timer")
"""The triggers that a pattern uses."""


def find(
    sys_leds: Path = SYS_LEDS, wanted: str = AUTO, board_model: str = ""
) -> tuple[Path | None, Problem | None]:
    """Give the LED to use, and what to tell the user about it, if anything.

    No LED is no error. On a board whose LED line also switches the eMMC there is none to use,
    whatever the configuration names.
    """
    if wanted == NONE:
        return None, None
    if _shares_line_with_emmc(board_model):
        if wanted == AUTO:
            return None, None
        return None, Problem(
            f"LED {wanted} is not used: on this board its line switches the eMMC off",
            "remove led from gadgetd.yaml",
        )
    only = [led for model, led in _ONLY_LED.items() if board_model.startswith(model)]
    names = (*ACTIVITY_LEDS, *only) if wanted == AUTO else (wanted,)
    for name in names:
        # A name is a directory's name; one with a slash would lead out of sys_leds.
        if name not in ("", ".", "..") and "/" not in name and (sys_leds / name).is_dir():
            return sys_leds / name, None
    if wanted == AUTO:
        return None, None
    try:
        there = ", ".join(sorted(path.name for path in sys_leds.iterdir()))
    except OSError:
        there = ""
    hint = f"led in gadgetd.yaml can be auto, none, or one of: {there}"
    return None, Problem(
        f"there is no LED {wanted}", hint if there else "this board has no LED; remove led"
    )


def _shares_line_with_emmc(model: str) -> bool:
    """Say whether GPIO47 is both the LED and the eMMC's enable: Compute Modules 1, 3 and 3+.

    Compute Module 1's device tree has the ACT LED on GPIO47 as well ("Raspberry Pi Compute
    Module Rev 1.0", no number), so a Compute Module is trusted only if it names itself 4 or later.
    """
    maker, module, rest = model.partition("Compute Module")
    if not module or "Raspberry Pi" not in maker:
        return False
    generation = (rest.split() or [""])[0].removesuffix("S")
    return not (generation.isdecimal() and int(generation) >= 4)


class Pattern(Frozen):
    """Steps of (lit, seconds). `repeats`, or else the last step's light stays."""

    name: str
    steps: tuple[tuple[bool, float], ...]
    repeats: bool = False


BOUND = Pattern("bound", ((False, 0.2), (True, 0.2)) * 3)
"""The disks are exported: three flashes, then steady, as Raspberry Pi's gadget does."""
ERROR = Pattern("error", ((True, 0.1), (False, 0.1)), repeats=True)
"""Nothing is exported, or a disk lost data, and a person has to act: fast flicker, without end."""
SAFE = Pattern("safe", ((True, 1.0), (False, 1.0)), repeats=True)
"""Safe to unplug: slow and even, a second lit, a second dark."""


def pattern_for(status: Status) -> Pattern | None:
    """Give what the LED says about a status; None where it keeps what it says."""
    lost = any(row.data_lost or row.life is Life.FAILED for row in status.disks)
    if lost or status.phase in (Phase.CONFIG_ERROR, Phase.FAILED):
        return ERROR
    if status.safe_to_unplug:
        return SAFE
    if status.phase is Phase.EXPORTED:
        return BOUND
    return ERROR if status.problem else None


class Blinker:
    """Shows patterns on a LED, a step at a time; the poll loop calls `step` when it is due.

    A repeating pattern is handed to the kernel's `timer` trigger where there is one: it blinks
    without waking the daemon, and goes on if the daemon hangs. A step's time counts from when it
    was really written, so a late one is never followed by a flash too short to see. I/O errors
    end the pattern and set `failed`; nothing is raised. Times are seconds of a monotonic clock.

    `kept` is a file that remembers the LED's own trigger, as `ACT mmc0`, while a pattern is shown:
    a daemon that is killed leaves `none` or `timer` behind, which its successor would take for it.
    """

    def __init__(
        self,
        led: Path | None,
        write: Callable[[Path, str], None] = sysfs.write,
        *,
        kept: Path | None = None,
    ) -> None:
        self._led = led
        self._write = write
        self._kept = kept
        self._pattern: Pattern | None = None
        self._next = 0
        self._due: float | None = None
        self._trigger_before: str | None = None
        self._bright = "1"
        self.failed = False
        """The LED could not be written to; the next `start` tries again."""

    @property
    def has_led(self) -> bool:
        """Whether it was given a LED."""
        return self._led is not None

    def start(self, pattern: Pattern, now: float) -> float | None:
        """Show a pattern; the same one goes on undisturbed.

        Gives the time of the next step, as `step` does.
        """
        if self._led is None or (pattern is self._pattern and not self.failed):
            return self._due
        self._pattern, self._next, self._due = pattern, 0, now
        self.failed = False
        triggers = self._triggers(self._led)
        if "timer" in triggers and self._blink_by_kernel(self._led, pattern):
            self._due = None
            return None
        try:
            if triggers:
                self._write(self._led / "trigger", "none")
        except OSError:
            self._fail()
            return None
        return self.step(now)

    def step(self, now: float) -> float | None:
        """Take the step that is due, if one is; give the time of the next one, if any."""
        if self._due is None or now < self._due or self._pattern is None or self._led is None:
            return self._due
        lit, seconds = self._pattern.steps[self._next]
        try:
            self._write(self._led / "brightness", self._bright if lit else "0")
        except OSError:
            self._fail()
            return None
        self._next += 1
        self._due = now + seconds
        if self._next == len(self._pattern.steps):
            self._next = 0
            if not self._pattern.repeats:
                self._due = None
        return self._due

    def release(self) -> None:
        """Give the LED back to the trigger that it had before, also before one that was killed."""
        if self._led is not None:
            if self._trigger_before is None and self._remembered(self._led):
                self._triggers(self._led)
            if self._trigger_before is not None:
                try:
                    self._write(self._led / "trigger", self._trigger_before)
                except OSError:
                    self.failed = True
                else:
                    self._remember("")
        self._pattern, self._due, self._trigger_before = None, None, None

    def _triggers(self, led: Path) -> list[str]:
        """Give the triggers that the kernel has for it, and remember the one in use."""
        try:
            self._bright = str(int((led / "max_brightness").read_text("ascii", "replace")))
        except (OSError, ValueError):
            self._bright = "1"
        try:
            triggers = (led / "trigger").read_text("ascii", "replace").split()
        except OSError:
            # A kernel without triggers; or the LED is gone, and then the brightness is too.
            return []
        names = [trigger.strip("[]") for trigger in triggers]
        if self._trigger_before is None:
            before = next((t[1:-1] for t in triggers if t.startswith("[")), "none")
            if before in _OURS and (remembered := self._remembered(led)) in names:
                before = remembered
            self._trigger_before = before
            self._remember(f"{led.name} {before}\n")
        return names

    def _remembered(self, led: Path) -> str:
        """Give the trigger that this LED had before a killed daemon's pattern; empty if unknown."""
        try:
            text = self._kept.read_text("utf-8", "replace") if self._kept else ""
        except OSError:
            return ""
        name, _, trigger = text.strip().partition(" ")
        return trigger if name == led.name else ""

    def _remember(self, text: str) -> None:
        # Without the file the LED still tells the truth, and only a crash loses its trigger.
        if self._kept is not None:
            with suppress(OSError):
                if text:
                    self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._kept.write_text(text, "utf-8")
                else:
                    self._kept.unlink()

    def _blink_by_kernel(self, led: Path, pattern: Pattern) -> bool:
        """Let the `timer` trigger blink, delays in milliseconds; say whether it does.

        It knows one time lit and one dark, and begins lit; any other pattern is not for it.
        Source: drivers/leds/trigger/ledtrig-timer.c; Documentation/leds/leds-class.rst.
        """
        if not pattern.repeats or [lit for lit, _ in pattern.steps] != [True, False]:
            return False
        (_, on_s), (_, off_s) = pattern.steps
        try:
            # `none` first: it ends an earlier pattern at once.
            self._write(led / "trigger", "none")
            self._write(led / "brightness", self._bright)
            self._write(led / "trigger", "timer")
            self._write(led / "delay_on", str(round(on_s * 1000)))
            self._write(led / "delay_off", str(round(off_s * 1000)))
        except OSError:
            return False
        return True

    def _fail(self) -> None:
        self.failed = True
        self._due = None


def give_back(sys_leds: Path, kept: Path | None) -> None:
    """Give the LED that a killed daemon used its trigger back, whichever is used from now on."""
    try:
        name = kept.read_text("utf-8", "replace").partition(" ")[0] if kept else ""
    except OSError:
        return
    if name not in ("", ".", "..") and "/" not in name and (sys_leds / name).is_dir():
        Blinker(sys_leds / name, kept=kept).release()
