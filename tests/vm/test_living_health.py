"""A disk's health on the emulated board: QEMU's NVMe disk has a SMART log, and a warning to set."""

from __future__ import annotations

from typing import Any

import pytest

from emulator import Drive, MachineOptions
from tests.vm.board import WAIT_S, Board, until
from tests.vm.conftest import Boot
from tests.vm.living import FILES, MIB, traffic

pytestmark = pytest.mark.emulated

SIZE = 32 * MIB
SPARE, RELIABILITY = 1 << 0, 1 << 2


def health(board: Board, name: str) -> dict[str, Any] | None:
    """What `gadgetd status --json` says of a disk's health."""
    rows = {row["name"]: row for row in board.status()["disks"]}
    told: dict[str, Any] | None = rows[name]["health"]
    return told


def set_warning(board: Board, bits: int) -> None:
    """Have the NVMe disk warn from now on, as one does that fails while it is used."""
    board.machine.monitor.execute(
        "qom-set",
        {
            "path": "/machine/peripheral/nvme0",
            "property": "smart_critical_warning",
            "value": bits,
        },
    )


def test_a_disk_that_begins_to_warn_is_told_on_both_consoles_while_the_host_writes(
    boot: Boot,
) -> None:
    board = boot(MachineOptions(sd=Drive(SIZE), nvme=(Drive(SIZE),), files=FILES))
    _, nvme = board.host.wait_for_blocks(2, WAIT_S)
    until("the NVMe disk has told its health", lambda: health(board, "nvme0n1"))
    told = health(board, "nvme0n1")
    assert told is not None
    assert told["warnings"] == []
    assert told["worn_percent"] == 0
    assert told["media_errors"] == 0
    assert 0 < told["temperature_c"] < 100
    assert health(board, "mmcblk0") is None  # An SD card tells nothing, and that is no problem.
    assert not [e for e in board.events() if e["event"] == "advice" and "warns" in e["message"]]
    assert "Health of nvme0n1: 0 % worn" in board.check("gadgetd status")
    assert "0 % worn" in board.check("gadgetd scan")

    since = board.uart.line.position
    with traffic(board, nvme):
        set_warning(board, RELIABILITY | SPARE)
        # Whoever asks for the status has it asked; what it answers shows in the next.
        until(
            "the warning is in the status",
            lambda: health(board, "nvme0n1")["warnings"] == ["spare", "reliability"],  # type: ignore[index]
        )
        board.expect_on_both(
            "nvme0n1 warns: its spare blocks are nearly used up",
            "nvme0n1 warns: it says that it has become unreliable",
            since=since,
        )
        board.expect_on_screen("copy what you need from it, and replace it")
    assert board.status()["phase"] == "exported"

    set_warning(board, 0)
    message = "nvme0n1 warns: it says that it has become unreliable"

    def over() -> bool:
        board.status()
        return any(
            event["event"] == "advice" and not event["active"] and event["message"] == message
            for event in board.events(since)
        )

    until("it is told that this is over", over)
