"""HDMI's terminal: what is written to it, and when."""

from __future__ import annotations

import errno
import os
import re
import select
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.errors import Problem
from gadgetd.show.picture import picture
from gadgetd.show.screen import Rates, Screen
from gadgetd.show.tty import open_terminal
from gadgetd.status import DiskStatus, Life, Status
from tests.unit.statuses import PATIENT, STATUSES, nvme, status

LOGIN = "log in on the UART or with Alt+F2: root"
FULL_SPEED = Problem("the link is full-speed: writing will be slow", "use another cable")


class Terminal:
    """As much of a Linux console as the screen uses. Anything else is a failed test."""

    def __init__(self, columns: int = 80, rows: int = 25) -> None:
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.wraps = True

    def feed(self, data: bytes) -> None:
        text = data.decode().replace("\x1b%G", "")
        for match in re.finditer(r"\x1b(\[[\d;?]*[A-Za-z\]])|([ -~█▀▄])|(.)", text, re.S):
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

    def __init__(self, passwd: Path = Path("/nowhere")) -> None:
        self.terminal = Terminal()
        self.written: list[bytes] = []
        self.errors: list[OSError] = []
        self.opened = 0
        self.open_error: OSError | None = None
        self.screen = Screen("/dev/tty1", open_fd=self.open, write=self.write, passwd=passwd)

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


def fits(shown: Status, rates: Rates | None = None, columns: int = 80, rows: int = 25) -> list[str]:
    lines = picture(shown, columns, rows, (rates or Rates()).of)
    return [line.rstrip() for line, _ in lines]


@PATIENT
@given(st.lists(STATUSES, min_size=1, max_size=6))
def test_whatever_came_before_the_screen_shows_the_last_status(shown: list[Status]) -> None:
    harness, rates = Harness(), Rates()
    for now, each in enumerate(shown):
        harness.screen.show(each, float(now))
        if now == 0 or each != shown[now - 1]:  # What is told twice says nothing of a rate.
            rates.note(each, float(now))
        assert harness.terminal.text == fits(each, rates)
    harness.screen.close()


def test_while_bytes_flow_only_the_changed_line_is_written_again() -> None:
    harness, rates = Harness(), Rates()
    rows = [nvme(number)._replace(life=Life.WRITING) for number in range(3)]
    harness.screen.show(status(*rows), 0.0)
    rates.note(status(*rows), 0.0)
    rows[1] = rows[1]._replace(written_bytes=5_000_000, rate_bytes_s=5_000_000)
    harness.written.clear()
    harness.screen.show(status(*rows), 1.0)
    (update,) = harness.written
    assert b"nvme1n1" in update
    assert b"nvme0n1" not in update
    assert len(update) < 120
    rates.note(status(*rows), 1.0)
    assert harness.terminal.text == fits(status(*rows), rates)


def test_numbers_are_drawn_once_a_second_and_what_a_disk_does_sooner() -> None:
    harness = Harness()
    row = nvme(0)._replace(life=Life.WRITING)
    for now in (0.0, 0.5, 1.0, 1.5):
        row = row._replace(written_bytes=row.written_bytes + 10**6)
        harness.screen.show(status(row), now)
    assert len(harness.written) == 2
    harness.screen.show(status(row._replace(life=Life.FLUSHING)), 1.6)
    assert len(harness.written) == 3


def test_traffic_redraws_at_most_once_a_second_and_the_last_word_is_drawn() -> None:
    harness = Harness()
    for step in range(100):
        row = nvme(0)._replace(life=Life.WRITING, written_bytes=step * 10**6)
        harness.screen.show(status(row), step / 50)
    assert len(harness.written) <= 2
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


def read_up_to(far: int, end: bytes) -> bytes:
    """What came, up to these bytes; the kernel passes a terminal's bytes on late, and in parts."""
    drawn = b""
    while end not in drawn:
        assert select.select([far], [], [], 10)[0], drawn
        drawn += os.read(far, 65536)
    return drawn


