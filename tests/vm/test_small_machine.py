"""Little memory, one core, and no room in /run: the disks are exported all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, MachineOptions
from tests.vm.board import WAIT_S, Board
from tests.vm.conftest import Bench
from tests.vm.living import MIB

pytestmark = pytest.mark.emulated

SIZES = [32 * MIB, 48 * MIB]
FULL = """\
mkdir -p /run
mount -t tmpfs -o size=64k tmpfs /run
dd if=/dev/zero of=/run/full bs=4k 2>/dev/null
"""


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    sd, nvme = SIZES
    options = MachineOptions(
        sd=Drive(sd),
        nvme=(Drive(nvme),),
        ram_mib=256,
        cmdline="maxcpus=1",
        hook=FULL,
    )
    yield bench.boot("small_machine", options)
    bench.switch_off()


def test_it_is_small_and_exports(board: Board) -> None:
    board.expect_phase("exported")
    assert int(board.check("grep MemTotal /proc/meminfo").split()[1]) < 256 << 10
    assert board.check("grep -c ^processor /proc/cpuinfo").strip() == "1"
    assert board.run("echo more >/run/more")[0] != 0, "there is room in /run"
    assert [block.size_bytes for block in board.host.wait_for_blocks(2, WAIT_S)] == SIZES
    # Nothing to write the LUN numbers to, which is no problem of anybody's as long as it lives.
    assert board.status()["problem"] is None
