"""The door to the host's shell: who goes through it, and what it says to those who cannot."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from emulator import cache, door
from emulator.errors import EmulatorError
from emulator.shell import HostShell


class FakeHost:
    """Takes any command; "fail" is one that fails, "slow" one that waits for `go_on`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = threading.Event()

    def run(self, command: str, _limit_s: float) -> tuple[int, str]:
        self.asked.append(command)
        if command == "slow":
            self.go_on.wait(10)
        if command == "late":
            raise EmulatorError("on the host, 'late' took over 1 s", hint="wait")
        return (3, "") if command == "fail" else (0, f"did {command}\n")


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Longer than the address of a socket may be.
    monkeypatch.setenv("GADGETD_CACHE", str(tmp_path / ("a" * 100) / "b"))
    return cache.run_directory()


@pytest.fixture
def host(run_directory: Path) -> Iterator[FakeHost]:
    fake = FakeHost()
    with door.opened(cast(HostShell, fake), run_directory):
        yield fake


def test_a_command_goes_through_and_its_answer_comes_back(
    host: FakeHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door.run(["eject", "/dev/sda"], 10) == 0
    assert host.asked == ["eject /dev/sda"]
    assert capsys.readouterr().out == "did eject /dev/sda\n"
    assert door.run(["fail"], 10) == 3


def test_lines_of_stdin_are_commands_and_an_error_ends_only_its_own(
    host: FakeHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\nlate\nfail\n"))
    assert door.run([], 10) == 3
    assert host.asked == ["one", "late", "fail"]
    said = capsys.readouterr().out
    assert said == "did one\nemulator: on the host, 'late' took over 1 s\n  hint: wait\n"


def test_two_visitors_are_served_and_one_that_has_left_hurts_nobody(
    host: FakeHost, run_directory: Path
) -> None:
    with door.Visit(run_directory) as gone:
        gone._connection.sendall(b'{"command": "slow", "limit_s": 1}\n')
        with door.Visit(run_directory) as other:
            assert other.run("here", 10) == (0, "did here\n")
    host.go_on.set()
    with door.Visit(run_directory) as third:
        assert third.run("still", 10) == (0, "did still\n")


@pytest.mark.usefixtures("run_directory")
def test_without_a_board_it_says_how_to_have_one() -> None:
    with pytest.raises(EmulatorError, match=r"no emulated board runs\n.*make run"):
        door.run(["eject"], 10)


def test_a_session_that_was_killed_leaves_no_board_behind(run_directory: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    with door._short(run_directory) as path:
        left.bind(path)
    with pytest.raises(EmulatorError, match="no emulated board runs"):
        door.run(["eject"], 10)
    left.close()


def test_a_door_that_was_closed_can_be_opened_again(run_directory: Path) -> None:
    for _ in range(2):
        with door.opened(cast(HostShell, FakeHost()), run_directory):
            assert door.run(["fail"], 10) == 3


def test_of_several_boards_one_is_chosen_and_without_a_choice_they_are_listed(
    host: FakeHost, run_directory: Path
) -> None:
    second = cache.run_directory()
    other = FakeHost()
    with door.opened(cast(HostShell, other), second, "with 3 disks"):
        with pytest.raises(EmulatorError, match=r"these boards run\n") as told:
            door.run(["fail"], 10)
        assert str(told.value).count(f"BOARD={door.number(second)}  since ") == 2
        assert "with 3 disks\n" in str(told.value)
        assert door.run(["here"], 10, second.name) == 0
        with pytest.raises(EmulatorError, match="no board 12x runs; there is"):
            door.run(["fail"], 10, "12x")
    assert (host.asked, other.asked) == ([], ["here"])
    assert door.run(["alone"], 10, door.number(run_directory)) == 0
    assert host.asked == ["alone"]
