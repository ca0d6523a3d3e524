"""`make host`: a person is the USB host of a board that runs, from a second terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator import door
from tests.vm.board import WAIT_S, Board, until

pytestmark = pytest.mark.emulated

MIB = 1 << 20
Done = subprocess.CompletedProcess[str]


def host(*words: str, stdin: str = "") -> Done:
    return subprocess.run(
        [sys.executable, "-m", "emulator", "host", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        cwd=Path(__file__).parents[2],
    )


@pytest.fixture(autouse=True)
def opened(board: Board) -> Iterator[None]:
    """The door is open, as it is in a session, while the tests speak to the host as well."""
    with door.opened(board.host, board.machine.directory):
        yield


def test_what_a_command_says_and_its_exit_status_come_back(board: Board) -> None:
    assert board.host.run("true")[0] == 0
    done = host("echo here; echo there >&2; exit 3")
    assert (done.returncode, done.stdout) == (3, "here\nthere\n")
    assert host("echo", "a", "b").stdout == "a b\n"
    assert host(stdin="echo one\n\nfalse\n").stdout == "one\n"


def test_a_command_that_takes_too_long_is_killed_and_the_next_one_runs() -> None:
    done = host("--timeout", "1", "sleep 100")
    assert done.returncode == 1
    assert "'sleep 100' took over 1 s" in done.stderr
    assert host("echo on").stdout == "on\n"


def test_the_hosts_eject_makes_it_safe_to_unplug_and_what_it_wrote_is_there(board: Board) -> None:
    first, second = board.host.wait_for_blocks(2)
    assert host(f"dd if=/dev/zero of={second.device} bs=1M count=2 conv=fsync").returncode == 0
    since = board.uart.line.position
    assert host("eject", first.device).stdout == f"ejected {first.device}\n"
    assert host("eject").stdout == f"ejected {second.device}\n"
    board.expect_event(since, event="safe_to_unplug", safe=True)
    written = board.image_of("nvme0n1").read_bytes()[: 2 * MIB]
    assert written == bytes(2 * MIB)
    done = host("eject")
    assert (done.returncode, done.stdout) == (
        1,
        "eject: there is no disk of the board with a medium\n",
    )
    board.check("gadgetd insert mmcblk0")
    until(
        "the medium is back", lambda: host(f"head -c 1 {first.device} >/dev/null").returncode == 0
    )
