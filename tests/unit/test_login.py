"""The login on the serial console over the cable, with a shell in getty's place."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gadgetd.login import PAUSE_S, Login
from tests.unit.fakes import FakeLoop

# Like getty: the leader of a session of its own.
SLEEPER = (
    sys.executable,
    "-S",
    "-c",
    "import os, sys, time; os.setsid(); open(sys.argv[1], 'a').write(f'{os.getpid()}\\n');"
    "os.fork(); time.sleep(60)",
)


class Line:
    """A login that notes its process id in a file."""

    def __init__(self, path: Path) -> None:
        self.loop = FakeLoop()
        self.file = path / "pids"
        self.login = Login(self.loop, (*SLEEPER, str(self.file)))

    def pids(self, count: int) -> list[int]:
        """Wait until so many have been started."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            lines = self.file.read_text().split() if self.file.exists() else []
            if len(lines) >= count:
                return [int(line) for line in lines]
            time.sleep(0.01)
        raise AssertionError("it was not started")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.login.keep(wanted=False)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def session(leader: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                members.append(int(entry.name))
        except ProcessLookupError:
            continue
    return members


def test_a_login_is_there_while_it_is_wanted(line: Line) -> None:
    line.login.keep(wanted=True)
    (pid,) = line.pids(1)
    line.login.keep(wanted=True)
    line.loop.run_for(10)
    assert line.pids(1) == [pid]
    assert running(pid)


def test_ending_it_ends_all_that_was_started_from_it(line: Line) -> None:
    line.login.keep(wanted=True)
    (pid,) = line.pids(1)
    until = time.monotonic() + 10
    while len(session(pid)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    members = session(pid)
    assert len(members) == 2
    line.login.keep(wanted=False)
    time.sleep(0.05)
    assert not any(running(member) for member in members)
    assert line.loop.watched == set()


def test_one_that_ends_is_started_again_after_a_pause(line: Line) -> None:
    line.login.keep(wanted=True)
    (pid,) = line.pids(1)
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while line.loop.watched and time.monotonic() < until:
        line.loop.settle()
    line.loop.run_for(PAUSE_S * 1.1)
    assert len(line.pids(2)) == 2


def test_one_that_is_not_wanted_any_more_is_not_started_again(line: Line) -> None:
    line.login.keep(wanted=True)
    (pid,) = line.pids(1)
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while line.loop.watched and time.monotonic() < until:
        line.loop.settle()
    line.login.keep(wanted=False)
    line.loop.run_for(60)
    assert line.pids(1) == [pid]


def test_without_a_getty_it_is_tried_once_a_second_and_no_more() -> None:
    loop = FakeLoop()
    login = Login(loop, ("/nonexistent/getty",))
    login.keep(wanted=True)
    assert loop.run_for(10) <= 11
    login.keep(wanted=False)
    loop.run_for(2)
    assert loop.run_for(60) == 0


def test_wanting_it_again_at_once_starts_no_two(line: Line) -> None:
    loop = FakeLoop()
    login = Login(loop, ("/nonexistent/getty",))
    for _ in range(5):
        login.keep(wanted=True)
        login.keep(wanted=False)
    login.keep(wanted=True)
    assert loop.run_for(10) <= 11
    assert line.loop.watched == set()
