"""Who may do what on the board: see docs/security.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from emulator import Drive, MachineOptions
from gadgetd import oom
from tests.vm.board import CHUNK, WAIT_S, Board, Pattern, until, yaml_file
from tests.vm.conftest import Bench
from tests.vm.living import FILES, MIB, PYTHON, assert_host_undisturbed, kernel_said, mark

pytestmark = pytest.mark.emulated

SOCKETS = "cd /proc/net; cat tcp tcp6 udp udp6 udplite udplite6 raw raw6 icmp icmp6 packet 2>&1"
"""All that a packet from a network could reach. A header each, and a line for each socket."""
LISTEN = "import socket, time; s = socket.create_server(('', 4711)); time.sleep(10000)"
HOG = "import time; x = b'x' * (300 << 20); print('full', flush=True); time.sleep(10000)"
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
    said = board.check("stat -c '%a %u' /run/gadgetd /run/gadgetd/control").split()
    assert said == ["700", "0", "600", "0"]


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
    until("the kernel ends it", lambda: board.host.run("ps | grep -q '[3]00 << 20'")[0])
    assert board.daemon() == daemon
    assert_host_undisturbed(board, begin)


def test_a_login_over_the_cable_is_ended_like_any_other(board: Board) -> None:
    # It is the daemon's child.
    pids = board.host.check("ps -o pid,args | grep '[g]etty.*ttyGS0'").split()[:1]
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


# Which privileges it needs

ENTRY = """\
#!/usr/bin/python3
import ctypes, sys
if sys.argv[1:] == ["run"]:
    version, kept = 0x20080522, {kept}
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = (ctypes.c_uint32 * 2)(version, 0)
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    assert ctypes.CDLL(None).capset(header, sets) == 0
from gadgetd.cli import main
sys.exit(main())
"""
"""gadgetd with these capabilities alone. Source: capset(2)."""
SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, SYSLOG = (1 << n for n in (19, 21, 24, 34))


@contextmanager
def kept(board: Board, capabilities: int) -> Iterator[None]:
    """Have the daemon run with these capabilities and no other."""
    board.check("cp /usr/bin/gadgetd /tmp/gadgetd")
    try:
        board.write_file("/usr/bin/gadgetd", ENTRY.format(kept=capabilities))
        since = board.restart("KILL")
        board.expect_phase("exported", since)
        effective = board.check(f"grep CapEff /proc/{board.daemon()}/status").split()[1]
        assert int(effective, 16) == capabilities
        yield
    finally:
        board.check("cp /tmp/gadgetd /usr/bin/gadgetd")
        board.expect_phase("exported", board.restart("KILL"))


def works(board: Board) -> set[str]:
    """What of it works: a name for each that somebody would miss."""
    found = set()
    daemon = board.daemon()
    since = board.uart.line.position
    block = board.host.wait_for_blocks(2, WAIT_S)[1]
    assert board.host_writes(block, 0, Pattern(1_000_000, CHUNK))[0] == 0
    board.expect_event(since, event="lun", lun=1, life="flushed")
    board.check("gadgetd eject 1 && gadgetd insert 1")
    board.check("gadgetd stop && gadgetd start")
    board.host.wait_for_blocks(2, WAIT_S)
    found.add("exporting, flushing, ejecting, stopping")
    if score(board, daemon) == oom.LAST:
        found.add("its place with the OOM killer")
    if "/dev/kmsg" in board.check(f"ls -l /proc/{daemon}/fd"):
        found.add("the kernel's log")
    with suppress(AssertionError):  # The disk is left alone for a moment before it is asked.
        until("health", lambda: any(row["health"] for row in board.status()["disks"]), 30)
        found.add("the health of NVMe disks")
    return found


@pytest.mark.long
def test_without_privileges_it_exports_and_lacks_what_is_listed(board: Board) -> None:
    begin = mark(board)
    with kept(board, 0):
        assert works(board) == {"exporting, flushing, ejecting, stopping"}
    with kept(board, SYS_PTRACE | SYS_ADMIN | SYS_RESOURCE | SYSLOG):
        assert works(board) == {
            "exporting, flushing, ejecting, stopping",
            "its place with the OOM killer",
            "the kernel's log",
            "the health of NVMe disks",
        }
    assert "BUG" not in kernel_said(board, begin)
