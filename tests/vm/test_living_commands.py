"""The commands of the UART shell, and what an end of the daemon leaves behind."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator import Drive, HostBlock, MachineOptions
from gadgetd.show import sign
from tests.vm.board import WAIT_S, Board, until
from tests.vm.conftest import Bench
from tests.vm.living import (
    FILES,
    MIB,
    Chunks,
    drop,
    eject,
    expect_host_size,
    host_does,
    lives,
    no_daemon,
    traffic,
    write,
)

pytestmark = pytest.mark.emulated

SIZE = 16 * MIB
CONFIGFS = "/sys/kernel/config/usb_gadget"


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    board = bench.boot(
        "living_commands", MachineOptions(sd=Drive(SIZE), nvme=(Drive(SIZE),), files=FILES)
    )
    board.expect_phase("exported")
    yield board
    bench.switch_off()


@pytest.fixture
def blocks(board: Board) -> list[HostBlock]:
    return board.host.wait_for_blocks(2, WAIT_S)


def sha256sum(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()


def hashed(board: Board, disk: str) -> str:
    """What `gadgetd hash` prints, without the progress that a terminal gets."""
    return board.check(f"gadgetd hash {disk} 2>/dev/null").strip()


def test_a_hash_is_the_sha256_of_the_image_outside(board: Board, blocks: list[HostBlock]) -> None:
    image = board.machine.image_path("sd")
    empty = sha256sum(image)
    assert hashed(board, "nvme0n1") == f"{empty}  /dev/nvme0n1"
    chunks = Chunks(3, 32)
    since = board.uart.line.position
    host_does(board, write(blocks[0], chunks))
    board.expect_event(since, event="lun", lun=0, life="flushed")
    assert chunks.are_in(image)
    assert hashed(board, "0") == f"{sha256sum(image)}  /dev/mmcblk0"
    assert "100 %  16.8 MB of 16.8 MB" in board.check("gadgetd hash 0")


def test_a_hash_is_of_the_medium_and_not_of_what_ram_remembers(
    board: Board, blocks: list[HostBlock]
) -> None:
    image = board.machine.image_path("nvme0")
    since = board.uart.line.position
    host_does(board, write(blocks[1], Chunks(0, 16)))
    board.expect_event(since, event="lun", lun=1, life="flushed")
    right = sha256sum(image)
    with image.open("r+b") as file:  # a medium that lost a byte
        file.seek(100_000)
        file.write(b"\xff")
    assert sha256sum(image) != right
    assert hashed(board, "1").split()[0] == sha256sum(image)


def test_a_hash_is_not_shown_as_a_host_that_reads(board: Board, blocks: list[HostBlock]) -> None:
    before, since = board.exported()[1]["read_bytes"], board.uart.line.position
    hashed(board, "nvme0n1")
    # By the end of a write the board has looked at the counters several times.
    host_does(board, write(blocks[1], Chunks(0, 16)))
    board.expect_event(since, event="lun", lun=1, life="flushed")
    # A host looks at the begin and the end of a disk when it likes.
    assert board.exported()[1]["read_bytes"] - before < SIZE // 2


def test_a_disk_that_the_host_writes_to_is_not_hashed(
    board: Board, blocks: list[HostBlock]
) -> None:
    with traffic(board, blocks[0], count=64):
        status, said = board.run("gadgetd hash mmcblk0")
        assert status != 0
        assert re.search("is being written to|the host wrote to mmcblk0 meanwhile", said)
        # The other one is at rest.
        digest = hashed(board, "nvme0n1").split()[0]
    assert digest == sha256sum(board.machine.image_path("nvme0"))


def test_status_can_be_watched(board: Board, blocks: list[HostBlock]) -> None:
    line = board.uart.line
    since = line.position
    line.send(b"gadgetd status --watch\n")
    line.expect(r"^NO\. +NAME", WAIT_S, since)
    changed = line.position
    host_does(board, drop(blocks[1]))
    line.expect(r"^ +1 +nvme0n1 .*ejected, flushed", WAIT_S, changed)
    # Lines for programs would spoil it: they come once it has ended.
    assert not board.events(changed)
    ended = line.position
    line.send(b"\x03")
    board.expect_event(ended, event="lun", lun=1, life="ejected")
    board.check("gadgetd insert 1")
    expect_host_size(board, blocks[1], SIZE)


def test_the_log_tells_what_has_happened_since_the_start(board: Board) -> None:
    lines = board.check("gadgetd log").splitlines()
    times = [float(re.match(r"\[ *(\d+\.\d{3})\] ", text)[1]) for text in lines]  # type: ignore[index]
    assert times == sorted(times)
    log = "\n".join(lines)
    assert "disk 0 is mmcblk0 (SD" in log
    assert "host connected, high-speed" in log


def test_only_root_can_speak_to_the_daemon(board: Board) -> None:
    modes = board.check("stat -c '%a %u %F' /run/gadgetd /run/gadgetd/control").splitlines()
    assert modes == ["700 0 directory", "600 0 socket"]
    as_nobody = (
        "import os; os.setgid(65534); os.setuid(65534);"
        " os.execv('/usr/bin/gadgetd', ['gadgetd', 'stop'])"
    )
    status, said = board.run(f'python3 -c "{as_nobody}"')
    assert status != 0
    assert "only root may speak to the daemon" in said
    board.check("chmod 755 /run/gadgetd")
    status, said = board.run(f'python3 -c "{as_nobody}"')
    board.check("chmod 700 /run/gadgetd")
    assert status != 0
    assert "only root may speak to the daemon" in said
    assert board.status()["phase"] == "exported"


def test_a_stop_flushes_and_leaves_nothing_and_a_start_brings_the_disks_back(
    board: Board, blocks: list[HostBlock]
) -> None:
    chunks = Chunks(100, 32)
    host_does(board, write(blocks[1], chunks))
    since = board.uart.line.position
    said = board.check("gadgetd stop")
    unknown = "what the host still held is not known"
    assert f"stopped: all that arrived is on the disks; {unknown}" in said
    assert chunks.are_in(board.machine.image_path("nvme0"))
    assert board.check(f"ls {CONFIGFS}").split() == []
    board.expect_host_without_disks()
    shown = f"stopped: all that arrived is on the disks, {unknown}; to go on: gadgetd start"
    assert "SAFE TO UNPLUG" not in board.expect_on_screen(shown)
    board.expect_sign(sign.STOPPED)
    assert not board.status()["safe_to_unplug"]
    # The disks belong to the board now.
    code = "import os; os.open('/dev/nvme0n1', os.O_RDONLY | os.O_EXCL)"
    board.check(f'python3 -S -c "{code}"')
    status, said = board.run("gadgetd stop")
    assert status != 0
    assert "stopped already" in said
    # Nothing of what a stop takes away is an alarm.
    told = [event["event"] for event in board.events(since)]
    assert not {"controller", "host", "disk_removed", "safe_to_unplug"} & set(told)
    assert "2 disks exported" in board.check("gadgetd start")
    again = board.host.wait_for_blocks(2, WAIT_S)
    assert [block.inquiry for block in again] == [block.inquiry for block in blocks]
    status, said = board.run("gadgetd start")
    assert status != 0
    assert "it is not stopped" in said


def test_a_stop_after_the_host_has_ejected_all_is_safe(
    board: Board, blocks: list[HostBlock]
) -> None:
    since = board.uart.line.position
    host_does(board, *map(eject, blocks))
    board.expect_event(since, event="safe_to_unplug", safe=True)
    assert board.check("gadgetd stop") == "stopped: all that the host wrote is on the disks\n"
    board.expect_on_screen("SAFE TO UNPLUG: stopped: nothing is exported")
    board.expect_sign(sign.SAFE)
    assert board.status()["safe_to_unplug"]
    assert "2 disks exported" in board.check("gadgetd start")
    board.expect_event(since, event="safe_to_unplug", safe=False)
    board.host.wait_for_blocks(2, WAIT_S)


def test_sigterm_flushes_and_leaves_nothing_behind_even_if_the_host_writes(
    board: Board, blocks: list[HostBlock]
) -> None:
    unwritten = Chunks(200, 32)
    host_does(board, *(write(block, unwritten) for block in blocks))
    with no_daemon(board, "TERM"):
        for name in ("sd", "nvme0"):
            assert unwritten.are_in(board.machine.image_path(name))
        assert board.host.check(f"ls {CONFIGFS}").split() == []
        board.expect_host_without_disks()
        assert not board.host.run("ls /run/gadgetd/control")[1].startswith("/run")
        # No number is kept but with the doubt about what the host had written to lately.
        kept = [
            line.split("\t")[:2] for line in board.host.check("cat /run/gadgetd/luns").splitlines()
        ]
        assert kept == [["0", "torn"], ["1", "torn"]]
    board.host.wait_for_blocks(2, WAIT_S)
    # The doubt is the next daemon's, until a person begins anew as its advice says.
    assert "was taken from the host while it was open there" in board.expect_on_screen("taken from")
    board.check("gadgetd stop")
    board.check("gadgetd start")
    board.host.wait_for_blocks(2, WAIT_S)
    until("nothing is in doubt", lambda: "taken from" not in board.check("gadgetd status"))


def test_with_no_daemon_each_command_says_so_and_what_to_do(board: Board) -> None:
    with no_daemon(board, "KILL"):
        commands = ("status", "eject 0", "insert 0", "hash 0", "attach", "stop", "start", "log")
        for command in commands:
            status, said = board.host.run(f"python3 /usr/bin/gadgetd.away {command}")
            assert status == 4, said
            assert "gadgetd is not running" in said
            assert "gadgetd run" in said
        said = board.host.check("python3 /usr/bin/gadgetd.away scan")
        assert "mmcblk0" in said


def test_a_disk_ejected_while_no_daemon_ran_is_flushed_and_stays_out(
    board: Board, blocks: list[HostBlock]
) -> None:
    chunks = Chunks(150, 16)
    with no_daemon(board, "KILL"):
        host_does(board, write(blocks[0], chunks), drop(blocks[0]))
        since = board.uart.line.position
    board.expect_event(since, event="lun", lun=0, life="ejected")
    assert chunks.are_in(board.machine.image_path("sd"))
    assert "ejected, flushing" in lives(board, since, 0)
    expect_host_size(board, blocks[0], 0)
    expect_host_size(board, blocks[1], SIZE)
    board.check("gadgetd insert 0")
    expect_host_size(board, blocks[0], SIZE)


def test_the_word_safe_is_said_again_by_a_daemon_that_was_killed_meanwhile(
    board: Board, blocks: list[HostBlock]
) -> None:
    since = board.uart.line.position
    host_does(board, *map(drop, blocks))
    board.expect_event(since, event="safe_to_unplug", safe=True)
    since = board.restart("KILL")
    board.expect_event(since, event="safe_to_unplug", safe=True)
    for number in (0, 1):
        board.check(f"gadgetd insert {number}")
    until("both are back", lambda: not board.status()["safe_to_unplug"])
    for block in blocks:
        expect_host_size(board, block, SIZE)
