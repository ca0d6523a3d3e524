"""The activity LED: which one, and what it shows."""

from __future__ import annotations

import errno
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.errors import Problem
from gadgetd.led import BOUND, ERROR, SAFE, Blinker, Pattern, find, give_back, pattern_for
from gadgetd.status import Life, Phase
from tests.unit.statuses import nvme, status

CM4 = "Raspberry Pi Compute Module 4 Rev 1.1"


def make_led(sys_leds: Path, name: str, triggers: str = "none [mmc0] timer default-on") -> Path:
    led = sys_leds / name
    led.mkdir()
    (led / "trigger").write_text(triggers + "\n")
    (led / "brightness").write_text("0\n")
    (led / "max_brightness").write_text("255\n")
    return led


class Kernel:
    """Records writes with the time they happened at; fails as told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.writes: list[tuple[float, str, str]] = []
        self.missing: set[str] = set()

    def write(self, path: Path, value: str) -> None:
        if path.name in self.missing:
            raise OSError(errno.ENODEV, "gone")
        self.writes.append((self.now, path.name, value))

    def light(self) -> list[tuple[float, bool]]:
        return [(when, value != "0") for when, name, value in self.writes if name == "brightness"]


def run(blinker: Blinker, kernel: Kernel, pattern: Pattern, until: float, late: float = 0) -> None:
    due = blinker.start(pattern, kernel.now)
    while due is not None and due + late <= until:
        kernel.now = due + late
        due = blinker.step(kernel.now)


# --- which LED ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ACT", "led0"])
def test_the_activity_led_is_found_under_its_new_and_its_old_name(
    tmp_path: Path, name: str
) -> None:
    make_led(tmp_path, "PWR")
    led = make_led(tmp_path, name)
    assert find(tmp_path, "auto", CM4) == (led, None)


def test_a_board_without_an_activity_led_uses_the_one_that_it_has(tmp_path: Path) -> None:
    led = make_led(tmp_path, "PWR")
    assert find(tmp_path, "auto", "Raspberry Pi 400 Rev 1.0") == (led, None)
    assert find(tmp_path, "auto", "Raspberry Pi 4 Model B Rev 1.4") == (None, None)
    assert find(tmp_path, "auto", "Raspberry Pi Compute Module 5 Rev 1.0") == (None, None)


def test_no_led_is_no_error(tmp_path: Path) -> None:
    assert find(tmp_path, "auto", CM4) == (None, None)
    assert find(tmp_path / "missing", "auto", CM4) == (None, None)
    make_led(tmp_path, "ACT")
    assert find(tmp_path, "none", CM4) == (None, None)


def test_the_yaml_can_name_another_led(tmp_path: Path) -> None:
    make_led(tmp_path, "ACT")
    led = make_led(tmp_path, "mmc0::")
    assert find(tmp_path, "mmc0::", CM4) == (led, None)


def test_a_named_led_that_is_missing_is_advice_that_lists_the_others(tmp_path: Path) -> None:
    make_led(tmp_path, "ACT")
    make_led(tmp_path, "PWR")
    led, advice = find(tmp_path, "PRW", CM4)
    assert led is None
    assert advice is not None
    assert "PRW" in advice.message
    assert "ACT, PWR" in advice.hint


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", "/etc"])
def test_a_name_never_leads_out_of_the_leds(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    leds = tmp_path / "leds"
    leds.mkdir()
    assert find(leds, name, CM4)[0] is None


@pytest.mark.parametrize(
    "model",
    [
        "Raspberry Pi Compute Module 3 Rev 1.0",
        "Raspberry Pi Compute Module 3 Plus Rev 1.0",
        "Raspberry Pi Compute Module Rev 1.0",
        "Raspberry Pi Compute Module",
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "ACT"])
def test_where_the_led_switches_the_emmc_it_is_never_touched(
    tmp_path: Path, model: str, wanted: str
) -> None:
    make_led(tmp_path, "ACT")
    led, advice = find(tmp_path, wanted, model)
    assert led is None
    assert (advice is not None) is (wanted == "ACT")


@pytest.mark.parametrize(
    "model",
    [
        CM4,
        "Raspberry Pi Compute Module 4S Rev 1.0",
        "Raspberry Pi Compute Module 5 Lite Rev 1.0",
        "Raspberry Pi Compute Module 10 Rev 1.0",
        "Raspberry Pi 4 Model B Rev 1.4",
        "Some other Compute Module 3",
        "",
    ],
)
def test_the_led_of_other_boards_is_used(tmp_path: Path, model: str) -> None:
    led = make_led(tmp_path, "ACT")
    assert find(tmp_path, "auto", model) == (led, None)


# --- patterns -------------------------------------------------------------------------------


def test_after_the_bind_three_flashes_then_steady_on(tmp_path: Path) -> None:
    kernel = Kernel()
    run(Blinker(make_led(tmp_path, "ACT"), kernel.write), kernel, BOUND, until=100)
    assert kernel.writes[0] == (0.0, "trigger", "none")
    light = kernel.light()
    assert [lit for _, lit in light] == [False, True] * 3
    assert [when for when, _ in light] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


@given(st.lists(st.floats(0, 5), min_size=6, max_size=6))
def test_a_late_step_never_shortens_a_flash(delays: list[float]) -> None:
    kernel = Kernel()
    blinker = Blinker(Path("/nowhere"), kernel.write)
    due = blinker.start(BOUND, 0.0)
    for delay in delays:
        if due is not None:
            kernel.now = due + delay
            due = blinker.step(kernel.now)
    times = [when for when, _ in kernel.light()]
    assert len(times) == 6
    assert all(after - before >= 0.2 - 1e-9 for before, after in pairwise(times))


def test_a_step_before_its_time_does_nothing(tmp_path: Path) -> None:
    kernel = Kernel()
    blinker = Blinker(make_led(tmp_path, "ACT"), kernel.write)
    due = blinker.start(BOUND, 0.0)
    assert blinker.step(0.1) == due
    assert len(kernel.light()) == 1


@pytest.mark.parametrize(("pattern", "on", "off"), [(ERROR, "100", "100"), (SAFE, "1000", "1000")])
def test_the_kernel_blinks_repeating_patterns_without_waking_the_daemon(
    tmp_path: Path, pattern: Pattern, on: str, off: str
) -> None:
    kernel = Kernel()
    blinker = Blinker(make_led(tmp_path, "ACT"), kernel.write)
    assert blinker.start(pattern, 0.0) is None
    assert [(name, value) for _, name, value in kernel.writes][-3:] == [
        ("trigger", "timer"),
        ("delay_on", on),
        ("delay_off", off),
    ]


@pytest.mark.parametrize("how", ["no timer", "no delays", "no triggers"])
def test_without_the_timer_trigger_the_pattern_is_the_same(tmp_path: Path, how: str) -> None:
    kernel = Kernel()
    led = make_led(tmp_path, "ACT", "none [mmc0]" if how == "no timer" else "none [mmc0] timer")
    if how == "no delays":
        kernel.missing = {"delay_on"}
    if how == "no triggers":
        (led / "trigger").unlink()
        kernel.missing = {"trigger"}
    run(Blinker(led, kernel.write), kernel, SAFE, until=10)
    light = [entry for entry in kernel.light() if entry[0] > 0]
    assert [lit for _, lit in light[:4]] == [False, True, False, True]
    assert [when for when, _ in light[:4]] == pytest.approx([1, 2, 3, 4])


@pytest.mark.parametrize(
    "pattern",
    [
        Pattern("short, short, long", ((True, 0.1), (False, 0.1), (True, 1.0)), repeats=True),
        Pattern("dark first", ((False, 0.1), (True, 1.0)), repeats=True),
        Pattern("lit", ((True, 1.0),), repeats=True),
    ],
)
def test_a_pattern_that_the_timer_trigger_does_not_know_is_blinked_step_by_step(
    tmp_path: Path, pattern: Pattern
) -> None:
    kernel = Kernel()
    run(Blinker(make_led(tmp_path, "ACT"), kernel.write), kernel, pattern, until=10)
    assert ("trigger", "timer") not in {(name, value) for _, name, value in kernel.writes}
    light = [lit for _, lit in kernel.light()]
    steps = [lit for lit, _ in pattern.steps]
    assert light[: 2 * len(steps)] == steps * 2


def test_the_patterns_cannot_be_mistaken_for_each_other() -> None:
    assert len({BOUND.steps, ERROR.steps, SAFE.steps}) == 3
    assert not BOUND.repeats
    assert ERROR.repeats
    assert SAFE.repeats
    assert SAFE.steps[0][1] >= 5 * ERROR.steps[0][1]


def test_the_same_pattern_goes_on_undisturbed(tmp_path: Path) -> None:
    kernel = Kernel()
    blinker = Blinker(make_led(tmp_path, "ACT"), kernel.write)
    run(blinker, kernel, BOUND, until=100)
    count = len(kernel.writes)
    assert blinker.start(BOUND, 101.0) is None
    assert len(kernel.writes) == count


def test_a_new_pattern_replaces_the_running_one_at_once(tmp_path: Path) -> None:
    kernel = Kernel()
    blinker = Blinker(make_led(tmp_path, "ACT"), kernel.write)
    blinker.start(ERROR, 0.0)
    kernel.now = 5.0
    assert blinker.start(BOUND, 5.0) == pytest.approx(5.2)
    assert (5.0, "trigger", "none") in kernel.writes


def test_the_kernel_s_blinking_begins_anew_after_an_earlier_pattern(tmp_path: Path) -> None:
    # `none` ends what blinks already, whose delays the trigger would go on with for a while.
    led = make_led(tmp_path, "ACT", "none [mmc0] timer")
    for delay in ("delay_on", "delay_off"):
        (led / delay).touch()
    kernel = Kernel()
    Blinker(led, kernel.write).start(SAFE, 0.0)
    assert [(what, value) for _, what, value in kernel.writes] == [
        ("trigger", "none"),
        ("brightness", "255"),
        ("trigger", "timer"),
        ("delay_on", "1000"),
        ("delay_off", "1000"),
    ]


def test_a_led_that_vanishes_is_a_flag_and_comes_back_with_the_next_pattern(
    tmp_path: Path,
) -> None:
    kernel = Kernel()
    blinker = Blinker(make_led(tmp_path, "ACT"), kernel.write)
    due = blinker.start(BOUND, 0.0)
    kernel.missing = {"trigger", "brightness"}
    assert due is not None
    assert blinker.step(due) is None
    assert blinker.failed
    assert blinker.start(ERROR, 1.0) is None
    blinker.release()
    kernel.missing = set()
    assert blinker.start(BOUND, 2.0) is not None
    assert not blinker.failed


def test_without_a_led_nothing_happens() -> None:
    blinker = Blinker(None)
    assert blinker.start(BOUND, 0.0) is None
    assert blinker.step(1.0) is None
    blinker.release()
    assert not blinker.failed


def test_the_real_files_are_written_and_the_trigger_is_given_back(tmp_path: Path) -> None:
    led = make_led(tmp_path, "ACT")
    blinker = Blinker(led)
    due = blinker.start(BOUND, 0.0)
    assert (led / "trigger").read_text().startswith("none")
    while due is not None:
        due = blinker.step(due)
    assert (led / "brightness").read_text().startswith("255")
    blinker.release()
    assert (led / "trigger").read_text().startswith("mmc0")


@pytest.mark.parametrize("pattern", [BOUND, SAFE])
def test_a_killed_daemon_s_successor_gives_back_the_trigger_of_before_both(
    tmp_path: Path, pattern: Pattern
) -> None:
    led, kept = make_led(tmp_path, "ACT"), tmp_path / "run" / "led"
    for delay in ("delay_on", "delay_off"):
        (led / delay).touch()
    Blinker(led, kept=kept).start(pattern, 0.0)
    in_use = "timer" if pattern.repeats else "none"
    assert (led / "trigger").read_text().startswith(in_use)
    # The kernel's file then shows all of them, with the one that the killed daemon had chosen.
    (led / "trigger").write_text("none mmc0 timer".replace(in_use, f"[{in_use}]") + "\n")
    successor = Blinker(led, kept=kept)
    successor.start(BOUND, 0.0)
    successor.release()
    assert (led / "trigger").read_text().startswith("mmc0")
    assert not kept.exists()


def test_a_killed_daemon_s_pattern_ends_when_its_successor_has_nothing_to_say(
    tmp_path: Path,
) -> None:
    led, kept = make_led(tmp_path, "ACT"), tmp_path / "led"
    Blinker(led, kept=kept).start(SAFE, 0.0)
    (led / "trigger").write_text("none mmc0 [timer]\n")
    Blinker(led, kept=kept).release()
    assert (led / "trigger").read_text().startswith("mmc0")


@pytest.mark.parametrize("name", ["ACT", "PWR"])
def test_a_led_that_is_not_used_any_more_is_given_back(tmp_path: Path, name: str) -> None:
    led, kept = make_led(tmp_path, name), tmp_path / "led"
    Blinker(led, kept=kept).start(SAFE, 0.0)
    (led / "trigger").write_text("none mmc0 [timer]\n")
    give_back(tmp_path, kept)
    assert (led / "trigger").read_text().startswith("mmc0")
    assert not kept.exists()


@pytest.mark.parametrize("remembered", ["", "../x mmc0\n", "GONE mmc0\n", "\xff", ". mmc0"])
def test_what_cannot_be_given_back_is_left(tmp_path: Path, remembered: str) -> None:
    make_led(tmp_path, "ACT")
    (tmp_path / "led").write_text(remembered)
    give_back(tmp_path, tmp_path / "led")
    give_back(tmp_path, tmp_path / "nothing")
    give_back(tmp_path, None)


@pytest.mark.parametrize("remembered", ["ACT default-on\n", "PWR default-on\n", "ACT", "\xff", ""])
def test_a_trigger_that_somebody_else_set_counts_more_than_what_is_remembered(
    tmp_path: Path, remembered: str
) -> None:
    led, kept = make_led(tmp_path, "ACT"), tmp_path / "led"
    kept.write_text(remembered)
    blinker = Blinker(led, kept=kept)
    blinker.start(BOUND, 0.0)
    assert kept.read_text() == "ACT mmc0\n"
    blinker.release()
    assert (led / "trigger").read_text().startswith("mmc0")


def test_a_led_that_had_a_trigger_of_ours_before_us_gets_it_back(tmp_path: Path) -> None:
    led = make_led(tmp_path, "ACT", "none mmc0 [timer]")
    blinker = Blinker(led, kept=tmp_path / "led")
    blinker.start(BOUND, 0.0)
    blinker.release()
    assert (led / "trigger").read_text().startswith("timer")


@pytest.mark.parametrize(
    ("shown", "pattern"),
    [
        (status(nvme(0)), BOUND),
        (status(nvme(0), safe_to_unplug=True), SAFE),
        (status(phase=Phase.CONFIG_ERROR), ERROR),
        (status(phase=Phase.FAILED), ERROR),
        (status(phase=Phase.WAITING_FOR_UDC, problem=Problem("no UDC")), ERROR),
        (status(phase=Phase.WAITING_FOR_DISKS), None),
        (status(phase=Phase.STOPPED), None),
        (status(nvme(0)._replace(life=Life.FAILED), safe_to_unplug=True), ERROR),
    ],
)
def test_the_led_says_what_the_status_says(shown: object, pattern: Pattern | None) -> None:
    assert pattern_for(shown) is pattern  # type: ignore[arg-type]
