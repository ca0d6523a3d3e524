"""Board, PC or cable are taken away while the PC writes: nothing that was acknowledged is lost.

And the words are right each time. This controller, usbip-vudc, stays at `default` without a cable.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from functools import partial

import pytest

from emulator import HostBlock
from emulator.pc import UDEV_S
from tests.soak import SEED, count
from tests.vm.board import until
from tests.vm.hostside import BLOCK, CHUNK, chunk
from tests.vm.pair import VUDC, Pair

pytestmark = pytest.mark.emulated

FIRST, COUNT = 16, 128
GENERATIONS = 1000
"""More than the PC writes of a chunk before something is taken away."""
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
        " echo $! >/tmp/writer.pid"
    )
    until("chunks are written", lambda: len(acknowledged(pair, generation)) >= AT_LEAST)


def expect_end(pair: Pair) -> None:
    """Wait until the PC that writes has heard of it. What it acknowledged up to then counts."""
    until("it ends", lambda: pair.host.run("kill -0 $(cat /tmp/writer.pid)")[0] != 0)
    assert "OSError" in pair.host.check("cat /tmp/writer.said")


def acknowledged(pair: Pair, since: int) -> dict[int, int]:
    """Chunk to generation, of what the PC has said is written since it began with this one."""
    said = re.findall(r"written (\d+) (\d+)\.\r?\n", pair.pc_console())
    return {int(n): int(g) for n, g in said if since <= int(g) < since + GENERATIONS}


def assert_written(pair: Pair, told: dict[int, int]) -> None:
    """Each block is in the disk's image as it was acknowledged, or as it was to be next."""
    assert len(told) >= AT_LEAST
    with (pair.directory / "nvme0.img").open("rb") as image:
        for number, generation in told.items():
            image.seek(number * CHUNK)
            found = {image.read(BLOCK) for _ in range(CHUNK // BLOCK)}
            assert found <= {chunk(number, generation + more)[:BLOCK] for more in (0, 1)}, number


def take_away(
    pair: Pair,
    kills: range,
    first: int,
    what: str,
    how: Callable[[], None],
    put_back: Callable[[], None],
) -> None:
    """Write, take something away, look at the image, put it back, look again and begin again."""
    for kill in kills:
        generation = (first + kill) * GENERATIONS
        disk = disks(pair)[1]
        begin(pair, disk, generation)
        time.sleep(
            random.Random(f"{SEED} {what} {kill}").uniform(0, MOST_S)
        )  # the instant is chance
        how()
        told = acknowledged(pair, generation)
        assert_written(pair, told)
        put_back()
        assert_written(pair, told)
        count(f"cuts while the PC writes: {what}")
        count("bytes verified that were acknowledged before a cut", len(told) * CHUNK)


def disks(pair: Pair) -> list[HostBlock]:
    """Wait until the PC has both disks; what udev does with them, it does beside the test."""

    def there() -> list[HostBlock]:
        blocks = pair.host.blocks()
        return blocks if len(blocks) == 2 and all(b.size_bytes for b in blocks) else []

    return list(until("the PC has both disks", there, UDEV_S))


def expect_words_of_no_host(pair: Pair, since: int) -> None:
    """UART, HDMI and status say that the host is gone, as far as this controller tells."""
    board = pair.board
    board.expect_event(since, event="lun", lun=1, life="waiting for host")
    host = board.expect_event(since, event="host", state="default")
    assert host["change"] == "reset"
    advice = board.expect_event(since, event="advice", active=True)
    assert (advice["message"], advice["hint"]) == (NO_HOST, WHAT_TO_DO)
    shown = board.expect_on_screen(
        "PC: not set up by a host, or no more",
        NO_HOST,
        f"What to do: {WHAT_TO_DO}",
    )
    status = board.status()
    assert [each["message"] for each in status["advice"]] == [NO_HOST]
    controller = status["controller"]
    assert (controller["name"], controller["state"]) == (VUDC, "default")
    assert [disk["life"] for disk in status["disks"]] == ["waiting for host"] * 2
    # The PC may still have held something.
    assert not status["safe_to_unplug"]
    assert "SAFE TO UNPLUG" not in shown


def plug(pair: Pair) -> None:
    """Put the cable in: they say that a host is there, and take back what they said before."""
    board = pair.board
    since = board.uart.line.position
    # It looks into each disk that comes, for a minute on an emulated PC. The first plug had it.
    pair.host.check("udevadm control --stop-exec-queue")
    pair.plug()
    board.expect_event(since, UDEV_S, event="host", change="configured", state="configured")
    disks(pair)
    status = until("no advice is left", lambda: (s := board.status())["advice"] == [] and s)
    assert status["controller"]["state"] == "configured"
    shown = board.expect_on_screen("PC: connected, high-speed (480 Mb/s)")
    assert NO_HOST not in shown


def test_the_cable_is_pulled_while_the_pc_writes(pair: Pair, kills: range) -> None:
    def pull() -> None:
        since = pair.board.uart.line.position
        pair.unplug()
        expect_end(pair)
        expect_words_of_no_host(pair, since)

    take_away(pair, kills, 1, "the cable", pull, partial(plug, pair))


def test_the_board_is_killed_while_the_pc_writes(pair: Pair, kills: range) -> None:
    def kill() -> None:
        pair.kill_board()
        expect_end(pair)
        until("the disks are gone", lambda: pair.host.blocks() == [])

    def boot() -> None:
        pair.boot_board()
        plug(pair)

    take_away(pair, kills, 100, "the board's power", kill, boot)


@pytest.mark.long
def test_the_pc_is_killed_while_it_writes_and_the_next_one_is_served(
    pair: Pair, kills: range
) -> None:
    def kill() -> None:
        since = pair.board.uart.line.position
        pair.kill_pc()
        expect_words_of_no_host(pair, since)

    def boot() -> None:
        pair.boot_pc()
        plug(pair)

    take_away(pair, kills, 200, "the PC's power", kill, boot)
