"""Disks that come and go while the host works: the others go on, and LUN numbers do not move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, HostBlock, Machine, MachineOptions, disk_numbers
from tests.vm.board import CHUNK, WAIT_S, Board, Pattern
from tests.vm.conftest import Bench
from tests.vm.living import (
    FILES,
    MIB,
    assert_host_undisturbed,
    expect_host_size,
    host_locks,
    mark,
    traffic,
)

pytestmark = [pytest.mark.emulated, pytest.mark.hosts("same")]

SD_SIZE, NVME_SIZE = 64 * MIB, 48 * MIB
NVME = "HOTNVME1"


@pytest.fixture(scope="module")
def board(bench: Bench, usb_host: str, request: pytest.FixtureRequest) -> Iterator[Board]:
    """An SD card, and an NVMe disk in a slot from which it can be pulled."""
    images = bench.directory(f"{request.module.__name__} images")
    drive = Drive(NVME_SIZE, images / "nvme.img")
    options = MachineOptions(sd=Drive(SD_SIZE), spare_ports=1, files=FILES)

    def plug(machine: Machine) -> None:
        machine.plug_nvme(NVME, drive)

    yield bench.boot("living_hotplug", options, plug, host=usb_host)
    bench.switch_off(pc_too=False)


@pytest.fixture
def blocks(board: Board) -> list[HostBlock]:
    blocks = board.host.wait_for_blocks(2, WAIT_S)
    assert disk_numbers(blocks) == [0, 1]
    assert [block.size_bytes for block in blocks] == [SD_SIZE, NVME_SIZE]
    return blocks


@pytest.mark.parametrize("locked", [False, True], ids=["closed", "open on the host"])
def test_an_nvme_disk_can_be_pulled_and_plugged_while_the_host_writes_to_the_sd_card(
    board: Board, blocks: list[HostBlock], locked: bool
) -> None:
    sd, nvme = blocks
    kept = Pattern(3_000_000, 4 * CHUNK)
    assert board.host_writes(nvme, 8 * CHUNK, kept)[0] == 0
    image = board.machine.image_path("sd")
    nvme_image = board.machine.image_path(NVME)
    since, begin = board.uart.line.position, mark(board)
    if locked:
        host_locks(board, nvme)
    with traffic(board, sd) as writing:
        board.machine.unplug_nvme(NVME)
        gone = board.expect_event(since, event="lun", life="gone")
        assert (gone["lun"], gone["name"]) == (1, "nvme0n1")
        at_pull = writing.progress()
        expect_host_size(board, nvme, 0)
        board.expect_on_screen("gone, number kept")
        rows = {row["lun"]: row for row in board.exported()}
        assert rows[0]["life"] == "writing"
        assert rows[1]["life"] == "gone"
        board.machine.plug_nvme(NVME, Drive(NVME_SIZE, nvme_image))
        back = board.expect_event(since, event="lun", back=True)
        assert (back["lun"], back["name"]) == (1, "nvme0n1")
        assert back["life"] == "idle"
        expect_host_size(board, nvme, NVME_SIZE)
        assert writing.progress() > at_pull
    board.host.check("killall sleep 2>/dev/null; true")
    assert writing.wrong_on_medium(image) == []
    assert board.host_digest(nvme, 8 * CHUNK, kept.size_bytes) == kept.digest
    assert board.host.wait_for_blocks(2, WAIT_S) == blocks
    assert [(row["lun"], row["name"]) for row in board.exported()] == [
        (0, "mmcblk0"),
        (1, "nvme0n1"),
    ]
    assert_host_undisturbed(board, begin)
    events = board.events(since)
    assert not [event for event in events if event["event"] == "host"]
    assert not [event for event in events if event.get("life") == "write error"]
