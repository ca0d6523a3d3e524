"""What a host is told of the gadget: its interfaces, by how many disks there are, and with ACM.

The host is the board's own kernel, which has read the descriptors over the bus.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, HostBlock, MachineOptions, disk_numbers
from tests.vm.board import CHUNK, CONFIG, WAIT_S, Board, Pattern, inquiry, until
from tests.vm.conftest import MIB, Bench
from tests.vm.living import FILES, assert_host_undisturbed, eject, host_does, mark, traffic

pytestmark = pytest.mark.emulated

DISKS = 10
NAMES = tuple(f"nvme{n}n1" for n in range(DISKS))
STORAGE, ACM_CONTROL, ACM_DATA = "08/06/50/2", "02/02/01/1", "0a/00/00/2"
"""Class, subclass, protocol, endpoints. Source: USB Mass Storage Class, Bulk Only 1.0; CDC 1.2."""


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    nvme = tuple(Drive((16 + n) * MIB) for n in range(DISKS))
    board = bench.boot("functions", MachineOptions(nvme=nvme, files=FILES))
    board.host.wait_for_blocks(DISKS)
    # It answers only once the disks are there.
    until("a daemon answers", lambda: board.run("gadgetd status")[0] == 0)
    yield board
    bench.switch_off()


def export(board: Board, disks: int, usb: str = "") -> list[HostBlock]:
    """Start anew with so many of the disks."""
    others = "".join(f"- name: {name}\n" for name in NAMES[disks:])
    exclude = f"exclude:\n{others}" if others else ""
    board.write_file(CONFIG, f"{exclude}usb: {{{usb}}}\n")
    board.check("gadgetd stop; gadgetd start")
    return board.host.wait_for_blocks(disks, WAIT_S)


def interfaces(board: Board) -> list[str]:
    """What the host was told of each interface, in their order."""
    names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol", "bNumEndpoints")
    paths = " ".join(f"$each/{name}" for name in names)
    said = board.host.check(
        f"for each in /sys/bus/usb/devices/1-1:1.*; do echo $(cat {paths}) ${{each##*.}}; done"
    )
    rows = sorted((line.split() for line in said.splitlines()), key=lambda row: int(row[-1]))
    return ["/".join((*row[:3], row[3].lstrip("0"))) for row in rows]


def expect_disks(board: Board, blocks: list[HostBlock], functions: int) -> None:
    assert disk_numbers(blocks) == list(range(len(blocks)))
    assert [block.function for block in blocks] == [n % functions for n in range(len(blocks))]
    names = NAMES[: len(blocks)]
    assert [block.inquiry for block in blocks] == [inquiry(f"NVMe {name}") for name in names]
    assert [block.size_bytes for block in blocks] == [(16 + n) * MIB for n in range(len(blocks))]
    # Each is the one that its name says: the bytes, and not only the size.
    for block, name in zip(blocks, names, strict=True):
        pattern = Pattern(1_000_000 + block.size_bytes // MIB, CHUNK)
        assert board.host_writes(block, 0, pattern)[0] == 0
        assert board.medium_digest(name, 0, CHUNK) == pattern.digest


@pytest.mark.parametrize(
    ("disks", "usb", "functions", "acm"),
    [
        pytest.param(1, "", 1, False, marks=pytest.mark.long),
        (2, "", 2, False),
        # As many as a host finds disks in, of this controller.
        pytest.param(7, "", 4, False, marks=pytest.mark.long),
        pytest.param(10, "", 4, False, marks=pytest.mark.long),
        (10, "functions: 1", 2, False),
        pytest.param(1, "acm: true", 1, True, marks=pytest.mark.long),
        (2, "acm: true", 2, True),
        pytest.param(7, "acm: true", 2, True, marks=pytest.mark.long),
        (10, "acm: true", 2, True),
    ],
)
def test_each_disk_is_an_interface_of_its_own_as_far_as_there_may_be_so_many(
    board: Board, disks: int, usb: str, functions: int, acm: bool
) -> None:
    blocks = export(board, disks, usb)
    expect_disks(board, blocks, functions)
    assert interfaces(board) == [STORAGE] * functions + [ACM_CONTROL, ACM_DATA] * acm
    assert "endpoints" not in board.status()["controller"]["note"]


def test_all_disks_in_one_function_are_taken_over_from_a_daemon_that_was_killed(
    board: Board,
) -> None:
    blocks = export(board, 3, "functions: 1")
    assert [(block.function, block.lun) for block in blocks] == [(0, 0), (0, 1), (0, 2)]
    # What an earlier version did, this one does only if it is told to: now it is not any more.
    board.write_file(CONFIG, "exclude:\n" + "".join(f"- name: {name}\n" for name in NAMES[3:]))
    begin = mark(board)
    with traffic(board, blocks[1]) as writing:
        board.expect_phase("exported", board.restart("KILL"))
        assert board.check("gadgetd reload") == "3 disks exported\n"
        at_takeover = writing.progress()
        until("the host has gone on writing", lambda: writing.progress() > at_takeover + MIB)
        assert board.host.blocks() == blocks
    assert writing.wrong_on_medium(board.machine.image_path("nvme1")) == []
    assert_host_undisturbed(board, begin)
    # An eject is noticed, and undone, in it.
    host_does(board, eject(blocks[1]))
    until("the eject is noticed", lambda: board.exported()[1]["life"] == "ejected")
    assert [row["life"] == "ejected" for row in board.exported()] == [False, True, False]
    board.check("gadgetd insert 1")
    assert board.host.wait_for_blocks(3, WAIT_S) == blocks
    assert_host_undisturbed(board, begin)
    # One more disk needs a new connection, and with it each gets a function of its own.
    board.write_file(CONFIG, "exclude:\n" + "".join(f"- name: {name}\n" for name in NAMES[4:]))
    board.check("gadgetd reload; gadgetd attach --yes")
    expect_disks(board, board.host.wait_for_blocks(4, WAIT_S), 4)
