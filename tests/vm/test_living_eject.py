"""The host ejects: SAFE TO UNPLUG comes after an fsync alone, and holds if QEMU is killed then."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from emulator import Drive, HostBlock, MachineOptions
from gadgetd.show import sign
from tests.vm.board import CHUNK, CONFIG, WAIT_S, Board, until, yaml_file
from tests.vm.conftest import Bench, Boot
from tests.vm.living import (
    FILES,
    MIB,
    Chunks,
    drop,
    eject,
    expect_host_size,
    host_does,
    host_locks,
    life,
    lives,
    write,
)

pytestmark = [pytest.mark.emulated, pytest.mark.hosts("same")]

SIZE = 32 * MIB
SAFE = '"event":"safe_to_unplug","safe":true'
SLOW = MIB // 2


@dataclass(frozen=True)
class Images:
    """The image files of two disks, which outlive the machine."""

    directory: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.directory / "first.img", self.directory / "second.img"

    def options(self) -> MachineOptions:
        """A board with an SD card and an NVMe disk."""
        first, second = self.paths
        return MachineOptions(sd=Drive(SIZE, first), nvme=(Drive(SIZE, second),), files=FILES)

    def slow_options(self) -> MachineOptions:
        """A board with two slow disks; QEMU's SD card would hold up the whole board."""
        slow = [Drive(SIZE, path, write_bytes_per_s=SLOW) for path in self.paths]
        return MachineOptions(nvme=tuple(slow), files=FILES)

    def have(self, *wanted: Chunks) -> bool:
        """Whether each image has its bytes."""
        return all(chunks.are_in(path) for path, chunks in zip(self.paths, wanted, strict=True))


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


