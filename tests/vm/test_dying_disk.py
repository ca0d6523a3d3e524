"""A disk that does not answer any more holds up neither another, nor the daemon, nor a person.

QEMU lets a byte a second through to it: a command of the host's begins and does not end.
"""

from __future__ import annotations

import time

import pytest

from emulator import Drive, HostBlock, MachineOptions
from gadgetd.export.ending import LIMIT_S
from tests.vm.board import WAIT_S, Board, until
from tests.vm.conftest import Boot
from tests.vm.living import (
    FILES,
    MIB,
    Traffic,
    eject,
    expect_host_size,
    host_does,
    kernel_said,
    mark,
    traffic,
)

pytestmark = [pytest.mark.emulated, pytest.mark.long]

SIZE = 32 * MIB
DYING = "nvme1"
SILENT = "nvme1n1 does not answer: a command of the host's has not come to its end"
MEASURED_S = 4.0
SHARE = 4
"""Of its rate at the least. On a PC with much to do two measurements differ by half anyway."""


@pytest.fixture
def board(boot: Boot) -> Board:
    """A board with two disks. Neither kernel gives the second up within the test."""
    board = boot(MachineOptions(nvme=(Drive(SIZE), Drive(SIZE)), files=FILES))
    for block in board.host.wait_for_blocks(2, WAIT_S):
        board.host.check(f"echo 600 >/sys/block/{block.name}/device/timeout")
    board.host.check("echo 600000 >/sys/block/nvme1n1/queue/io_timeout")
    return board


def limit(board: Board, bytes_a_second: int) -> None:
    """Let so much through to the dying disk; 0 is no limit."""
    none = dict.fromkeys(("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    arguments = {"device": f"{DYING}-disk", "bps": bytes_a_second, **none}
    board.machine.monitor.execute("block_set_io_throttle", arguments)


def hang(board: Board, dying: HostBlock) -> None:
    """Have a command of the host's begin that does not end.

    Of the disk's counters the first is of reads that are over, the ninth of what is under way.
    """
    limit(board, 1)
    board.host.check(f"dd if={dying.device} of=/dev/null bs=64k count=64 >/dev/null 2>&1 &")
    done: list[str] = []

    def stands_still() -> bool:
        fields = board.host.check("cat /sys/block/nvme1n1/stat").split()
        done.append(fields[0])
        return int(fields[8]) > 0 and done[-2:-1] == done[-1:]

    until("a command hangs", stands_still)


def seconds(board: Board, command: str) -> float:
    """How long a command of the board's shell takes; it may fail."""
    begin = time.monotonic()
    board.host.run(command)
    return time.monotonic() - begin


def rate(writing: Traffic) -> float:
    """How many bytes a second the host writes."""
    before, begin = writing.progress(), time.monotonic()
    time.sleep(MEASURED_S)
    return (writing.progress() - before) / (time.monotonic() - begin)


def test_the_others_serve_their_host_and_the_daemon_a_person(board: Board) -> None:
    healthy, dying = board.host.wait_for_blocks(2, WAIT_S)
    begin = mark(board)
    with traffic(board, healthy) as writing:
        alone, status_s = rate(writing), seconds(board, "gadgetd status")
        hang(board, dying)
        since = board.uart.line.position
        # The host has it open, and keeps it from a mild eject; whose lock is told at once.
        assert board.host.run("gadgetd eject nvme1n1")[0] == 4
        board.host.check("gadgetd eject --force nvme1n1 >/tmp/eject 2>&1 &")
        beside = rate(writing)
        print(f"host writes {alone / 1e6:.2f} MB/s alone, {beside / 1e6:.2f} MB/s beside")
        assert beside > alone / SHARE  # Of a disk that waits there would be nothing.
        board.expect_on_both(SILENT, since=since)
        took_s = seconds(board, "gadgetd status")
        print(f"gadgetd status takes {status_s:.1f} s, {took_s:.1f} s beside")
        assert took_s < 2 * status_s + 3
        said = until("the eject is answered", lambda: board.host.check("cat /tmp/eject"))
        assert SILENT in said
    assert writing.wrong_on_medium(board.machine.image_path("nvme0")) == []
    for word in ("USB disconnect", "reset high-speed", "I/O error"):
        assert word not in kernel_said(board, begin)
    # What is done to the healthy one is done at once, and no word is said of both.
    since = board.uart.line.position
    host_does(board, eject(healthy))
    board.expect_event(since, event="lun", lun=0, life="ejected")
    assert not board.status()["safe_to_unplug"]
    board.check("gadgetd insert nvme0n1")
    expect_host_size(board, healthy, SIZE)
    # It answers, and what was asked for is done.
    limit(board, 0)
    board.expect_event(since, event="lun", lun=1, life="ejected")
    board.expect_event(since, event="advice", active=False, message=SILENT)
    assert "SAFE TO UNPLUG" not in board.words()


def test_a_stop_and_a_daemon_that_is_killed_go_on_when_it_answers(board: Board) -> None:
    _, dying = board.host.wait_for_blocks(2, WAIT_S)
    hang(board, dying)
    since = board.uart.line.position
    board.host.check("gadgetd eject --force nvme1n1 >/dev/null 2>&1 &")
    board.expect_on_both(SILENT, since=since)
    board.host.check(f"kill -KILL {board.daemon()}")
    since = board.uart.line.position
    board.expect_on_both("the disk does not answer", since=since)
    assert "the disk does not answer" in board.status()["problem"]["message"]
    limit(board, 0)
    board.expect_phase("exported", since)
    # It is taken out now.
    until("it can be inserted", lambda: board.host.run("gadgetd insert nvme1n1")[0] == 0)
    expect_host_size(board, dying, SIZE)
    hang(board, dying)
    status, said = board.run("gadgetd stop", LIMIT_S + WAIT_S)
    assert status == 1
    assert "stopping: a disk does not answer, do not unplug" in said
    assert not board.status()["safe_to_unplug"]
    limit(board, 0)
    until("it is stopped", lambda: board.status()["message"].startswith("stopped: "))
    assert not board.status()["safe_to_unplug"]
    board.check("gadgetd start")
    board.host.wait_for_blocks(2, WAIT_S)
