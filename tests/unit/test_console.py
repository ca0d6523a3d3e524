"""What HDMI shows, and which terminals are used."""

from __future__ import annotations

import errno
import os
import re
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.console import Console, hdmi_device, uart_device
from gadgetd.errors import Problem
from gadgetd.show.events import events
from gadgetd.show.layout import layout
from gadgetd.show.screen import Screen
from gadgetd.show.tty import open_terminal
from gadgetd.status import Controller, Life, Phase, Status
from tests.unit.statuses import PATIENT, STATUSES, left_out, nvme, status


def render(status: Status, columns: int, rows: int) -> list[str]:
    return [line for line, _ in layout(status, columns, rows)]


FULL_SPEED = Problem("the link is full-speed: writing will be slow", "use another cable")


def screen_text(*lines: str) -> str:
    return "\n".join(lines)


def words_of(shown: Status) -> str:
    return " ".join(" ".join(render(shown, 80, 25)).split())


# --- render ---------------------------------------------------------------------------------


@PATIENT
@given(STATUSES, st.integers(1, 200), st.integers(1, 60))
def test_any_status_fits_any_screen_as_printable_ascii(
    shown: Status, columns: int, rows: int
) -> None:
    lines = render(shown, columns, rows)
    assert len(lines) <= rows
    for line in lines:
        assert len(line) <= columns
        assert all(" " <= character <= "~" for character in line)


@PATIENT
@given(STATUSES)
def test_safe_to_unplug_stands_on_every_80x25_screen_where_it_is_true(shown: Status) -> None:
    shown = shown._replace(message="", problem=None, advice=(), disks=shown.disks)
    lines = screen_text(*render(shown._replace(safe_to_unplug=True), 80, 25))
    assert "SAFE TO UNPLUG" in lines


@pytest.mark.parametrize("count", [1, 10, 32, 100])
@pytest.mark.parametrize("safe", [False, True])
def test_problem_advice_and_safe_are_never_cut_for_disks(count: int, safe: bool) -> None:
    problem = Problem("x" * 200, "do this")
    shown = status(
        *(nvme(number) for number in range(count)),
        problem=problem,
        advice=(FULL_SPEED,),
        safe_to_unplug=safe,
    )
    for columns, rows in ((80, 25), (80, 12), (40, 25), (240, 67)):
        joined = "".join(line.strip() for line in render(shown, columns, rows))
        assert joined.count("x") >= 200
        assert "What to do: do this" in joined
        assert "full-speed" in joined
        assert ("SAFE TO UNPLUG" in joined) is safe


def test_every_one_of_ten_disks_has_its_row_at_80x25() -> None:
    shown = status(*(nvme(number) for number in range(10)), left_out())
    text = screen_text(*render(shown, 80, 25))
    for number in range(10):
        assert re.search(rf"^ +{number} +nvme{number}n1 +NVMe .* 500 GB ", text, re.M)
    assert "sda  USB 31.3 GB: left out, mounted on /mnt" in text
    waits = left_out("sdb", "waits until the host lets go")._replace(waits=True)
    text = screen_text(*render(status(nvme(0), waits), 80, 25))
    assert "sdb  USB 31.3 GB: not yet, waits until the host lets go" in text


@pytest.mark.parametrize("safe", [False, True])
def test_thirty_two_disks_are_counted_where_they_do_not_fit(safe: bool) -> None:
    shown = status(*(nvme(number) for number in range(32)), left_out(), safe_to_unplug=safe)
    lines = render(shown, 80, 25)
    rows = [line for line in lines if "nvme" in line]
    more = next(line for line in lines if line.startswith("... and "))
    assert more == f"... and {33 - len(rows)} more: gadgetd status"
    assert len(rows) >= 14
    assert rows[0].split()[:2] == ["0", "nvme0n1"]
    # With room, all of them.
    assert sum("nvme" in line for line in render(shown, 80, 50)) == 32


def test_exported_disks_come_first_in_lun_order() -> None:
    shown = status(left_out("sdc"), nvme(1), nvme(0), left_out("sdb"))
    names = [word for line in render(shown, 80, 25) for word in line.split() if word[0] in "lns"]
    found = [name for name in names if name in ("nvme0n1", "nvme1n1", "sdc", "sdb")]
    assert found == ["nvme0n1", "nvme1n1", "sdc", "sdb"]


@pytest.mark.parametrize("name", ["loop0", "ram15", "zram0", "nullb1"])
def test_a_device_of_the_kernel_s_own_takes_no_room_on_the_screen(name: str) -> None:
    shown = status(nvme(0), left_out("sdb"), left_out(name))
    lines = render(shown, 80, 25)
    assert not [line for line in lines if name in line]
    assert [line for line in lines if "sdb" in line]
    # What is exported is shown, whatever it is.
    odd = nvme(0)._replace(disk=nvme(0).disk._replace(name=name))
    assert [line for line in render(status(odd), 80, 25) if name in line]


