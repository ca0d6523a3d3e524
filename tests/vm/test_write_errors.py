"""A disk that loses data: the host's flush fails, as it would on a disk of its own.

The kernel's gadget alone tells one flush of it and forgets; hosts try a failed flush again. Why,
and what is left: docs/slow-media.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emulator import Drive, HostBlock, MachineOptions
from tests.vm.board import WAIT_S, Board, until
from tests.vm.conftest import Bench, Boot
from tests.vm.pair import Pair
from tests.vm.test_living_trouble import SIZE, failing_disk

pytestmark = pytest.mark.emulated

TAKEN = "nvme0n1 does not take all that the host writes, and was taken from it"
TIMES = 5
COUNTED = "-icount", "shift=1"
"""QEMU's options for a board whose clock counts its instructions, at 2 ns each: what else wants the
processors of this machine is no matter then."""
WITHIN_S = 1.0
"""Of the first error, the sentence is said."""
UNCOUNTED_S = 4.0
"""Likewise beside a PC, by a clock of the world: 2.4 s were seen of a board that shared two cores
with twenty processes. A gadgetd that waited for a flush to fail said it after 6."""
SILENCE_S = 5.0
"""The kernel prints ten lines of failed commands in so long and no more, of all disks together, and
here of the host's, too (source: DEFAULT_RATELIMIT_INTERVAL in include/linux/ratelimit_types.h)."""
CLOCKS_S = 0.1
"""How well the two clocks are compared: /proc/uptime counts hundredths."""


def write_and_flush(board: Board, disk: HostBlock) -> int:
    """Have the host write over the sector that fails, and flush; give dd's exit status."""
    dd = f"dd if=/dev/urandom of={disk.device} bs=1M count=16 conv=fsync,notrunc"
    return board.host.run(dd, WAIT_S)[0]


def times(log: str, text: str) -> list[float]:
    """Give when a log says something, in seconds since the board's start."""
    found = (re.match(rf"\[ *([\d.]+)\] {text}", line) for line in log.splitlines())
    return [float(match[1]) for match in found if match]


def errors_at(board: Board) -> list[float]:
    """Give when the kernel logged that a write was lost, by the clock of gadgetd's log.

    That of the kernel's log may be half a second ahead of it.
    """
    said = board.check('read -r now _ </proc/uptime; echo "tests: it is $now" >/dev/kmsg; dmesg')
    (marked,) = times(said, "tests: it is ")[-1:]
    ahead_s = marked - float(said.rpartition("tests: it is ")[2].split()[0])
    return [at - ahead_s for at in times(said, ".*error, dev nvme0n1,.*WRITE")]


def expect_a_kernel_that_tells(board: Board) -> None:
    """Wait until the kernel prints the next command that fails; see SILENCE_S."""

    def tells() -> bool:
        said = board.check('echo "tests: it is now" >/dev/kmsg; dmesg')
        (now,) = times(said, "tests: it is now")[-1:]
        return all(now - at > SILENCE_S for at in times(said, ".*error, dev ")[-1:])

    until("the kernel tells", tells)


def put_back(board: Board, since: int) -> None:
    """Insert the disk again, once its own flush has told its result."""
    board.expect_event(since, event="lun", lun=1, life="write error")
    board.check("gadgetd insert nvme0n1")


def assert_the_flush_fails(board: Board, within_s: float) -> None:
    for _ in range(TIMES):
        _, bad = board.host.wait_for_blocks(2, WAIT_S)
        expect_a_kernel_that_tells(board)
        before, since = len(errors_at(board)), board.uart.line.position
        assert write_and_flush(board, bad) != 0
        board.expect_event(since, event="advice", active=True, message=TAKEN)
        after_s = times(board.check("gadgetd log"), TAKEN)[-1] - errors_at(board)[before]
        print(f"told {after_s:.2f} s after the first error")
        assert -CLOCKS_S < after_s < within_s
        board.expect_on_screen(TAKEN)
        put_back(board, since)


def test_the_hosts_flush_fails_and_without_us_it_does_not(boot: Boot, tmp_path: Path) -> None:
    arguments = (*failing_disk(tmp_path / "bad"), *COUNTED)
    board = boot(MachineOptions(sd=Drive(SIZE), qemu_arguments=arguments))
    _, bad = board.host.wait_for_blocks(2, WAIT_S)
    # With nobody to take the disk. If this fails, the kernel has been mended.
    daemon = board.daemon()
    board.check(f"kill -STOP {daemon}")
    assert write_and_flush(board, bad) == 0
    assert errors_at(board)
    board.check(f"kill -CONT {daemon}")
    board.expect_on_both(TAKEN)
    put_back(board, 0)
    assert_the_flush_fails(board, WITHIN_S)


@pytest.mark.long
def test_it_fails_on_a_pc_too(bench: Bench, tmp_path: Path) -> None:
    bench.switch_off()
    options = MachineOptions(sd=Drive(SIZE), qemu_arguments=failing_disk(tmp_path / "bad"))
    pair = Pair(bench.directory("pc_write_errors"), options)
    try:
        pair.boot_pc()
        pair.boot_board()
        pair.plug()
        pair.host.wait_for_blocks(2, WAIT_S)
        assert_the_flush_fails(pair.board, UNCOUNTED_S)
    finally:
        pair.close()
