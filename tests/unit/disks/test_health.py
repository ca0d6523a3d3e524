"""What disks tell of their wear, as the kernel or the disk itself puts it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gadgetd.disks.disk import Disk, Health, Kind
from gadgetd.disks.health import LOG_BYTES, Question, of_emmc, of_nvme, read_emmc
from tests.unit.fakes import open_fds
from tests.unit.mocked_board import MockedBoard

CM4 = (Path(__file__).parents[2] / "data" / "cm4.umockdev").read_text()
CARD = "/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:0001"


def smart_log(
    *, critical: int = 0, kelvin: int = 311, spare: int = 100, low: int = 10, worn: int = 3
) -> bytes:
    """A log as NVM Express lays it out, with 5 media errors."""
    log = bytearray(LOG_BYTES)
    log[0] = critical
    log[1:3] = struct.pack("<H", kelvin)
    log[3:6] = bytes((spare, low, worn))
    log[32:48] = b"\xff" * 16  # data units read: nothing of ours
    log[160:176] = (5).to_bytes(16, "little")
    log[176:192] = b"\xff" * 16  # entries of the error log
    return bytes(log)


def test_an_nvme_disk_tells_its_wear_spare_errors_and_temperature() -> None:
    assert of_nvme(smart_log()) == Health(3, 100, 10, 5, 38, ())


@pytest.mark.parametrize(
    ("bit", "name"),
    list(
        enumerate(("spare", "temperature", "reliability", "read_only", "backup", "memory_region"))
    ),
)
def test_each_bit_of_the_critical_warning_has_its_name(bit: int, name: str) -> None:
    health = of_nvme(smart_log(critical=1 << bit))
    assert health is not None
    assert health.warnings == (name,)


def test_spare_below_the_disks_own_threshold_is_a_warning_though_the_disk_gives_none() -> None:
    health = of_nvme(smart_log(spare=9))
    assert health is not None
    assert health.warnings == ("spare",)
    at_it = of_nvme(smart_log(spare=10))
    assert at_it is not None
    assert at_it.warnings == ()


def test_a_temperature_of_zero_kelvin_is_none_told() -> None:
    health = of_nvme(smart_log(kelvin=0))
    assert health is not None
    assert health.temperature_c is None


@pytest.mark.parametrize("log", [b"", bytes(LOG_BYTES), bytes(511)])
def test_a_log_that_is_empty_or_cut_tells_nothing(log: bytes) -> None:
    assert of_nvme(log) is None


@pytest.mark.parametrize(
    ("life_time", "pre_eol_info", "health"),
    [
        ("0x01 0x02\n", "0x01\n", Health(worn_percent=10)),
        ("0x0a 0x03\n", "0x01\n", Health(worn_percent=90)),
        ("0x02 0x0b\n", "0x01\n", Health(worn_percent=100)),
        ("0x01 0x00\n", "0x00\n", Health(worn_percent=0)),
        ("0x01 0x01\n", "0x02\n", Health(worn_percent=0, warnings=("spare",))),
        ("0x00 0x00\n", "0x03\n", Health(warnings=("spare",))),
        ("0x00 0x00\n", "0x01\n", Health()),
        # Before eMMC 5.0, or reserved by the standard: nothing is told.
        ("0x00 0x00\n", "0x00\n", None),
        ("0x0c 0xff\n", "0x07\n", None),
        ("", "nonsense", None),
    ],
)
def test_an_emmc_tells_its_wear_in_tenths(
    life_time: str, pre_eol_info: str, health: Health | None
) -> None:
    assert of_emmc(life_time, pre_eol_info) == health


@pytest.fixture
def board() -> Iterator[MockedBoard]:
    board = MockedBoard(CM4)
    yield board
    board.close()


def test_a_worn_emmc_is_read_from_the_recorded_board(board: MockedBoard) -> None:
    assert board.health("mmcblk0") == Health(worn_percent=10)
    board.change(CARD, "life_time", "0x0a 0x05\n")
    board.change(CARD, "pre_eol_info", "0x02\n")
    assert board.health("mmcblk0") == Health(worn_percent=90, warnings=("spare",))


def test_an_emmc_without_the_attributes_tells_nothing(tmp_path: Path) -> None:
    disk = Disk("mmcblk0", Kind.EMMC, Path("/dev/mmcblk0"), 1 << 30)
    assert read_emmc(disk, tmp_path) is None


@pytest.mark.parametrize("node", ["/dev/null", "/nonexistent"])
def test_what_knows_no_admin_command_tells_nothing_and_leaves_nothing_open(node: str) -> None:
    before = open_fds()
    question = Question(Disk("nvme0n1", Kind.NVME, Path(node), 1 << 30))
    assert question.health() is None
    assert open_fds() == before
