"""Board, PC or cable are taken away while the PC writes: nothing that was acknowledged is lost.

And the words are right each time. This controller, usbip-vudc, stays at `default` without a cable.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import pytest

from emulator import HostBlock
from tests.soak import SEED, count
from tests.vm.board import BOOT_S, until
from tests.vm.hostside import CHUNK, chunk
from tests.vm.pair import VUDC, Pair

pytestmark = pytest.mark.emulated

FIRST, COUNT = 16, 128
AT_LEAST = 4
"""Chunks that are acknowledged before anything is taken away."""
MOST_S = 3.0
"""How much later, at most, something is taken away."""
NO_HOST = (
    "no host has set this board up (state: default): the cable may be out, or the PC off or asleep"
)
WHAT_TO_DO = "plug the cable in, wake the PC; if both are so, try another cable or port"
WRITER = f"""
import os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
console = os.open("/dev/ttyAMA0", os.O_WRONLY | os.O_NOCTTY)
for step in range(1 << 30):
    number, generation = {FIRST} + step % {COUNT}, int(sys.argv[2]) + step // {COUNT}
    data = struct.pack("<QQ", number, generation) * ({CHUNK} // 16)
    os.pwrite(fd, data, number * {CHUNK})
    os.fsync(fd)
    os.write(console, b"written %d %d.\\n" % (number, generation))
"""
"""Runs on the PC: chunk after chunk through its cache, each acknowledged after an fsync."""


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> range:
    """One number for each time that something is taken away."""
    return range(request.config.getoption("--kills"))


def begin(pair: Pair, disk: HostBlock, generation: int) -> None:
    """Have the PC write, and return once some chunks are acknowledged."""
    pair.host.check(
        f"cat >/tmp/writer <<'END'\n{WRITER}\nEND\n"
        f"python3 -S /tmp/writer {disk.device} {generation} >/tmp/writer.said 2>&1 &"
    )
    until("chunks are written", lambda: len(acknowledged(pair, generation)) >= AT_LEAST)


def acknowledged(pair: Pair, since: int) -> dict[int, int]:
    """Chunk to generation, of what the PC has said is written, from this generation on."""
    said = re.findall(r"written (\d+) (\d+)\.\r?\n", pair.pc_console())
    return {int(n): int(g) for n, g in said if int(g) >= since}


def assert_written(pair: Pair, told: dict[int, int]) -> None:
    """Each chunk is in the disk's image as it was acknowledged, or as a later one."""
    assert len(told) >= AT_LEAST
    with (pair.directory / "nvme0.img").open("rb") as image:
        for number, generation in told.items():
            image.seek(number * CHUNK)
            found = image.read(CHUNK)
            assert found in (chunk(number, generation), chunk(number, generation + 1)), number


def take_away(pair: Pair, kills: range, first: int, what: str, how: Callable[[], None]) -> None:
    """Write, take something away, look at the image, put it back and begin again."""
    for kill in kills:
        generation = (first + kill) * 1000
        disk = pair.host.wait_for_blocks(2, BOOT_S)[1]
        begin(pair, disk, generation)
        time.sleep(
            random.Random(f"{SEED} {what} {kill}").uniform(0, MOST_S)
        )  # the instant is chance
        told = acknowledged(pair, generation)
        how()
        assert_written(pair, told)
        count(f"cuts while the PC writes: {what}")
        count("bytes verified that were acknowledged before a cut", len(told) * CHUNK)


def expect_words_of_no_host(pair: Pair, since: int) -> None:
    """UART, HDMI and status say that the host is gone, as far as this controller tells."""
    board = pair.board
    board.expect_event(since, event="lun", lun=1, life="waiting for host")
    host = board.expect_event(since, event="host", state="default")
    assert host["change"] == "reset"
    advice = board.expect_event(since, event="advice", active=True)
    assert (advice["message"], advice["hint"]) == (NO_HOST, WHAT_TO_DO)
    board.expect_on_screen(
        "PC: not set up by a host, or no more",
        NO_HOST,
        f"What to do: {WHAT_TO_DO}",
    )
    status = board.status()
    assert [each["message"] for each in status["advice"]] == [NO_HOST]
    controller = status["controller"]
    assert (controller["name"], controller["state"]) == (VUDC, "default")
    assert [row["life"] for row in board.exported()] == ["waiting for host"] * 2
    # The PC may still have held something.
    assert not status["safe_to_unplug"]
    assert "SAFE TO UNPLUG" not in board.words()


def expect_words_of_a_host(pair: Pair, since: int) -> None:
    """They say that it is back, and take back what they said before."""
    board = pair.board
    board.expect_event(since, event="host", change="configured", state="configured")
    pair.host.wait_for_blocks(2, BOOT_S)
    board.expect_on_screen("PC: connected, high-speed (480 Mb/s)")
    until("no advice is left", lambda: board.status()["advice"] == [])
    assert board.status()["controller"]["state"] == "configured"
    assert NO_HOST not in board.words()


def test_the_cable_is_pulled_while_the_pc_writes(pair: Pair, kills: range) -> None:
    def pull() -> None:
        since = pair.board.uart.line.position
        pair.unplug()
        expect_words_of_no_host(pair, since)
        since = pair.board.uart.line.position
        pair.plug()
        expect_words_of_a_host(pair, since)

    take_away(pair, kills, 1, "the cable", pull)


def test_the_board_is_killed_while_the_pc_writes(pair: Pair, kills: range) -> None:
    def kill() -> None:
        pair.kill_board()
        until("the disks are gone", lambda: pair.host.blocks() == [])
        pair.boot_board()
        since = pair.board.uart.line.position
        pair.plug()
        expect_words_of_a_host(pair, since)

    take_away(pair, kills, 100, "the board's power", kill)


@pytest.mark.long
def test_the_pc_is_killed_while_it_writes_and_the_next_one_is_served(
    pair: Pair, kills: range
) -> None:
    def kill() -> None:
        since = pair.board.uart.line.position
        pair.kill_pc()
        expect_words_of_no_host(pair, since)
        since = pair.board.uart.line.position
        pair.boot_pc()
        pair.plug()
        expect_words_of_a_host(pair, since)

    take_away(pair, kills, 200, "the PC's power", kill)