def test_the_screen_says_version_board_controller_speed_and_how_to_get_a_shell() -> None:
    lines = render(status(nvme(0)), 80, 25)
    assert lines[0] == "gadgetd 0.1.0  Raspberry Pi Compute Module 4 Rev 1.1  serial ...a1b2c3d4"
    assert "USB controller fe980000.usb: connected, high-speed (480 Mb/s)" in lines
    assert lines[-1].startswith("UART or Alt+F2: log in as root, no password.")


@pytest.mark.parametrize(
    ("state", "speed", "words"),
    [
        ("not attached", "UNKNOWN", "no host: cable out, or host off"),
        ("configured", "full-speed", "connected, full-speed (12 Mb/s)"),
        ("configured", "super-speed", "connected, super-speed (5 Gb/s)"),
        # A link that may not be there has no speed.
        ("suspended", "high-speed", "suspended: host asleep, or cable out"),
        ("default", "high-speed", "not set up by a host, or no more"),
        ("not attached", "high-speed", "no host: cable out, or host off"),
        ("strange", "", "strange"),
    ],
)
def test_host_state_is_told_in_words(state: str, speed: str, words: str) -> None:
    shown = status(controller=Controller("udc", state, speed))
    assert f"USB controller udc: {words}" in render(shown, 100, 25)


def test_a_configuration_error_names_file_line_column_key_and_what_was_expected() -> None:
    problem = Problem(
        "unknown kind 'nvm'", "correct it", "/etc/gadgetd.yaml", 12, 9, "disks[0].kind", "emmc, sd"
    )
    shown = status(phase=Phase.CONFIG_ERROR, message="nothing is exported", problem=problem)
    text = words_of(shown)
    expected = "/etc/gadgetd.yaml:12:9: disks[0].kind: unknown kind 'nvm'; expected emmc, sd"
    assert expected in text
    # The sentence of ConfigError has it all already; nothing is said twice.
    sentence = problem._replace(message=expected)
    assert words_of(shown._replace(problem=sentence)) == text


def test_an_escape_sequence_in_a_model_shows_as_harmless_characters() -> None:
    row = nvme(0)
    evil = row._replace(disk=row.disk._replace(model="\x1b[2JEvil\x9b5m\nDisk\u2122"))
    text = screen_text(*render(status(evil), 120, 25))
    assert "?[2JEvil?5m Disk?" in text


@pytest.mark.parametrize("life", list(Life))
def test_every_life_has_words(life: Life) -> None:
    row = nvme(0)._replace(life=life, written_bytes=2_000_000, rate_bytes_s=1_500_000)
    line = next(line for line in render(status(row), 80, 25) if "nvme0n1" in line)
    assert line.split(" rw ")[1].strip()


# --- Screen ---------------------------------------------------------------------------------


class Terminal:
    """As much of a Linux console as the screen uses. Anything else is a failed test."""

    def __init__(self, columns: int = 80, rows: int = 25) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.wraps = True

    def feed(self, data: bytes) -> None:
        text = data.decode("ascii")
        for match in re.finditer(r"\x1b(\[[\d;?]*[A-Za-z\]])|([ -~])|(.)", text, re.S):
            sequence, character, other = match.groups()
            assert not other, f"unexpected {other!r}"
            if character:
                assert self.column < self.columns or not self.wraps
                self.cells[self.row][min(self.column, self.columns - 1)] = character
                self.column += 1
            else:
                self._control(sequence)

    def _control(self, sequence: str) -> None:
        argument = sequence[1:-1]
        column = min(self.column, self.columns - 1)
        match sequence[-1]:
            case "H":
                self.row, self.column = int(argument or 1) - 1, 0
                assert 0 <= self.row < self.rows
            case "K":
                self.cells[self.row][column:] = [" "] * (self.columns - column)
            case "J":
                self.cells[self.row][column:] = [" "] * (self.columns - column)
                for row in range(self.row + 1, self.rows):
                    self.cells[row] = [" "] * self.columns
            case "l":
                self.wraps = self.wraps and argument != "?7"
            case "m" | "h" | "]":
                pass
            case _:
                raise AssertionError(sequence)

    @property
    def text(self) -> list[str]:
        lines = ["".join(row).rstrip() for row in self.cells]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Harness:
    """A Screen on a Terminal: what is written, and what the system calls answer."""

    def __init__(self) -> None:
        self.terminal = Terminal()
        self.written: list[bytes] = []
        self.errors: list[OSError] = []
        self.opened = 0
        self.open_error: OSError | None = None
        self.screen = Screen("/dev/tty1", open_fd=self.open, write=self.write)

    def open(self, path: str) -> int:
        assert path == "/dev/tty1"
        if self.open_error:
            raise self.open_error
        self.opened += 1
        return os.open(os.devnull, os.O_WRONLY)

    def write(self, _fd: int, data: bytes) -> int:
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(data)
        self.terminal.feed(data)
        return len(data)