def test_a_real_terminal_is_drawn_in_its_own_size(pty: tuple[int, str]) -> None:
    far, path = pty
    termios.tcsetwinsize(far, (30, 100))
    screen = Screen(path, passwd=Path("/nowhere"))
    screen.show(status(nvme(0)), 0.0)
    drawn = read_up_to(far, b"\x1b[J").replace(b"\r\n", b"\n")
    assert b"\x1b[9;0]" in drawn
    assert b"\x1b[?25l" in drawn
    terminal = Terminal(100, 30)
    terminal.feed(drawn)
    assert terminal.text == fits(status(nvme(0)), columns=100, rows=30)
    termios.tcsetwinsize(far, (25, 80))
    screen.show(status(nvme(0), nvme(1)), 1.0)
    terminal = Terminal()
    terminal.feed(read_up_to(far, b"\x1b[J"))
    assert terminal.text == fits(status(nvme(0), nvme(1)))
    screen.close()
    assert read_up_to(far, b"\x1b[?25h")


def test_a_terminal_that_nobody_reads_never_blocks(pty: tuple[int, str]) -> None:
    _, path = pty
    screen = Screen(path, passwd=Path("/nowhere"))
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


@pytest.mark.parametrize(
    ("users", "said"),
    [
        ("root::0:0:root:/root:/bin/sh\n", f"; {LOGIN}, no password"),
        ("bin:*:1:1\nroot:$6$x$y:0:0::/root:\n", f"; {LOGIN}"),
        ("root:!:0:0:root:/root:/bin/sh\n", ""),
        ("root:*:0:0:root:/root:/bin/sh\n", ""),
        ("rooty::0:0:::\nroot", ""),
        (None, ""),
    ],
)
def test_the_login_that_the_board_has_is_told_and_no_other(
    tmp_path: Path, users: str | None, said: str
) -> None:
    passwd = tmp_path / "passwd"
    if users is not None:
        passwd.write_text(users)
    harness = Harness(passwd)
    harness.screen.show(status(nvme(0)), 0.0)
    assert f"gadgetd 0.1.0{said}" in harness.terminal.text


# What the charts are drawn from


def moving(rate: int, life: Life = Life.WRITING, number: int = 0) -> DiskStatus:
    return nvme(number, life=life)._replace(rate_bytes_s=rate)


def test_a_rate_a_second_is_kept_and_the_last_one_in_it_counts() -> None:
    rates = Rates()
    for half, rate in enumerate((1, 2, 3, 4, 5)):
        rates.note(status(moving(rate)), 100 + half / 2)
    assert rates.of(nvme(0)) == (2, 4, 5)


def test_a_disk_at_rest_adds_nothing_and_a_pause_is_one_gap() -> None:
    rates = Rates()
    rates.note(status(moving(7)), 0.0)
    for now in range(1, 100):
        rates.note(status(moving(0, Life.IDLE)), float(now))
    assert rates.of(nvme(0)) == (7,)
    rates.note(status(moving(9, Life.READING)), 100.0)
    assert rates.of(nvme(0)) == (7, 0, 9)


def test_a_disk_that_left_is_forgotten_and_each_has_its_own() -> None:
    rates = Rates()
    rates.note(status(moving(1), moving(2, number=1)), 0.0)
    assert (rates.of(nvme(0)), rates.of(nvme(1))) == ((1,), (2,))
    rates.note(status(moving(2, number=1)), 1.0)
    assert (rates.of(nvme(0)), rates.of(nvme(1))) == ((), (2, 2))
    # Its LUN is kept, and another disk may come into it.
    rates.note(status(nvme(1, life=Life.GONE)), 2.0)
    assert rates.of(nvme(1)) == ()


def test_no_more_is_kept_than_a_screen_can_show() -> None:
    rates = Rates()
    for now in range(1000):
        rates.note(status(moving(now)), float(now))
    assert len(rates.of(nvme(0))) == 120
    assert rates.of(nvme(0))[-1] == 999
