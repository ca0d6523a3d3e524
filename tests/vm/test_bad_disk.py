"""A disk that cannot be read in one place, and one that is pulled while the host writes to it.

One that refuses what is written is in test_living_trouble.py and test_write_errors.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, Machine, MachineOptions
from tests.vm.board import WAIT_S, Board, until
from tests.vm.conftest import Bench
from tests.vm.living import FILES, MIB, bad_disk, expect_life, kernel_said, mark, traffic

pytestmark = pytest.mark.emulated

SIZE = 32 * MIB
BAD_AT = 8 * MIB
"""Where the bad disk cannot be read."""
PULLED = "PULLED1"


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    images = bench.directory("bad_disk images")
    options = MachineOptions(
        sd=Drive(SIZE),
        spare_ports=1,
        files=FILES,
        qemu_arguments=bad_disk(images / "bad.img", SIZE, "read", BAD_AT),
    )

    def plug(machine: Machine) -> None:
        machine.plug_nvme(PULLED, Drive(SIZE, images / "pulled.img"))

    board = bench.boot("bad_disk", options, plug)
    board.expect_phase("exported")
    board.host.wait_for_blocks(3, WAIT_S)
    yield board
    bench.switch_off()


def number_of(board: Board, serial: str) -> int:
    """The LUN of the disk with this serial number."""
    (lun,) = (row["lun"] for row in board.exported() if row["serial"] == serial)
    return int(lun)


def test_a_disk_that_cannot_be_read_is_named_and_the_others_go_on(board: Board) -> None:
    blocks = board.host.wait_for_blocks(3, WAIT_S)
    lun = number_of(board, "BAD1")
    name = board.exported()[lun]["name"]
    daemon, since, begin = board.daemon(), board.uart.line.position, mark(board)
    with traffic(board, blocks[0]) as writing:
        before = writing.progress()
        read = f"dd if={blocks[lun].device} of=/dev/null bs=4k skip={BAD_AT >> 12} count=1"
        assert board.host.run(f"{read} iflag=direct", WAIT_S)[0] != 0
        said = board.expect_event(since, event="advice", active=True)
        assert name in said["message"]
        assert "I/O error" in said["message"]
        until("the other disk goes on", lambda: writing.progress() > before)
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert board.daemon() == daemon
    # The host was told by an error of that disk, and of nothing else.
    assert "USB disconnect" not in kernel_said(board, begin)
    # What can be read there still is.
    assert board.host.run(read.replace(f"skip={BAD_AT >> 12}", "skip=0"), WAIT_S)[0] == 0
    assert expect_life(board, lun, "idle", "reading")


def test_a_disk_that_is_pulled_in_mid_write_costs_only_its_own_data(board: Board) -> None:
    blocks = board.host.wait_for_blocks(3, WAIT_S)
    lun = number_of(board, PULLED)
    daemon, since = board.daemon(), board.uart.line.position
    with traffic(board, blocks[0]) as writing:
        dd = f"dd if=/dev/urandom of={blocks[lun].device} bs=64k count=64 oflag=direct"
        board.host.check(f"(while {dd}; do :; done) >/tmp/dd 2>&1 &")
        board.expect_event(since, event="lun", lun=lun, life="writing")
        board.machine.unplug_nvme(PULLED)
        board.expect_event(since, event="lun", lun=lun, life="gone")
        until("the host's write fails", lambda: "rror" in board.host.check("cat /tmp/dd"))
        before = writing.progress()
        until("the other disk goes on", lambda: writing.progress() > before)
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert board.daemon() == daemon
    said = [event["message"] for event in board.events(since) if event["event"] == "advice"]
    assert any("does not have all that the host had written" in each for each in said), said
    assert not board.status()["safe_to_unplug"]
