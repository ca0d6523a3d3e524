"""Who may do what on the board: see docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, MachineOptions
from gadgetd import oom
from tests.vm.board import WAIT_S, Board, until, yaml_file
from tests.vm.conftest import Bench
from tests.vm.living import FILES, MIB, PYTHON, assert_host_undisturbed, mark

pytestmark = pytest.mark.emulated

SOCKETS = "cd /proc/net; cat tcp tcp6 udp udp6 udplite udplite6 raw raw6 icmp icmp6 packet 2>&1"
"""All that a packet from a network could reach. A header each, and a line for each socket."""
LISTEN = "import socket, time; s = socket.create_server(('', 4711)); time.sleep(10000)"
HOG = "import time; x = bytearray(300 << 20); print('full', flush=True); time.sleep(10000)"
END_ONE = "echo f >/proc/sysrq-trigger"
"""Has the kernel end a process as it does when memory runs out. Source: sysrq.rst."""


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    options = MachineOptions(
        sd=Drive(32 * MIB),
        nvme=(Drive(32 * MIB),),
        files={**FILES, **yaml_file("usb:\n  acm: true\n")},
    )
    board = bench.boot("security", options)
    board.expect_phase("exported")
    board.host.wait_for_blocks(2, WAIT_S)
    yield board
    bench.switch_off()


def sockets(board: Board) -> list[str]:
    """The sockets of the Internet's families, and those that take packets as they are."""
    lines = board.check(f"{SOCKETS}; true").splitlines()
    return [line for line in lines if line.split()[0] not in ("sl", "sk", "cat:")]


def test_nothing_listens_on_a_network(board: Board) -> None:
    assert sockets(board) == []
    # It would show.
    pid = board.host.check(f'{PYTHON} -c "{LISTEN}" >/dev/null 2>&1 & echo $!').strip()
    until("a socket that listens is seen", lambda: len(sockets(board)) == 1)
    board.host.check(f"kill {pid}")


def test_the_one_socket_that_takes_commands_is_roots(board: Board) -> None:
    # Num RefCount Protocol Flags Type St Inode Path; 00010000 is __SO_ACCEPTCON.
    lines = [line.split() for line in board.check("cat /proc/net/unix").splitlines()]
    listening = [fields[7] for fields in lines if fields[3] == "00010000" and len(fields) > 7]
    assert listening == ["/run/gadgetd/control.new"]  # renamed once it listens
    said = board.check("stat -c '%a %U' /run/gadgetd /run/gadgetd/control").split()
    assert said == ["700", "root", "600", "root"]


def score(board: Board, process: int | str) -> int:
    return int(board.check(f"cat /proc/{process}/oom_score_adj"))


def test_the_kernel_ends_anything_else_first(board: Board) -> None:
    daemon = board.daemon()
    assert score(board, daemon) == oom.LAST
    assert score(board, "self") == 0
    board.host.check(f'{PYTHON} -c "{HOG}" >/tmp/hog 2>&1 &')
    until("memory is taken", lambda: "full" in board.host.check("cat /tmp/hog"))
    begin = mark(board)
    board.check(END_ONE)
    until("the kernel ends it", lambda: board.host.run("ps | grep -q '[b]ytearray'")[0])
    assert board.daemon() == daemon
    assert_host_undisturbed(board, begin)


def test_a_login_over_the_cable_is_ended_like_any_other(board: Board) -> None:
    # It is the daemon's child.
    users = "for each in /proc/[0-9]*; do grep -q ttyGS0 $each/cmdline && echo ${each#/proc/}; done"
    pids = board.host.run(f"{users} 2>/dev/null")[1].split()
    assert [score(board, pid) for pid in pids] == [0]


def test_a_daemon_that_the_kernel_ends_is_there_again_and_the_host_has_not_noticed(
    board: Board,
) -> None:
    daemon, begin, since = board.daemon(), mark(board), board.uart.line.position
    board.check(f"echo 1000 >/proc/{daemon}/oom_score_adj; {END_ONE}")
    board.expect_event(since, event="started")
    board.expect_phase("exported", since)
    assert f"Killed process {daemon} " in board.host.check("dmesg")
    after = board.daemon()
    assert after != daemon
    assert score(board, after) == oom.LAST
    assert len(board.exported()) == 2
    assert_host_undisturbed(board, begin)
