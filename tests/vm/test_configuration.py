"""A wrong configuration: nothing is exported, both consoles say what and where, root can log in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from emulator import Drive, MachineOptions
from gadgetd.config.load import SIZE_LIMIT
from gadgetd.show import sign
from tests.vm import leds
from tests.vm.board import CONFIG, Board, until, yaml_file
from tests.vm.conftest import Bench

pytestmark = pytest.mark.emulated

MIB = 1 << 20
RULE_KEYS = "name, kind, model, serial, min_size, max_size, read_only, label, on_ejected"


@dataclass(frozen=True)
class Wrong:
    """A file, and what has to be said of it."""

    content: bytes
    line: int
    column: int
    key: str
    problem: str
    expected: str


UNKNOWN_KEY = Wrong(
    b"exclude:\n  - kind: nvme\ndisks:\n  - kind: sd\n    read_onyl: true\n",
    5,
    5,
    "disks[0].read_onyl",
    "unknown key (did you mean read_only?)",
    f"one of {RULE_KEYS}",
)
WRONGS = {
    "wrong type": Wrong(
        b"slots: many\n", 1, 8, "slots", "'many' is text", "a whole number from 0 to 8"
    ),
    "wrong value": Wrong(
        b"disks:\n  - kind: nvem\n",
        2,
        11,
        "disks[0].kind",
        "'nvem' is not a kind (did you mean nvme?)",
        "one of emmc, sd, nvme, sata, usb, other, or a list of them",
    ),
    "bad pattern": Wrong(
        b'exclude:\n  - name: "nvme[0"\n',
        2,
        11,
        "exclude[0].name",
        "'nvme[0' has a '[' without its ']'",
        'a pattern such as "nvme*"',
    ),
    "duplicate key": Wrong(
        b"slots: 1\nled: none\nslots: 2\n",
        3,
        1,
        "slots",
        "the key is there twice, first in line 1",
        "each key once",
    ),
    "does not parse": Wrong(
        b"disks:\n  - kind: nvme\n  label: x\n", 3, 3, "", "the YAML does not parse", ""
    ),
    "not UTF-8": Wrong(
        b"led: none\nusb:\n  product: caf\xe9\n", 3, 15, "", "byte 0xe9", "text in UTF-8"
    ),
    "no mapping": Wrong(b"- kind: nvme\n", 1, 1, "", "this is a list", "a mapping of disks, "),
}


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    """A board whose file is wrong from boot, with the narrow screen of an old monitor."""
    options = MachineOptions(
        sd=Drive(64 * MIB),
        nvme=(Drive(64 * MIB),),
        files=yaml_file(UNKNOWN_KEY.content),
        screen=(640, 400),
        cmdline="fbcon=font:VGA8x16",
    )
    yield bench.boot("test_configuration", options)
    bench.switch_off()


def expect_told(board: Board, wrong: Wrong, since: int = 0) -> None:
    """The UART has told file, line, column, key and what was expected, and HDMI shows it."""
    told = board.expect_event(
        since, event="problem", active=True, line=wrong.line, column=wrong.column, key=wrong.key
    )
    assert told["file"] == CONFIG
    assert told["hint"]
    assert wrong.problem in told["message"]
    assert told["expected"].startswith(wrong.expected) if wrong.expected else not told["expected"]
    place = f"{CONFIG}:{wrong.line}:{wrong.column}: "
    sentence = place + (f"{wrong.key}: " if wrong.key else "") + wrong.problem
    if wrong.expected:
        sentence += f"; expected {wrong.expected}"
    board.expect_on_both(sentence, since=since)
    board.expect_on_screen("nothing is exported", told["hint"])


def expect_nothing_exported(board: Board) -> None:
    """Neither at the host nor in the kernel is there a gadget; the disks are free."""
    assert board.host.blocks() == []
    assert board.check("ls /sys/kernel/config/usb_gadget").split() == []
    board.check("dd if=/dev/nvme0n1 of=/dev/null bs=64k count=1")


def test_a_file_that_is_wrong_at_boot_exports_nothing_and_is_told_everywhere(board: Board) -> None:
    board.expect_phase("config-error")
    expect_told(board, UNKNOWN_KEY)
    expect_nothing_exported(board)
    leds.expect_error_pattern(board)
    board.expect_sign(sign.ERROR)
    assert board.check("id -u").strip() == "0", "the root shell is there to repair it"
    reasons = [e["reason"] for e in board.events() if e["event"] == "disk"]
    assert reasons
    assert set(reasons) == {"the configuration is wrong"}
    assert [len(board.screen()), *{len(line) <= 80 for line in board.screen()}] == [25, True]


@pytest.mark.parametrize("wrong", WRONGS.values(), ids=WRONGS.keys())
def test_each_error_is_told_with_its_place_and_what_was_expected(
    board: Board, wrong: Wrong
) -> None:
    board.write_file(CONFIG, wrong.content)
    since = board.uart.line.position
    board.check(f"kill -HUP {board.daemon()}")
    expect_told(board, wrong, since)
    expect_nothing_exported(board)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (f"mkdir {CONFIG}", "a directory; expected a YAML file"),
        (f"ln -s /nowhere {CONFIG}", "a symbolic link that leads nowhere"),
        (f"mkfifo {CONFIG}", "not a regular file; expected a YAML file"),
        (f"head -c {SIZE_LIMIT + 1} /dev/zero >{CONFIG}", "the file is too large"),
    ],
    ids=["directory", "dangling link", "pipe", "too large"],
)
def test_a_file_that_cannot_be_read_is_an_error_and_not_the_defaults(
    board: Board, command: str, problem: str
) -> None:
    board.check(f"rm -rf {CONFIG}; {command}")
    since = board.restart()
    told = board.expect_event(since, event="problem", active=True, file=CONFIG)
    assert (told["line"], told["column"]) == (0, 0)
    assert told["message"].startswith(f"{CONFIG}: {problem}")
    board.expect_on_both(f"{CONFIG}: {problem}", since=since)
    expect_nothing_exported(board)
    board.check(f"rm -rf {CONFIG}")


def test_the_repaired_file_ends_the_error(board: Board) -> None:
    board.write_file(CONFIG, "exclude: [{kind: nvme}]\n")
    since = board.uart.line.position
    board.check("gadgetd check && gadgetd reload")
    board.expect_phase("exported", since)
    (block,) = board.host.wait_for_blocks(1)
    assert block.model == "SD mmcblk0"
    assert "PROBLEM" not in board.expect_on_screen("1 disk exported")
    leds.expect_steady(board)


def test_what_an_earlier_run_exported_is_taken_away_by_a_wrong_file(board: Board) -> None:
    # Killed, the daemon leaves the gadget with the host; the file may have meant to exclude it.
    board.write_file(CONFIG, "")
    board.restart()
    board.host.wait_for_blocks(2)
    board.write_file(CONFIG, UNKNOWN_KEY.content)
    since = board.restart("KILL")
    expect_told(board, UNKNOWN_KEY, since)
    until("the host has lost both", lambda: not board.host.blocks())
    expect_nothing_exported(board)
    leds.expect_error_pattern(board)


def test_gadgetd_check_says_the_same_and_has_its_own_exit_status(board: Board) -> None:
    status, said = board.run("gadgetd check")
    assert status == 3
    assert f"{CONFIG}:5:5: disks[0].read_onyl: {UNKNOWN_KEY.problem}" in said
