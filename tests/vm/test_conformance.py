"""What programs that know SCSI say of the drives, beside the same disks set up by a bare script.

gadgetd may be no worse than the kernel's gadget is by itself. What that refuses stands here, with
the reason, so that a change of it is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from emulator import Drive, HostBlock, MachineOptions
from emulator.cache import CHECKOUT
from tests.vm.board import WAIT_S, Board, until, yaml_file
from tests.vm.conftest import Bench
from tests.vm.living import FILES, MIB, eject, expect_life, host_does

pytestmark = pytest.mark.emulated

PACKAGES = (
    *("sg3-utils", "libsgutils2-1.46-2", "sdparm"),
    *("libiscsi-bin", "libiscsi7", "libcunit1"),
    *("libibverbs1", "librdmacm1", "libnl-3-200", "libnl-route-3-200"),
)
SCRIPT = "/usr/lib/bare"
GOOD, NOT_READY, ILLEGAL_REQUEST, INVALID_OPCODE = 0, 2, 5, 9
"""Exit status. Source: sg3_utils(8), EXIT STATUS."""
COMMANDS = (
    *("sg_turs", "sg_inq", "sg_readcap", "sg_readcap --16", "sg_modes --all", "sg_requests"),
    *("sg_luns", "sg_sync", "sg_start --start", "sg_prevent --allow", "sg_vpd", "sdparm --all"),
    "sg_verify --lba=0 --count=1",
)
REFUSED = {
    # INQUIRY with EVPD set: f_mass_storage has no vital product data.
    "sg_vpd": ILLEGAL_REQUEST,
    # A host asks the transport how many LUNs there are.
    "sg_luns": INVALID_OPCODE,
    # It has the mode page of the cache, prints that, and none of the other pages.
    "sdparm --all": ILLEGAL_REQUEST,
}
NAMED = re.compile(r"identification|revision|Unit serial|peripheral_type|/dev/sg")
"""Lines with a drive's own name."""
NO_MEDIUM = {
    *("sg_turs", "sg_readcap", "sg_readcap --16", "sg_sync", "sg_start --start"),
    "sg_verify --lba=0 --count=1",
}
"""What needs one."""


SUITES = ("TestUnitReady", "Inquiry", "Mandatory", "ReadCapacity10", "ReadCapacity16")
"""Of iscsi-test-cu. Those that read past the end, as Read10, take minutes."""
KNOWN_TO_FAIL = {
    # f_mass_storage has no vital product data.
    *("Inquiry.BlockLimits", "Inquiry.MandatoryVPDSBC", "Inquiry.SupportedVPD"),
    # The suite asks for 260 bytes, and f_mass_storage knows one byte of the length alone (source:
    # check_command for INQUIRY in drivers/usb/gadget/function/f_mass_storage.c).
    "Inquiry.Standard",
}
RAN = 14
"""Tests in these suites."""
SUITE_S = 180
TOTALS = re.compile(r"^ *tests +\d+ +(\d+) +\d+ +(\d+) ", re.MULTILINE)
FAILURE = re.compile(r"^Suite \w+, Test (\S+) had failures:", re.MULTILINE)


class Answer(NamedTuple):
    """What a program said."""

    status: int
    text: str


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    options = MachineOptions(
        sd=Drive(32 * MIB),
        nvme=(
            Drive(48 * MIB),
            Drive(64 * MIB, logical_block_size=4096),
            Drive(80 * MIB, read_only=True),
        ),
        packages=PACKAGES,
        files={
            **FILES,
            **yaml_file("slots: 1\n"),
            SCRIPT: CHECKOUT / "bench" / "peer" / "S99gadget",
        },
    )
    board = bench.boot("conformance", options)
    board.expect_phase("exported")
    # A disk that came a moment later than the others has taken the slot: a start makes another.
    board.check("gadgetd stop")
    board.expect_host_without_disks()
    board.check("gadgetd start")
    board.host.check("modprobe sg")
    yield board
    bench.switch_off()


def generic(board: Board, block: HostBlock) -> str:
    """The drive's /dev/sgN, which can be opened whatever medium is in it, and asks nothing."""
    return "/dev/" + board.host.check(f"ls /sys/block/{block.name}/device/scsi_generic").strip()


def ask(board: Board, block: HostBlock) -> dict[str, Answer]:
    """Put every question to a drive. Who made it and which it is, is left out of the answers."""
    answers = {}
    device = generic(board, block)
    for command in COMMANDS:
        status, said = board.host.run(f"{command} {device}", WAIT_S)
        kept = [line for line in said.splitlines() if not NAMED.search(line)]
        answers[command] = Answer(status, "\n".join(kept))
    return answers


