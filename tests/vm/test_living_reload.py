"""SIGHUP: a bad configuration changes nothing and says why, a good one only what differs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulator import Drive, HostBlock, MachineOptions, disk_numbers
from tests.vm.board import CHUNK, CONFIG, WAIT_S, Board, Pattern, inquiry, until
from tests.vm.conftest import Bench
from tests.vm.living import (
    FILES,
    MIB,
    assert_host_undisturbed,
    expect_host_size,
    host_locks,
    kernel_said,
    mark,
    traffic,
)

pytestmark = pytest.mark.emulated

SD_SIZE, NVME_SIZE = 64 * MIB, 48 * MIB
FUNCTION = "/sys/kernel/config/usb_gadget/gadgetd/functions/mass_storage"


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    board = bench.boot(
        "living_reload", MachineOptions(sd=Drive(SD_SIZE), nvme=(Drive(NVME_SIZE),), files=FILES)
    )
    board.expect_phase("exported")
    yield board
    bench.switch_off()


@pytest.fixture
def blocks(board: Board) -> Iterator[list[HostBlock]]:
    """Both disks at the host, as without a configuration; that is how it ends, too."""
    yield board.host.wait_for_blocks(2, WAIT_S)
    board.host.run("killall sleep")
    board.run(f"rm -f {CONFIG}; gadgetd reload")
    for number, size in enumerate((SD_SIZE, NVME_SIZE)):
        expect_host_size(board, board.host.wait_for_blocks(2, WAIT_S)[number], size)


def hang_up(board: Board, text: str) -> int:
    """Write a configuration and send the daemon SIGHUP. Returns the position in the UART."""
    board.write_file(CONFIG, text)
    since = board.uart.line.position
    board.check(f"kill -HUP {board.daemon()}")
    return since


def test_a_broken_file_changes_nothing_and_both_consoles_say_why(
    board: Board, blocks: list[HostBlock]
) -> None:
    begin, before = mark(board), board.exported()
    with traffic(board, blocks[0]):
        since = hang_up(board, "disks:\n  - kind: nvem\n")
        reason = f"{CONFIG}:2:11: disks[0].kind: 'nvem'"
        board.expect_on_both(reason, since=since)
        board.expect_event(since, event="advice", active=True, file=CONFIG, line=2, column=11)
        status, said = board.run("gadgetd reload")
        assert status == 3
        assert reason in said
        assert board.host.wait_for_blocks(2, WAIT_S) == blocks
    after = board.exported()
    assert [(row["lun"], row["name"], row["reason"]) for row in after] == [
        (row["lun"], row["name"], row["reason"]) for row in before
    ]
    assert board.status()["phase"] == "exported"
    assert_host_undisturbed(board, begin)
    # A file that is good again ends it.
    since = hang_up(board, "slots: 0\n")
    board.expect_event(since, event="advice", active=False, file=CONFIG)
    assert board.check("gadgetd reload") == "2 disks exported\n"
    assert_host_undisturbed(board, begin)


def test_a_disk_made_read_only_disturbs_no_other(board: Board, blocks: list[HostBlock]) -> None:
    sd, nvme = blocks
    begin = mark(board)
    text = "disks:\n  - {kind: nvme, read_only: true}\n  - {kind: sd}\n"
    with traffic(board, sd) as writing:
        since = hang_up(board, text)
        event = board.expect_event(since, event="disk", name="nvme0n1", read_only=True)
        assert event["lun"] == 1
        expect_host_size(board, nvme, NVME_SIZE)
        assert board.host.check(f"cat /sys/block/{nvme.name}/ro").strip() == "1"
        assert board.host_writes(nvme, 0, Pattern(1_000_000, CHUNK))[0] != 0
        board.expect_on_screen("read-only")
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert board.check(f"cat {FUNCTION}.[01]/lun.0/ro").split() == ["0", "1"]
    assert_host_undisturbed(board, begin)
    since = hang_up(board, "slots: 0\n")
    board.expect_event(since, event="disk", name="nvme0n1", read_only=False)
    expect_host_size(board, nvme, NVME_SIZE)
    assert board.host_writes(nvme, 0, Pattern(1_000_000, CHUNK))[0] == 0


def test_a_change_of_a_disk_that_the_host_has_locked_waits_and_says_so(
    board: Board, blocks: list[HostBlock]
) -> None:
    begin = mark(board)
    host_locks(board, blocks[1])
    since = hang_up(board, "disks:\n  - {kind: nvme, read_only: true}\n  - {kind: sd}\n")
    board.expect_on_both("a change of nvme0n1 waits: the host has locked the medium", since=since)
    assert board.check(f"cat {FUNCTION}.1/lun.0/ro").strip() == "0"
    board.host.check("killall sleep")
    board.expect_event(since, event="advice", active=False)
    until("it is read-only", lambda: board.check(f"cat {FUNCTION}.1/lun.0/ro").strip() == "1")
    assert_host_undisturbed(board, begin)


def test_an_excluded_disk_leaves_its_lun_empty_and_the_others_go_on(
    board: Board, blocks: list[HostBlock]
) -> None:
    sd, nvme = blocks
    begin = mark(board)
    kept = Pattern(2_000_000, 4 * CHUNK)
    assert board.host_writes(sd, 0, kept)[0] == 0
    with traffic(board, nvme) as writing:
        since = hang_up(board, "exclude:\n  - {kind: sd}\n")
        event = board.expect_event(since, event="disk", name="mmcblk0", lun=None)
        assert event["reason"] == f"excluded by {CONFIG}:2"
        expect_host_size(board, sd, 0)
        assert board.check(f"cat {FUNCTION}.0/lun.0/file").strip() == ""
        assert [row["lun"] for row in board.exported()] == [1]
        # It is the board's now.
        code = "import os; os.open('/dev/mmcblk0', os.O_RDONLY | os.O_EXCL)"
        board.check(f'python3 -S -c "{code}"')
        since = hang_up(board, "slots: 0\n")
        board.expect_event(since, event="disk", name="mmcblk0", lun=0)
        expect_host_size(board, sd, SD_SIZE)
    assert writing.wrong_on_medium(board.machine.image_path("nvme0")) == []
    assert board.host_digest(sd, 0, kept.size_bytes) == kept.digest
    assert_host_undisturbed(board, begin)


@pytest.mark.usefixtures("blocks")
def test_a_reload_answers_once_it_is_so(board: Board) -> None:
    board.write_file(CONFIG, "exclude:\n  - {kind: sd}\n")
    since = board.uart.line.position
    assert board.check("gadgetd reload") == "1 disk exported\n"
    event = board.expect_event(since, event="disk", name="mmcblk0")
    assert event["lun"] is None
    board.write_file(CONFIG, "disks: []\n")
    assert board.check("gadgetd reload") == "no disk to export; waiting for one\n"
    # Nothing waits. That the host has had the disks open, in the tests before, may well be told.
    told = [each["message"] for each in board.status()["advice"]]
    assert [message for message in told if "open there" not in message] == []


def test_a_new_label_reconnects_nothing(board: Board, blocks: list[HostBlock]) -> None:
    begin = mark(board)
    label = "disks:\n  - {kind: sd, label: Boot disk}\n  - {kind: nvme}\n"
    with traffic(board, blocks[0]), traffic(board, blocks[1]):
        since = hang_up(board, label)
        board.expect_event(since, event="disk", name="mmcblk0", inquiry="a1b2c3d4 Boot disk")
        shown = board.check(f"cat {FUNCTION}.0/lun.0/inquiry_string")
        assert shown.strip("\n") == inquiry("Boot disk")
    assert_host_undisturbed(board, begin)


def test_a_new_usb_serial_number_waits_for_the_host_or_for_a_person_who_wants_it_now(
    board: Board, blocks: list[HostBlock]
) -> None:
    begin = mark(board)
    with traffic(board, blocks[0]) as writing:
        since = hang_up(board, "usb: {serial: BENCH-7}\n")
        board.expect_on_both("a change waits until the host lets go of the disks", since=since)
        at_change = writing.progress()
        until("the host has gone on writing", lambda: writing.progress() > at_change + MIB)
        assert_host_undisturbed(board, begin)
        assert [block.usb_serial for block in board.host.blocks()] == ["10000000a1b2c3d4"] * 2
    assert board.check("gadgetd attach --yes") == "2 disks exported\n"
    until(
        "both disks have come with the new number",
        lambda: [block.usb_serial for block in board.host.blocks()] == ["BENCH-7"] * 2,
    )
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert kernel_said(board, begin).count("USB disconnect") == 1
    assert disk_numbers(board.host.wait_for_blocks(2, WAIT_S)) == [0, 1]