def fits(shown: Status) -> list[str]:
    return [line.rstrip() for line in render(shown, 80, 25)]


@PATIENT
@given(st.lists(STATUSES, min_size=1, max_size=6))
def test_whatever_came_before_the_screen_shows_the_last_status(shown: list[Status]) -> None:
    harness = Harness()
    for now, each in enumerate(shown):
        harness.screen.show(each, float(now))
        assert harness.terminal.text == fits(each)
    harness.screen.close()


def test_while_bytes_flow_only_the_changed_line_is_written_again() -> None:
    harness = Harness()
    rows = [nvme(number)._replace(life=Life.WRITING) for number in range(3)]
    harness.screen.show(status(*rows), 0.0)
    rows[1] = rows[1]._replace(written_bytes=5_000_000, rate_bytes_s=5_000_000)
    harness.written.clear()
    harness.screen.show(status(*rows), 1.0)
    (update,) = harness.written
    assert b"nvme1n1" in update
    assert b"nvme0n1" not in update
    assert len(update) < 120
    assert harness.terminal.text == fits(status(*rows))


def test_traffic_redraws_at_most_twice_a_second_and_the_last_word_is_drawn() -> None:
    harness = Harness()
    for step in range(100):
        row = nvme(0)._replace(life=Life.WRITING, written_bytes=step * 10**6)
        harness.screen.show(status(row), step / 50)
    assert len(harness.written) <= 5
    due = harness.screen.next_draw(1.99)
    assert due is not None
    assert due <= 2.5
    harness.screen.tick(due)
    assert harness.terminal.text == fits(status(row))
    assert harness.screen.next_draw(due) is None


def test_nothing_is_written_or_due_while_nothing_changes() -> None:
    harness = Harness()
    harness.screen.show(status(nvme(0)), 0.0)
    harness.written.clear()
    for now in range(1, 10):
        harness.screen.show(status(nvme(0)), float(now))
        harness.screen.tick(float(now))
    assert harness.written == []
    assert harness.screen.next_draw(10.0) is None


def test_safe_to_unplug_is_taken_back_without_delay() -> None:
    harness = Harness()
    harness.screen.show(status(nvme(0), safe_to_unplug=True), 0.0)
    harness.screen.show(status(nvme(0), safe_to_unplug=False), 0.01)
    assert not any("SAFE" in line for line in harness.terminal.text)


def test_a_missing_terminal_is_tried_again_at_the_next_change_only() -> None:
    harness = Harness()
    harness.open_error = FileNotFoundError(errno.ENOENT, "no tty1")
    harness.screen.show(status(nvme(0)), 0.0)
    assert harness.screen.next_draw(0.0) is None
    harness.open_error = None
    harness.screen.tick(1.0)
    assert harness.opened == 0
    harness.screen.show(status(nvme(0), message="other"), 2.0)
    assert harness.terminal.text == fits(status(nvme(0), message="other"))


def test_a_hung_up_terminal_is_opened_again_at_once() -> None:
    harness = Harness()
    harness.screen.show(status(), 0.0)
    harness.errors = [OSError(errno.EIO, "hung up")]
    harness.screen.show(status(nvme(0)), 1.0)
    assert harness.opened == 2
    assert harness.terminal.text == fits(status(nvme(0)))


def test_a_terminal_that_fails_for_good_is_given_up_quietly() -> None:
    harness = Harness()
    harness.errors = [OSError(errno.EIO, "no")] * 2
    harness.screen.show(status(), 0.0)
    assert harness.screen.next_draw(0.0) is None


def test_a_terminal_stopped_by_scroll_lock_gets_the_true_word_when_it_runs_again() -> None:
    harness = Harness()
    harness.screen.show(status(nvme(0), safe_to_unplug=True), 0.0)
    harness.errors = [BlockingIOError(errno.EAGAIN, "stopped")]
    harness.screen.show(status(nvme(0)), 1.0)
    due = harness.screen.next_draw(1.0)
    assert due == 1.0 + Screen.STOPPED_RETRY_S
    harness.screen.tick(due)
    assert harness.terminal.text == fits(status(nvme(0)))


