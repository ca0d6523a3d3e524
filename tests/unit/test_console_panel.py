"""What a person sees: both consoles, the LED and the log, kept going by the loop."""

from __future__ import annotations

import itertools
import os
import re
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from gadgetd.config.settings import Config, Consoles
from gadgetd.console import LOG_LINES, Panel
from gadgetd.status import Phase
from tests.unit.fakes import CM4, FakeLoop, open_fds
from tests.unit.statuses import UDC, nvme, status


class Desk:
    """A LED in a sysfs of its own and, in the place of consoles, pseudo-terminals."""

    def __init__(self, path: Path) -> None:
        self.sys = path / "sys"
        self.led = self.sys / "class" / "leds" / "ACT"
        self.led.mkdir(parents=True)
        (self.led / "brightness").write_text("0")
        (self.led / "max_brightness").write_text("1")
        (self.led / "trigger").write_text("none timer [mmc0] default-on")
        self.screen, self._screen_slave = os.openpty()
        self.uart, self._uart_slave = os.openpty()
        for fd in (self.screen, self.uart):
            os.set_blocking(fd, False)
        self.config = Config(
            consoles=Consoles(os.ttyname(self._screen_slave), os.ttyname(self._uart_slave))
        )
        self.loop = FakeLoop()
        self.panel = Panel(self.loop, CM4.model, sys=self.sys, dev=path / "dev")

    def read(self, fd: int) -> str:
        try:
            return os.read(fd, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def read_all_told(self) -> None:
        """Take from the UART all that the log has; the kernel passes a terminal's bytes on late."""
        told = ""
        while told.count('"seq":') < len(self.panel.log) or not told.endswith("\n"):
            assert select.select([self.uart], [], [], 10)[0], told
            told += self.read(self.uart)

    def brightness(self) -> str:
        return (self.led / "brightness").read_text()

    def close(self) -> None:
        self.panel.close()
        for fd in (self.screen, self._screen_slave, self.uart, self._uart_slave):
            os.close(fd)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_a_status_goes_to_screen_uart_led_and_log(desk: Desk) -> None:
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert "nvme0n1" in desk.read(desk.screen)
    assert "@gadgetd " in desk.read(desk.uart)
    assert desk.brightness() == "1"
    assert any("version 0.1.0" in line for line in desk.panel.log)


def test_the_uart_is_told_what_changed_once(desk: Desk) -> None:
    desk.panel.choose(desk.config)
    desk.panel.show(status())
    desk.read_all_told()
    desk.panel.show(status())
    desk.panel.show(status(controller=UDC._replace(state="suspended")))
    assert select.select([desk.uart], [], [], 10)[0]
    desk.loop.run_for(5)
    assert desk.read(desk.uart).count("@gadgetd") == 1


def test_a_status_that_says_nothing_gives_the_led_back(desk: Desk) -> None:
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert desk.brightness() == "1"
    desk.panel.show(status(phase=Phase.STOPPED))
    # A file keeps what stood behind a shorter write; the kernel's attribute does not.
    assert (desk.led / "trigger").read_text().startswith("mmc0")
    (desk.led / "brightness").write_text("of the trigger's")
    assert desk.loop.run_for(600) == 0
    assert desk.brightness() == "of the trigger's"
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert desk.brightness().startswith("1")


def test_led_none_gives_back_the_led_that_a_killed_daemon_used(desk: Desk) -> None:
    (desk.led / "trigger").write_text("none mmc0 [timer]\n")
    memory = desk.led.parent / "memory"
    memory.write_text("ACT mmc0\n")
    desk.panel._led_memory = memory
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none"), led="none"))
    assert (desk.led / "trigger").read_text().startswith("mmc0")


@pytest.mark.parametrize("wanted", ["auto", "ACT"])
def test_a_led_that_comes_late_is_found_and_says_what_there_is_to_say(
    desk: Desk, wanted: str
) -> None:
    later = desk.led.rename(desk.led.with_name("later"))
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none"), led=wanted))
    assert bool(desk.panel.advice) is (wanted == "ACT")
    desk.panel.show(status(nvme(0)))
    later.rename(desk.led)
    # Any uevent, so that of the LED too, has everything looked at and shown again.
    assert desk.panel.advice == ()
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert desk.brightness() == "1"


def test_a_led_that_left_and_came_back_shows_the_pattern_again(desk: Desk) -> None:
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    desk.panel.show(status(nvme(0)))
    later = desk.led.rename(desk.led.with_name("later"))
    desk.loop.run_for(5)
    (later / "brightness").write_text("0")
    later.rename(desk.led)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert desk.brightness() == "1"


def test_the_led_flashes_three_times_and_stays_lit(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, str]] = []
    write = os.write

    def watch(fd: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name == "brightness":
            seen.append((desk.loop.clock(), data.decode()))
        return write(fd, data)

    monkeypatch.setattr(os, "write", watch)
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(10)
    assert [value for _, value in seen] == ["0", "1"] * 3
    gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(seen)]
    assert gaps == pytest.approx([0.2] * 5, abs=0.01)


