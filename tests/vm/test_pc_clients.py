"""Programs that nobody here wrote, on a PC that is a machine of its own, write to the disks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, HostBlock, MachineOptions
from tests.vm.board import BOOT_S, Pattern
from tests.vm.conftest import Bench
from tests.vm.pair import Pair

pytestmark = pytest.mark.emulated

MIB = 1 << 20
SIZES = [64 * MIB, 48 * MIB]
CLIENT_S = 120


@pytest.fixture(scope="module")
def pair(bench: Bench) -> Iterator[Pair]:
    """A board and a PC, the cable in."""
    bench.switch_off()
    sd, nvme = SIZES
    options = MachineOptions(sd=Drive(sd), nvme=(Drive(nvme),))
    pair = Pair(bench.directory("pc_clients"), options)
    try:
        pair.boot_pc()
        pair.boot_board()
        pair.plug()
        yield pair
    finally:
        pair.close()


@pytest.fixture
def disks(pair: Pair) -> list[HostBlock]:
    """Both disks, as the PC has them."""
    return pair.host.wait_for_blocks(2, BOOT_S)


def has(pair: Pair, name: str, offset: int, pattern: Pattern) -> bool:
    return pair.board.medium_digest(name, offset, pattern.size_bytes) == pattern.digest


def test_the_disks_appear_on_the_pc(pair: Pair, disks: list[HostBlock]) -> None:
    assert [disk.size_bytes for disk in disks] == SIZES
    assert {disk.controller for disk in disks} == {"vhci_hcd.0"}


@pytest.mark.parametrize("flag", ["", "oflag=direct"])
def test_dd(pair: Pair, disks: list[HostBlock], flag: str) -> None:
    pattern = Pattern(1_000_000 if flag else 2_000_000, 4 * MIB)
    target = f"dd of={disks[1].device} bs=1M iflag=fullblock conv=fsync,notrunc {flag}"
    pair.host.check(f"{pattern.command} | {target}", CLIENT_S)
    assert has(pair, "nvme0n1", 0, pattern)