@pytest.fixture(scope="module")
def board(bench: Bench, usb_host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    images = Images(tmp_path_factory.mktemp("eject"))
    board = bench.boot("living_eject", images.options(), host=usb_host)
    board.expect_phase("exported")
    yield board
    bench.switch_off(pc_too=False)


@pytest.fixture
def blocks(board: Board) -> Iterator[list[HostBlock]]:
    """Both disks at the host; afterwards they are back in their LUNs."""
    blocks = board.host.wait_for_blocks(2, WAIT_S)
    yield blocks
    board.host.run("killall sleep")
    for row in board.exported():
        if row["life"] == "ejected":
            board.check(f"gadgetd insert {row['lun']}")
    for block in blocks:
        expect_host_size(board, block, SIZE)


def blink(board: Board, count: int) -> list[float]:
    """The times between the last `count` changes of the ACT LED, in seconds."""
    times = [at for at, _ in board.machine.led_changes()]
    return [after - before for before, after in pairwise(times[-count:])]


def lit_for(board: Board) -> float:
    """How long the ACT LED has been lit, in seconds; 0 if it is dark."""
    at, on = board.machine.led_changes()[-1]
    return time.time() - board.machine.started_at - at if on else 0


def test_safe_to_unplug_is_said_everywhere_when_the_host_has_ejected_both(
    board: Board, blocks: list[HostBlock]
) -> None:
    since = board.uart.line.position
    host_does(board, eject(blocks[0]))
    board.expect_event(since, event="lun", lun=0, life="ejected")
    assert not board.status()["safe_to_unplug"]
    assert "SAFE TO UNPLUG" not in board.words()
    host_does(board, eject(blocks[1]))
    board.expect_event(since, event="safe_to_unplug", safe=True)
    for number in (0, 1):
        assert lives(board, since, number) == ["ejected, flushing", "ejected"]
    assert board.status()["safe_to_unplug"]
    board.expect_on_both("SAFE TO UNPLUG", since=since)
    board.expect_sign(sign.SAFE)
    begin = len(board.machine.led_changes())
    until("the LED blinks", lambda: len(board.machine.led_changes()) >= begin + 4)
    # A second lit, a second dark; the emulated board is late now and then.
    assert all(0.9 < seconds < 1.9 for seconds in blink(board, 4)), blink(board, 4)
    for block in blocks:
        expect_host_size(board, block, 0)


def test_the_word_is_taken_back_when_a_disk_is_inserted(
    board: Board, blocks: list[HostBlock]
) -> None:
    since = board.uart.line.position
    host_does(board, *map(eject, blocks))
    board.expect_event(since, event="safe_to_unplug", safe=True)
    again = board.uart.line.position
    board.check("gadgetd insert nvme0n1")
    board.expect_event(again, event="safe_to_unplug", safe=False)
    until("the word is not on HDMI", lambda: "SAFE TO UNPLUG" not in board.words())
    board.expect_sign(sign.READY)
    assert not board.status()["safe_to_unplug"]
    until("the LED is lit for good", lambda: lit_for(board) > 2.5)
    expect_host_size(board, blocks[1], SIZE)
    expect_host_size(board, blocks[0], 0)


def test_writing_more_after_a_flush_takes_the_word_back(
    board: Board, blocks: list[HostBlock]
) -> None:
    image = board.machine.image_path("sd")
    first, second = Chunks(0, 16), Chunks(16, 16)
    since = board.uart.line.position
    host_does(board, write(blocks[0], first))
    board.expect_event(since, event="lun", lun=0, life="flushed")
    assert first.are_in(image)
    board.expect_on_screen("1.05 MB", "flushed")
    again = board.uart.line.position
    host_does(board, write(blocks[0], second))
    board.expect_event(again, event="lun", lun=0, life="writing", previous="flushed")
    board.expect_event(again, event="lun", lun=0, life="flushed")
    assert second.are_in(image)
    assert lives(board, since, 0) == ["writing", "flushing", "flushed"] * 2


def test_a_disk_that_the_host_has_locked_is_ejected_by_force_alone(
    board: Board, blocks: list[HostBlock]
) -> None:
    host_locks(board, blocks[0])
    status, said = board.run("gadgetd eject mmcblk0")
    assert status != 0
    assert "mmcblk0 is in use: the host has locked the medium" in said
    assert "gadgetd eject --force mmcblk0" in said
    assert life(board, 0) in ("idle", "reading", "flushed")
    assert board.host_digest(blocks[0], 0, CHUNK)
    since = board.uart.line.position
    assert "mmcblk0 is ejected" in board.check("gadgetd eject --force mmcblk0")
    assert life(board, 0) == "ejected"
    assert board.host.run(f"dd if={blocks[0].device} of=/dev/null bs=512 count=1")[0] != 0
    # What the host still had in its own RAM is lost, so there is no word when the other is out.
    torn = "mmcblk0 was taken from the host while it was open there"
    board.expect_on_both(torn, since=since)
    host_does(board, eject(blocks[1]))
    board.expect_event(since, event="lun", lun=1, life="ejected")
    assert not board.status()["safe_to_unplug"]
    board.expect_event(board.restart("KILL"), event="advice", active=True, message=torn)
    assert not board.status()["safe_to_unplug"]
    assert "SAFE TO UNPLUG" not in board.words()
    assert not [e for e in board.events(since) if e["event"] == "safe_to_unplug"]
    board.host.check("killall sleep")
    board.check("gadgetd insert mmcblk0")
    board.expect_event(since, event="advice", active=False, message=torn)


def test_an_eject_by_name_flushes_and_an_insert_brings_the_disk_back(
    board: Board, blocks: list[HostBlock]
) -> None:
    chunks = Chunks(64, 16)
    host_does(board, write(blocks[1], chunks))
    board.check("gadgetd eject nvme0n1")
    assert chunks.are_in(board.machine.image_path("nvme0"))
    expect_host_size(board, blocks[1], 0)
    status, said = board.run("gadgetd eject 1")
    assert status != 0
    assert "nvme0n1 is not with the host: ejected" in said
    board.check("gadgetd insert 1")
    expect_host_size(board, blocks[1], SIZE)
    status, said = board.run("gadgetd insert 1")
    assert status != 0
    assert "nvme0n1 cannot be inserted" in said
    status, said = board.run("gadgetd eject 7")
    assert status != 0
    assert "0 (mmcblk0), 1 (nvme0n1)" in said


def test_a_board_that_is_to_give_ejected_disks_back_does_so_after_the_delay(
    board: Board, blocks: list[HostBlock]
) -> None:
    board.write_file(CONFIG, "on_ejected: reinsert\nreinsert_after_s: 3\n")
    board.check("gadgetd reload")
    since = board.uart.line.position
    host_does(board, *map(eject, blocks))
    for number, block in enumerate(blocks):
        board.expect_event(since, event="lun", lun=number, life="ejected")
        board.expect_event(since, event="lun", lun=number, previous="ejected")
        expect_host_size(board, block, SIZE)
    lines = board.check("gadgetd log").splitlines()
    (out,) = (seconds(text) for text in lines[-20:] if "SAFE TO UNPLUG" in text)
    (back,) = (seconds(text) for text in lines[-20:] if "NOT safe to unplug any more" in text)
    assert 1 < back - out < 10
    board.check(f"rm {CONFIG}; gadgetd reload")


# The promise itself, with the power cut


def said_safe(board: Board) -> bool:
    return SAFE in board.uart.line.text()


def both_written_and_ejected(board: Board) -> list[Chunks]:
    """Have the host write to both disks and eject both, without a flush of its own."""
    blocks = board.host.wait_for_blocks(2, WAIT_S)
    wanted = [Chunks(32, 56), Chunks(96, 56)]
    writes = [write(block, chunks) for block, chunks in zip(blocks, wanted, strict=True)]
    host_does(board, *writes, *map(drop, blocks))
    return wanted


def test_a_power_cut_at_the_word_safe_loses_no_byte(boot: Boot, images: Images) -> None:
    board = boot(images.options())
    wanted = both_written_and_ejected(board)
    board.uart.line.expect(SAFE, WAIT_S)
    board.machine.kill()
    assert images.have(*wanted)


def test_on_slow_media_the_word_does_not_come_before_the_data(boot: Boot, images: Images) -> None:
    board = boot(images.slow_options())
    wanted = both_written_and_ejected(board)
    assert not images.have(*wanted), "the media are not slow enough for this test"
    assert not said_safe(board)
    board.uart.line.expect(SAFE, WAIT_S)
    board.machine.kill()
    assert images.have(*wanted)


def test_a_power_cut_before_the_data_is_written_never_follows_the_word(
    boot: Boot, images: Images
) -> None:
    board = boot(images.slow_options())
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    wanted = both_written_and_ejected(board)
    # An instant at random, not a wait for something.
    time.sleep(random.Random(seed).uniform(0, 3))
    board.machine.kill()
    assert not images.have(*wanted), "the media are not slow enough for this test"
    assert not said_safe(board)


# What follows an eject of all disks


def seconds(line: str) -> float:
    """When a line of `gadgetd log` was said."""
    return float(line[1:].partition("]")[0])


@pytest.mark.parametrize(
    ("action", "reason"), [("poweroff", "guest-shutdown"), ("reboot", "guest-reset")]
)
def test_a_board_that_is_to_go_down_does_so_when_all_are_ejected_and_flushed(
    boot: Boot, images: Images, action: str, reason: str
) -> None:
    options = images.options()
    files = {**options.files, **yaml_file(f"on_ejected: {action}\n")}
    board = boot(replace(options, files=files))
    monitor = board.machine.monitor
    wanted = both_written_and_ejected(board)
    board.uart.line.expect(SAFE, WAIT_S)
    event = monitor.wait_for_event("SHUTDOWN", lambda _: True, 0, WAIT_S)
    assert event["data"]["reason"] == reason
    assert images.have(*wanted)
    # What ends the daemon does not take the word back.
    assert "gadgetd: stop" not in board.uart.line.text().rpartition(SAFE)[2]