def drives(board: Board) -> list[HostBlock]:
    """The four disks and the empty drive, once the host has them all."""
    until("the host has five drives", lambda: len(board.host.blocks()) == 5)
    until("it is done with them", lambda: board.host.has_attached(board.host.blocks()))
    return board.host.blocks()


@pytest.fixture(scope="module")
def ours(board: Board) -> list[dict[str, Answer]]:
    assert [block.size_bytes // MIB for block in drives(board)] == [32, 48, 64, 80, 0]
    return [ask(board, block) for block in drives(board)]


def statuses(answers: dict[str, Answer]) -> dict[str, int]:
    return {command: answer.status for command, answer in answers.items()}


@pytest.mark.parametrize("lun", [0, 1, 2, 3])
def test_a_drive_answers_all_that_the_kernel_knows(ours: list[dict[str, Answer]], lun: int) -> None:
    assert statuses(ours[lun]) == {each: REFUSED.get(each, GOOD) for each in COMMANDS}


def test_the_size_and_the_block_size_are_the_disks(ours: list[dict[str, Answer]]) -> None:
    sizes = [(32, 512), (48, 512), (64, 4096), (80, 512)]
    for answers, (mib, block) in zip(ours, sizes, strict=False):
        for command in ("sg_readcap", "sg_readcap --16"):
            text = answers[command].text
            assert f"block length={block} bytes" in text.replace("Logical ", "").lower(), text
            assert f"={mib * MIB // block}" in text or f" {mib * MIB} bytes" in text, text


def test_a_locked_disk_says_so_and_no_other(ours: list[dict[str, Answer]]) -> None:
    # Mode sense's device-specific parameter, bit 7 (source: SBC-3, 6.4.1).
    protected = [re.search(r"WP=(\d)", answers["sg_modes --all"].text) for answers in ours[:4]]
    assert [found and found[1] for found in protected] == ["0", "0", "0", "1"]


def test_an_empty_drive_has_no_medium_and_is_a_drive(ours: list[dict[str, Answer]]) -> None:
    wanted = {each: REFUSED.get(each, GOOD) for each in COMMANDS}
    assert statuses(ours[4]) == {**wanted, **dict.fromkeys(NO_MEDIUM, NOT_READY)}


def test_an_ejected_drive_is_an_empty_one(board: Board, ours: list[dict[str, Answer]]) -> None:
    block = drives(board)[1]
    device = generic(board, block)
    host_does(board, eject(block))
    expect_life(board, 1, "ejected")
    assert statuses(ask(board, block)) == statuses(ours[4])
    board.check("gadgetd insert 1")
    until("it is back", lambda: board.host.run(f"sg_turs {device}")[0] == GOOD)


@contextmanager
def bare_script(board: Board) -> Iterator[list[HostBlock]]:
    """Three of the disks as the script has set them up; gadgetd has them again afterwards."""
    board.check("gadgetd stop")
    board.expect_host_without_disks()
    names = "mmcblk0 nvme0n1 nvme1n1"
    board.check(f"disks='{names}' ONE_FUNCTION=1 FLASH_S=0 sh {SCRIPT}", WAIT_S)
    try:
        yield board.host.wait_for_blocks(3, WAIT_S)
    finally:
        board.check(f"sh {SCRIPT} undo", WAIT_S)
        board.check("gadgetd start")


@pytest.mark.long
def test_a_bare_script_does_no_better(board: Board, ours: list[dict[str, Answer]]) -> None:
    with bare_script(board) as blocks:
        theirs = [ask(board, block) for block in blocks]
    assert theirs == ours[:3]


def run_suites(board: Board, block: HostBlock) -> tuple[int, set[str]]:
    """Have iscsi-test-cu try a drive through its /dev/sgN: how many tests it ran, what failed."""
    device = generic(board, block)
    ran, failed = 0, set[str]()
    for suite in SUITES:
        # It exits with 1 if a test failed.
        _, said = board.host.run(f"iscsi-test-cu --normal --test=ALL.{suite} {device}", SUITE_S)
        totals = TOTALS.search(said)
        assert totals, said
        found = {f"{suite}.{name}" for name in FAILURE.findall(said)}
        assert len(found) == int(totals[2]), said
        ran, failed = ran + int(totals[1]), failed | found
    return ran, failed


@pytest.mark.long
def test_the_suites_of_libiscsi_fail_where_the_kernels_gadget_fails(board: Board) -> None:
    ours = run_suites(board, drives(board)[0])
    assert ours == (RAN, KNOWN_TO_FAIL)
    with bare_script(board) as blocks:
        theirs = run_suites(board, blocks[0])
    assert theirs == ours
