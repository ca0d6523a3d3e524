"""Who is asked for health, when, and that nobody waits for an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.disks import health
from gadgetd.disks.checkup import HOUR_S, PATIENCE_S, SETTLE_S, Checkups
from gadgetd.disks.disk import Disk, Health, Kind
from tests.unit.fakes import FakeLoop, FakeQuestion

GOOD, WORN = Health(worn_percent=1), Health(worn_percent=95)


def nvme(name: str) -> Disk:
    return Disk(name, Kind.NVME, Path("/dev") / name, 1 << 30, serial=name)


class Clinic:
    """The disks' questions, and what was told of it."""

    def __init__(self, sys: Path) -> None:
        self.loop = FakeLoop()
        self.questions: list[FakeQuestion] = []
        self.changes = 0
        self.refuse = False
        self.checkups = Checkups(self.loop, self._changed, sys)

    def _changed(self) -> None:
        self.changes += 1

    def question(self, disk: Disk) -> health.Question:
        if self.refuse:
            raise OSError(11, "Resource temporarily unavailable")
        question = FakeQuestion(disk)
        self.questions.append(question)
        return question

    def arrive(self, *disks: Disk) -> None:
        """Have these disks there and no others, and let the moment pass that a new one is given."""
        self.checkups.follow(disks)
        self.loop.run_for(SETTLE_S)

    @property
    def asked(self) -> list[str]:
        return [question.disk.name for question in self.questions]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    clinic = Clinic(tmp_path)
    monkeypatch.setattr(health, "Question", clinic.question)
    return clinic


def test_disks_are_asked_one_after_the_other(clinic: Clinic) -> None:
    one, two = nvme("nvme0n1"), nvme("nvme1n1")
    clinic.arrive(one, two)
    assert clinic.asked == ["nvme0n1"]
    clinic.questions[0].tell(GOOD)
    clinic.loop.settle()
    assert clinic.asked == ["nvme0n1", "nvme1n1"]
    assert clinic.checkups.known.get(one) == GOOD
    assert clinic.checkups.known.get(two) is None
    assert clinic.changes == 1
    clinic.questions[1].tell(WORN)
    clinic.loop.settle()
    assert clinic.changes == 2


def test_a_disk_that_keeps_the_command_delays_no_other_and_is_not_asked_again(
    clinic: Clinic,
) -> None:
    dying, well = nvme("nvme0n1"), nvme("nvme1n1")
    clinic.arrive(dying, well)
    clinic.loop.run_for(PATIENCE_S + 1)
    assert clinic.asked == ["nvme0n1", "nvme1n1"]
    clinic.questions[1].tell(GOOD)
    clinic.loop.settle()
    clinic.checkups.ask(0)
    assert clinic.asked == ["nvme0n1", "nvme1n1", "nvme1n1"]
    # Its answer counts all the same, and does not end the other's turn.
    clinic.questions[0].tell(WORN)
    clinic.loop.settle()
    assert clinic.checkups.known.get(dying) == WORN
    clinic.questions[2].tell(GOOD)
    clinic.loop.settle()
    clinic.checkups.ask(0)
    assert clinic.asked[3:] == ["nvme0n1"]


def test_a_disk_that_has_come_is_left_alone_for_a_moment(clinic: Clinic) -> None:
    clinic.checkups.follow((nvme("nvme0n1"),))
    clinic.loop.run_for(SETTLE_S - 0.1)
    assert clinic.asked == []
    clinic.loop.run_for(0.2)
    assert clinic.asked == ["nvme0n1"]


def test_a_disk_is_asked_each_hour_and_sooner_if_somebody_wants_to_know(clinic: Clinic) -> None:
    disk = nvme("nvme0n1")
    clinic.arrive(disk)
    clinic.questions[0].tell(GOOD)
    clinic.loop.run_for(9)
    clinic.checkups.ask(10)
    assert len(clinic.questions) == 1
    clinic.loop.run_for(1)
    clinic.checkups.ask(10)
    assert len(clinic.questions) == 2
    clinic.questions[1].tell(GOOD)
    clinic.loop.run_for(HOUR_S)
    assert len(clinic.questions) == 3
    assert clinic.changes == 1  # The same answer is no news.


def test_another_disk_that_comes_has_nobody_asked_again(clinic: Clinic) -> None:
    one, two = nvme("nvme0n1"), nvme("nvme1n1")
    clinic.arrive(one)
    clinic.questions[0].tell(GOOD)
    clinic.loop.settle()
    clinic.arrive(one, two)
    assert clinic.asked == ["nvme0n1", "nvme1n1"]


def test_a_disk_that_has_left_is_forgotten_with_its_answer(clinic: Clinic) -> None:
    disk = nvme("nvme0n1")
    clinic.arrive(disk)
    clinic.arrive()
    clinic.questions[0].tell(WORN)
    clinic.loop.settle()
    assert clinic.checkups.known.get(disk) is None
    assert clinic.changes == 0


def test_another_disk_under_the_same_name_does_not_inherit_its_health(clinic: Clinic) -> None:
    disk = nvme("nvme0n1")
    clinic.arrive(disk)
    clinic.questions[0].tell(WORN)
    clinic.loop.settle()
    other = disk._replace(serial="another")
    clinic.arrive(other)
    assert clinic.checkups.known.get(other) is None
    assert clinic.asked == ["nvme0n1", "nvme0n1"]


def test_an_answer_costs_no_wake_up_afterwards(clinic: Clinic) -> None:
    clinic.arrive(nvme("nvme0n1"))
    clinic.questions[0].tell(GOOD)
    clinic.loop.settle()
    assert clinic.loop.run_for(HOUR_S - 10) == 0
    assert clinic.loop.watched == set()


def test_no_room_for_a_process_leaves_the_disk_for_the_next_time(clinic: Clinic) -> None:
    clinic.refuse = True
    clinic.arrive(nvme("nvme0n1"), nvme("nvme1n1"))
    clinic.refuse = False
    clinic.loop.run_for(HOUR_S)
    assert clinic.asked == ["nvme0n1"]


def test_an_emmc_is_read_at_once_and_an_sd_card_is_not_asked(
    clinic: Clinic, tmp_path: Path
) -> None:
    device = tmp_path / "block" / "mmcblk0" / "device"
    device.mkdir(parents=True)
    (device / "life_time").write_text("0x0a 0x01\n")
    (device / "pre_eol_info").write_text("0x01\n")
    emmc = Disk("mmcblk0", Kind.EMMC, Path("/dev/mmcblk0"), 1 << 30)
    card = Disk("mmcblk1", Kind.SD, Path("/dev/mmcblk1"), 1 << 30)
    clinic.arrive(emmc, card)
    assert clinic.checkups.known.get(emmc) == Health(worn_percent=90)
    assert clinic.checkups.known.get(card) is None
    assert clinic.questions == []
