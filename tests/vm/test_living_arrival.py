"""A disk that arrives after the bind: no transfer of another one is broken for it."""

from __future__ import annotations

import pytest

from emulator import Drive, MachineOptions
from tests.vm.board import WAIT_S, inquiry, lun_of, until, yaml_file
from tests.vm.conftest import Boot
from tests.vm.living import (
    FILES,
    MIB,
    Chunks,
    assert_host_undisturbed,
    expect_host_at_rest,
    expect_host_size,
    expect_life,
    host_does,
    kernel_said,
    mark,
    traffic,
    write,
)

pytestmark = pytest.mark.emulated

SD_SIZE, NVME_SIZE = 64 * MIB, 48 * MIB


def test_with_slots_a_disk_comes_as_a_medium_inserted_while_the_host_writes(boot: Boot) -> None:
    board = boot(
        MachineOptions(sd=Drive(SD_SIZE), spare_ports=2, files={**FILES, **yaml_file("slots: 1\n")})
    )
    until("the host sees the disk and an empty drive", lambda: len(board.host.blocks()) == 2)
    sd, empty = board.host.blocks()
    assert [sd.lun, empty.lun] == [0, 1]
    assert empty.inquiry == inquiry("slot 1")
    expect_host_size(board, empty, 0)
    begin, since = mark(board), board.uart.line.position
    with traffic(board, sd) as writing:
        board.machine.plug_nvme("ARRIVED1", Drive(NVME_SIZE))
        disk = board.expect_event(since, event="disk", name="nvme0n1")
        assert disk["lun"] == 1
        expect_host_size(board, empty, NVME_SIZE)
        chunks = Chunks(4, 16)
        host_does(board, write(empty, chunks))
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    board.expect_event(since, event="lun", lun=1, life="flushed")
    assert chunks.are_in(board.machine.image_path("ARRIVED1"))
    assert_host_undisturbed(board, begin)

    # There is no slot left for the next one: it takes a new LUN, now that the host is idle.
    since = board.uart.line.position
    board.machine.plug_nvme("ARRIVED2", Drive(NVME_SIZE))
    disk = board.expect_event(since, event="disk", name="nvme1n1", lun=2)
    blocks = board.host.wait_for_blocks(3, WAIT_S)
    assert [lun_of(block) for block in blocks] == [0, 1, 2]
    assert kernel_said(board, begin).count("USB disconnect") == 1


def test_without_slots_a_disk_waits_until_the_host_is_idle_and_the_consoles_say_why(
    boot: Boot,
) -> None:
    board = boot(MachineOptions(sd=Drive(SD_SIZE), spare_ports=2, files=FILES))
    (sd,) = board.host.wait_for_blocks(1, WAIT_S)
    begin, since = mark(board), board.uart.line.position
    with traffic(board, sd) as writing:
        board.machine.plug_nvme("ARRIVED1", Drive(NVME_SIZE))
        disk = board.expect_event(since, event="disk", name="nvme0n1")
        assert disk["lun"] is None
        assert "waits until the host is idle" in disk["reason"]
        board.expect_on_screen("nvme0n1 NVMe 50.3 MB: not yet, waits until the host is idle")
        at_arrival = writing.progress()
        until("the host has gone on writing", lambda: writing.progress() > at_arrival + MIB)
        assert [block.name for block in board.host.blocks()] == [sd.name]
        assert_host_undisturbed(board, begin)
    board.expect_event(since, event="disk", name="nvme0n1", lun=1)
    blocks = board.host.wait_for_blocks(2, WAIT_S)
    assert [block.inquiry for block in blocks] == [inquiry("SD mmcblk0"), inquiry("NVMe nvme0n1")]
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert kernel_said(board, begin).count("USB disconnect") == 1

    # And at once, if the host does nothing, not even look what is on the disks.
    board.expect_event(since, event="disk", name="sdb")
    expect_life(board, 0, "idle", "flushed")
    expect_life(board, 1, "idle", "flushed")
    expect_host_at_rest(board)
    since = board.uart.line.position
    board.machine.plug_nvme("ARRIVED2", Drive(NVME_SIZE))
    assert board.expect_event(since, event="disk", name="nvme1n1")["lun"] == 2
    assert len(board.host.wait_for_blocks(3, WAIT_S)) == 3