def test_once_all_is_shown_nothing_wakes_up(desk: Desk) -> None:
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(10)
    assert desk.loop.run_for(600) == 0


def test_the_same_status_again_is_no_news(desk: Desk) -> None:
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    desk.read_all_told()
    count = len(desk.panel.log)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert desk.read(desk.uart) == ""
    assert len(desk.panel.log) == count


def test_the_same_consoles_go_on_when_they_are_chosen_again(desk: Desk) -> None:
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    desk.read_all_told()
    fds = open_fds()
    desk.panel.choose(desk.config._replace(slots=3))
    assert open_fds() == fds
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert desk.read(desk.uart) == ""


def test_other_consoles_are_told_all_from_the_start(desk: Desk) -> None:
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert "version 0.1.0" in desk.read(desk.uart)
    assert "nvme0n1" in desk.read(desk.screen)


def test_events_are_numbered_from_the_daemons_start_whatever_becomes_of_the_consoles(
    desk: Desk,
) -> None:
    def numbers() -> list[int]:
        desk.loop.run_for(5)
        return [int(each) for each in re.findall(r'"seq":(\d+)', desk.read(desk.uart))]

    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    first = numbers()
    assert first[0] == 1
    desk.panel.choose(desk.config._replace(led="none"))
    desk.panel.show(status(nvme(0)))
    assert numbers() == []
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    assert numbers()[0] == first[-1] + 1


def test_consoles_and_leds_that_are_not_there_are_told(desk: Desk) -> None:
    consoles = Consoles(hdmi="/dev/null", uart="none")
    desk.panel.choose(Config(consoles=consoles, led="PWR"))
    told = [problem.message for problem in desk.panel.advice]
    assert told == [
        "consoles.hdmi: /dev/null is not there, or is no terminal",
        "there is no LED PWR",
    ]
    desk.panel.choose(desk.config)
    assert desk.panel.advice == ()


def test_another_led_gives_the_first_one_back(desk: Desk) -> None:
    other = desk.led.parent / "PWR"
    other.mkdir()
    (other / "brightness").write_text("0")
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    desk.panel.choose(desk.config._replace(led="PWR"))
    # A file keeps what stood behind a shorter write; the kernel's attribute does not.
    assert (desk.led / "trigger").read_text().startswith("mmc0")
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    assert (other / "brightness").read_text() == "1"


def test_on_a_board_without_consoles_and_leds_all_goes_on(tmp_path: Path) -> None:
    loop = FakeLoop()
    panel = Panel(loop, "", sys=tmp_path / "sys", dev=tmp_path / "dev")
    panel.choose(Config())
    panel.show(status(nvme(0)))
    loop.run_for(60)
    assert panel.log
    panel.close()


def test_a_uart_that_takes_nothing_is_waited_for_without_spinning(desk: Desk) -> None:
    desk.panel.choose(desk.config._replace(led="none"))
    for number in range(300):
        desk.panel.show(status(nvme(0), phase=Phase.FAILED, message=f"attempt {number}"))
        desk.loop.run_for(0.01)
    # Nobody has read so far, and the terminal is full.
    assert desk.loop.run_for(10) < 20
    text = ""
    for _ in range(200):
        text += desk.read(desk.uart)
        desk.loop.settle()
    assert "attempt 299" in text


def test_the_log_keeps_the_last_lines_with_their_time(desk: Desk) -> None:
    desk.panel.choose(desk.config._replace(consoles=Consoles("none", "none")))
    for number in range(LOG_LINES + 50):
        desk.panel.show(status(phase=Phase.FAILED, message=f"attempt {number}"))
    assert len(desk.panel.log) == LOG_LINES
    assert desk.panel.log[-1] == f"[{desk.loop.clock():10.3f}] attempt {LOG_LINES + 49}"


def test_closing_watches_nothing_and_keeps_the_light(desk: Desk) -> None:
    desk.panel.choose(desk.config)
    desk.panel.show(status(nvme(0)))
    desk.loop.run_for(5)
    desk.panel.close()
    assert desk.loop.watched == set()
    assert desk.loop.run_for(600) == 0
    assert desk.brightness() == "1"
