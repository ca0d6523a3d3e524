"""A medium far slower than USB: the host is made to wait, and is never left without an answer."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

import pytest

from emulator import Drive, Machine, MachineOptions
from tests.vm.board import Board, yaml_file

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.hosts("same"),
    pytest.mark.one_host("same", "what it writes comes from a disk that a PC has not"),
]

MIB = 1 << 20
SIZE = 160_000_000
RATE = 4_000_000
"""Bytes a second: 160 MB take 40 s at the least."""
BLOCK = 1_000_000
LIMIT_S = 240
LIMIT_BYTES = 8 * MIB
PATIENCE_S = 10
"""A flush of all 160 MB would take 40 s, and a host gives up after 30 or 60."""


def test_a_long_write_to_a_slow_disk_arrives_whole_and_without_a_usb_reset(
    boot: Callable[..., Board],
) -> None:
    data = os.urandom(BLOCK) * 3  # windows of it, so that no two blocks are alike
    digest = hashlib.sha256()

    def fill_source(machine: Machine) -> None:
        with machine.image_path("nvme0").open("r+b") as image:
            for index in range(SIZE // BLOCK):
                block = data[index * 97 : index * 97 + BLOCK]
                digest.update(block)
                image.write(block)

    # Not the SD card: QEMU writes to that while the CPU waits, so it would slow down all of the
    # board instead. The source is a disk that is not exported: the host's own, so to say.
    options = MachineOptions(
        nvme=(
            Drive(160 * MIB, serial="SOURCE"),
            Drive(256 * MIB, serial="SLOW", write_bytes_per_s=RATE),
        ),
        ram_mib=1024,
        files=yaml_file("exclude: [{serial: SOURCE}]\n"),
    )
    board = boot(options, prepare=fill_source)
    (block,) = board.host.wait_for_blocks(1)
    limits = board.check("cat /proc/sys/vm/dirty_bytes /proc/sys/vm/dirty_background_bytes")
    assert [int(limit) for limit in limits.split()] == [LIMIT_BYTES, LIMIT_BYTES // 2]
    before = board.host.check("dmesg")
    # Direct: nothing waits in the host's RAM, so that all that waits is in the board's.
    own = board.host.check("cd /sys/block; grep -l SOURCE nvme*/device/serial").partition("/")[0]
    source = f"dd if=/dev/{own} bs={BLOCK} count={SIZE // BLOCK}"
    target = f"dd of={block.device} bs={BLOCK} iflag=fullblock oflag=direct conv=notrunc"
    write_s = _seconds(board, f"{source} 2>/dev/null | {target} status=noxfer")
    flush_s = _seconds(board, f"dd if=/dev/null of={block.device} conv=fsync,notrunc")
    # The host was made to wait while it wrote, and so there was little left for the flush.
    assert flush_s < LIMIT_BYTES / RATE + PATIENCE_S
    assert write_s > (SIZE - 2 * LIMIT_BYTES) / RATE
    after = board.host.check("dmesg").removeprefix(before)
    for word in ("reset", "I/O error", "can't set config", "disconnect", "timed out"):
        assert word not in after, after[-3000:]
    written = hashlib.sha256()
    with board.machine.image_path("nvme1").open("rb") as image:
        for _ in range(SIZE // BLOCK):
            written.update(image.read(BLOCK))
    assert written.hexdigest() == digest.hexdigest()
    board.expect_event(event="lun", life="writing")


def _seconds(board: Board, command: str) -> float:
    """How long the host's command takes; it has to succeed."""
    begin = time.monotonic()
    board.host.check(f"{command} && echo ended well", LIMIT_S)
    return time.monotonic() - begin
