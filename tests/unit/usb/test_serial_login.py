"""The login on the serial console over the cable, with a shell in getty's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gadgetd.usb.serial_login import PAUSE_S, Login
from tests.unit.fakes import FakeLoop

# Like getty: the leader of a session of its own, on the terminal. The shell that it starts is in
# another session, as one that `setsid` or `screen` starts.
SLEEPER = (
    sys.executable,
    "-S",
    "-c",
    "import os, sys, time; os.setsid(); os.open(sys.argv[2], os.O_RDWR | os.O_NOCTTY)\n"
    "child = os.fork()\n"
    "if child: open(sys.argv[1], 'a').write(f'{os.getpid()} {child}\\n')\n"
    "else: os.setsid()\n"
    "time.sleep(60)",
)


class Line:
    """A login on a pseudo-terminal that notes in a file its process id, and its shell's."""

    def __init__(self, path: Path) -> None:
        self.loop = FakeLoop()
        self.file = path / "pids"
        # Only the other end stays open here: this process is no user of the terminal.
        self.master, slave = os.openpty()
        self.tty = Path(os.ttyname(slave))
        os.close(slave)
        self.login = self.another()

    def another(self) -> Login:
        """Make the login of another daemon."""
        return Login(self.loop, (*SLEEPER, str(self.file), str(self.tty)), tty=self.tty)

    def close(self) -> None:
        self.login.keep(wanted=False)
        os.close(self.master)

    def pids(self, count: int) -> list[int]:
        """Wait until so many have been started; gives the first process of each."""
        return [pid for pid, _ in self.processes(count)]

    def processes(self, count: int) -> list[tuple[int, int]]:
        """Wait until so many have been started; gives each one's process and its shell."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            lines = self.file.read_text().splitlines() if self.file.exists() else []
            if len(lines) >= count:
                return [(int(first), int(second)) for first, second in map(str.split, lines)]
            time.sleep(0.01)
        raise AssertionError("it was not started")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.close()


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ended(*pids: int) -> bool:
    """Wait until none of them runs; False if they go on."""
    until = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(running, pids))


def test_a_login_is_there_while_it_is_wanted(line: Line) -> None:
    line.login.keep(wanted=True)
    (pid,) = line.pids(1)
    line.login.keep(wanted=True)
    line.loop.run_for(10)
    assert line.pids(1) == [pid]
    assert running(pid)


def test_ending_it_ends_all_that_has_the_terminal_open(line: Line) -> None:
    # The kernel waits for the last of them before it removes the function.
    line.login.keep(wanted=True)
    ((getty, shell),) = line.processes(1)
    assert running(getty)
    assert running(shell)
    line.login.end()
    assert ended(getty, shell)
    assert line.loop.watched == set()


def test_ending_it_leaves_those_alone_that_do_not_have_the_terminal_open(line: Line) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    line.login.keep(wanted=True)
    processes = line.processes(1)[0]
    line.login.end()
    assert ended(*processes)
    assert running(bystander.pid)
    bystander.kill()
    bystander.wait()


def test_ending_it_ends_the_login_of_an_earlier_daemon_too(line: Line) -> None:
    # That daemon was killed, so its login is nobody's child here.
    earlier = line.another()
    earlier.keep(wanted=True)
    processes = line.processes(1)[0]
    line.login.end()
    assert ended(*processes)
    earlier.keep(wanted=False)


def test_a_login_starts_on_a_terminal_of_its_own(line: Line) -> None:
    earlier = line.another()
    earlier.keep(wanted=True)
    processes = line.processes(1)[0]
    line.login.keep(wanted=True)
    assert ended(*processes)
    assert running(line.pids(2)[1])
    earlier.keep(wanted=False)


@pytest.mark.parametrize("there", [True, False])
def test_without_the_terminal_nobody_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    # A descriptor of a terminal that was removed reads as one of its name.
    tty, ended = tmp_path / "ttyGS0", []
    (tmp_path / "4711" / "fd").mkdir(parents=True)
    (tmp_path / "4711" / "fd" / "0").symlink_to(tty)
    if there:
        tty.touch()
    monkeypatch.setattr(os, "kill", lambda pid, _: ended.append(pid))
    Login(FakeLoop(), proc=tmp_path, tty=tty).end()
    assert ended == [4711] * there


def test_what_a_login_starts_is_ended_by_the_signals_that_python_ignores(tmp_path: Path) -> None:
    # BusyBox's shell hands on what it inherits: `yes | head` would never end.
    tell = "cat /proc/self/status > $1; sleep 60"
    login = Login(
        FakeLoop(), ("/bin/sh", "-c", tell, "sh", str(tmp_path / "status")), tty=tmp_path / "none"
    )
    login.keep(wanted=True)
    until = time.monotonic() + 10
    while not (tmp_path / "status").exists() or not (tmp_path / "status").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    fields = dict(line.split(":\t", 1) for line in (tmp_path / "status").read_text().splitlines())
    login.end()
    ignored = int(fields["SigIgn"], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
        assert not ignored & 1 << number - 1


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
