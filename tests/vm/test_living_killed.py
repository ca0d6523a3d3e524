"""The daemon is killed at any instant: init starts another, and a host at most waits a moment."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator import Drive, HostBlock, MachineOptions, disk_numbers
from gadgetd.export.reconnect import LET_GO_S
from tests.vm import killer
from tests.vm.board import BOOT_S, CHUNK, WAIT_S, Board, Pattern, until
from tests.vm.conftest import Bench
from tests.vm.living import FILES, MIB, assert_host_undisturbed, mark, traffic

pytestmark = pytest.mark.emulated

KILLER = "/usr/lib/killer.py"
LOG = "/tmp/kills"
AT_BOOT, IN_TRAFFIC = 8, 10
LONG_AT_BOOT, LONG_IN_TRAFFIC = 20, 30
"""With --long; each kill is some three seconds."""
MOST_S = 2.0
"""The daemon starts in half of it, so as many kills hit its start as its life."""
SEED = random.randrange(1 << 32)
SIZES = [64 * MIB, 48 * MIB]


def delays(count: int, most_s: float) -> str:
    """Seconds between a start of the daemon and its death; printed, to have a failure again."""
    numbers = random.Random(f"{SEED} {count}")
    return " ".join(f"{numbers.uniform(0, most_s):.3f}" for _ in range(count))


@pytest.fixture(scope="module")
def counts(request: pytest.FixtureRequest) -> tuple[int, int]:
    """How often it is killed from the first process of the boot on, and in traffic."""
    if request.config.getoption("--long"):
        return LONG_AT_BOOT, LONG_IN_TRAFFIC
    return AT_BOOT, IN_TRAFFIC


@pytest.fixture(scope="module")
def board(bench: Bench, counts: tuple[int, int]) -> Iterator[Board]:
    """A board whose daemon is killed again and again from the first process of its boot on."""
    at_boot = delays(counts[0], MOST_S)
    print(f"seed {SEED}: {at_boot}")
    sd, nvme = SIZES
    hook = f"mount -t tmpfs tmpfs /tmp\npython3 -S -I {KILLER} {LOG} {at_boot} &\n"
    options = MachineOptions(
        sd=Drive(sd),
        nvme=(Drive(nvme),),
        files={**FILES, KILLER: Path(killer.__file__)},
        hook=hook,
    )
    yield bench.boot("living_killed", options)
    bench.switch_off()


def expect_kills(board: Board, count: int) -> None:
    """Wait until the killer has done its work."""

    def done() -> bool:
        return "done" in board.host.run(f"cat {LOG}")[1]

    until(f"the daemon is killed {count} times", done, BOOT_S + 10 * count, pause_s=0.5)
    kills = board.host.check(f"cat {LOG}").splitlines()[:-1]
    assert len(kills) == count
    assert len({line.split()[0] for line in kills}) == count, "each kill was of another process"


def expect_all_as_before(board: Board) -> list[HostBlock]:
    """Both disks are at the host, one daemon serves them, and nothing is left over."""
    # A daemon that died between two disks may have left the second one to wait for the host.
    blocks = board.host.wait_for_blocks(2, LET_GO_S + WAIT_S)
    assert disk_numbers(blocks) == [0, 1]
    assert [block.size_bytes for block in blocks] == SIZES
    until("a daemon answers", lambda: board.run("gadgetd status")[0] == 0)
    rows = board.exported()
    assert [(row["lun"], row["name"]) for row in rows] == [(0, "mmcblk0"), (1, "nvme0n1")]
    top = "/sys/kernel/config/usb_gadget"
    for path, names in (
        (top, "gadgetd"),
        (f"{top}/gadgetd/configs", "c.1"),
        (f"{top}/gadgetd/strings", "0x409"),
    ):
        assert board.check(f"ls {path}").split() == [names]
    luns = board.check(f"cd {top}/gadgetd/functions; ls -d */lun.*").split()
    assert luns == ["mass_storage.0/lun.0", "mass_storage.1/lun.0"]
    status, said = board.run("gadgetd run")
    assert status != 0
    assert "another one is running already" in said
    for name in ("mmcblk0", "nvme0n1"):
        code = f"import os; os.open('/dev/{name}', os.O_RDONLY | os.O_EXCL)"
        assert "[Errno 16]" in board.run(f'python3 -S -c "{code}"')[1]
    return blocks


def test_a_daemon_killed_again_and_again_in_the_boot_exports_the_disks_in_the_end(
    board: Board, counts: tuple[int, int]
) -> None:
    expect_kills(board, counts[0])
    for number, block in enumerate(expect_all_as_before(board)):
        pattern = Pattern(2_000_000 + number, 2 * CHUNK)
        assert board.host_writes(block, 0, pattern)[0] == 0
        name = ("mmcblk0", "nvme0n1")[number]
        assert board.medium_digest(name, 0, pattern.size_bytes) == pattern.digest


def test_a_host_that_writes_notices_nothing_of_many_kills(
    board: Board, counts: tuple[int, int]
) -> None:
    in_traffic = delays(counts[1], MOST_S)
    print(f"seed {SEED}: {in_traffic}")
    sd, nvme = board.host.wait_for_blocks(2, WAIT_S)
    begin = mark(board)
    board.host.check(f"rm -f {LOG}")
    with traffic(board, sd) as on_sd, traffic(board, nvme) as on_nvme:
        board.host.check(f"python3 -S -I {KILLER} {LOG} {in_traffic} >/dev/null 2>&1 &")
        expect_kills(board, counts[1])
    expect_all_as_before(board)
    assert on_sd.wrong_on_medium(board.machine.image_path("sd")) == []
    assert on_nvme.wrong_on_medium(board.machine.image_path("nvme0")) == []
    assert board.host.wait_for_blocks(2, WAIT_S) == [sd, nvme]
    assert_host_undisturbed(board, begin)