def test_kernel_messages_on_the_screen_are_drawn_over_when_something_happens() -> None:
    harness = Harness()
    harness.screen.show(status(nvme(0)), 0.0)
    harness.terminal.feed(b"\x1b[3H[   12.0] usb: something\x1b[20Hmore")
    harness.screen.show(status(nvme(0), advice=(FULL_SPEED,)), 1.0)
    assert harness.terminal.text == fits(status(nvme(0), advice=(FULL_SPEED,)))


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    """The far end of a real terminal, and the near end's path."""
    far, near = os.openpty()
    os.set_blocking(far, False)
    yield far, os.ttyname(near)
    os.close(near)
    os.close(far)


def test_a_real_terminal_is_drawn_in_its_own_size(pty: tuple[int, str]) -> None:
    far, path = pty
    termios.tcsetwinsize(far, (30, 100))
    screen = Screen(path)
    screen.show(status(nvme(0)), 0.0)
    drawn = os.read(far, 65536).replace(b"\r\n", b"\n")
    assert b"\x1b[9;0]" in drawn
    assert b"\x1b[?25l" in drawn
    terminal = Terminal(100, 30)
    terminal.feed(drawn)
    assert terminal.text == [line.rstrip() for line in render(status(nvme(0)), 100, 30)]
    termios.tcsetwinsize(far, (25, 80))
    screen.show(status(nvme(0), nvme(1)), 1.0)
    terminal = Terminal()
    terminal.feed(os.read(far, 65536))
    assert terminal.text == fits(status(nvme(0), nvme(1)))
    screen.close()
    assert b"\x1b[?25h" in os.read(far, 65536)


def test_a_terminal_that_nobody_reads_never_blocks(pty: tuple[int, str]) -> None:
    _, path = pty
    screen = Screen(path)
    for now in range(400):
        screen.show(status(nvme(now % 2), message=f"{now}"), float(now))
    assert screen.next_draw(400.0) is not None
    screen.close()


def test_a_file_that_is_no_terminal_is_never_written_to(tmp_path: Path) -> None:
    precious = tmp_path / "disk.img"
    precious.write_bytes(b"precious")
    screen = Screen(str(precious))
    screen.show(status(), 0.0)
    assert precious.read_bytes() == b"precious"
    with pytest.raises(OSError, match="not a terminal"):
        open_terminal(os.devnull)


# --- which terminals ------------------------------------------------------------------------


def active(tmp_path: Path, names: str) -> Path:
    (tmp_path / "console").mkdir(exist_ok=True)
    (tmp_path / "console" / "active").write_text(names)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "device"),
    [
        ("tty1 ttyAMA0\n", "/dev/ttyAMA0"),
        ("ttyS0 tty0\n", "/dev/ttyS0"),
        ("hvc0 ttyAMA0 tty1\n", "/dev/ttyAMA0"),
        ("tty0\n", None),
        ("ttynull\n", None),
        ("\n", None),
        ("../../sda\n", None),
    ],
)
def test_the_uart_is_the_last_console_that_is_not_virtual(
    tmp_path: Path, names: str, device: str | None
) -> None:
    found = uart_device("auto", active(tmp_path, names))
    assert found == (Path(device) if device else None)


def test_the_configuration_can_name_the_uart_or_switch_it_off(tmp_path: Path) -> None:
    sys_class_tty = active(tmp_path, "tty1 ttyAMA0")
    assert uart_device("/dev/ttyUSB0", sys_class_tty) == Path("/dev/ttyUSB0")
    assert uart_device("none", sys_class_tty) is None
    assert uart_device("/dev/console", sys_class_tty) == Path("/dev/ttyAMA0")
    assert uart_device("auto", tmp_path / "missing") is None
    assert hdmi_device() == Path("/dev/tty1")
    assert hdmi_device("none") is None


def test_a_board_without_any_console_is_no_error(tmp_path: Path) -> None:
    console, advice = Console.open(sys_class_tty=tmp_path, dev=tmp_path)
    assert advice == ()
    console.show(status(nvme(0)), events(None, status(nvme(0))), 0.0)
    console.tick(1.0)
    assert console.next_call(1.0) is None
    assert console.fileno() == -1
    assert not console.wants_write
    console.close()


def test_a_named_terminal_that_is_none_is_told(tmp_path: Path) -> None:
    _, advice = Console.open(str(tmp_path), "none", sys_class_tty=tmp_path, dev=tmp_path)
    assert [str(tmp_path) in each.message for each in advice] == [True]


def test_one_terminal_for_both_gets_the_lines_and_no_screen(
    tmp_path: Path, pty: tuple[int, str]
) -> None:
    far, path = pty
    link = tmp_path / "serial0"
    link.symlink_to(path)
    console, advice = Console.open(str(link), path, sys_class_tty=tmp_path)
    assert len(advice) == 1
    console.show(status(nvme(0)), events(None, status(nvme(0))), 0.0)
    drawn = os.read(far, 65536)
    assert b"@gadgetd {" in drawn
    assert b"\x1b[?25l" not in drawn
    console.close()
