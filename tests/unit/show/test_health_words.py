"""What a disk tells of its wear, in words: in status and scan, and as advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.control import client
from gadgetd.disks.disk import Disk, Health, Kind, Verdict
from gadgetd.disks.health import WARNINGS
from gadgetd.show import wording
from gadgetd.show.advice import WORN_PERCENT, about_health
from gadgetd.show.layout import to_text
from tests.unit.statuses import nvme, status

DISK = Disk("nvme0n1", Kind.NVME, Path("/dev/nvme0n1"), 1 << 30)
GOOD = Health(3, 100, 10, 0, 38)


def said(health: Health | None) -> list[str]:
    return [problem.message for problem in about_health({DISK: health})]


@pytest.mark.parametrize(
    "health", [None, Health(), GOOD, GOOD._replace(worn_percent=WORN_PERCENT - 1, media_errors=9)]
)
def test_a_good_disk_and_one_that_does_not_tell_are_no_problem(health: Health | None) -> None:
    assert said(health) == []


@pytest.mark.parametrize("percent", [90, 91, 255])
def test_a_worn_disk_is_told_from_nine_tenths_on(percent: int) -> None:
    (message,) = said(GOOD._replace(worn_percent=percent))
    assert message.startswith(f"nvme0n1 is worn out to {percent} %")


@pytest.mark.parametrize("name", WARNINGS)
def test_each_warning_of_the_disk_has_a_sentence_and_a_hint(name: str) -> None:
    (problem,) = about_health({DISK: GOOD._replace(warnings=(name,))})
    assert problem.message.startswith("nvme0n1 warns: ")
    assert problem.hint


def test_health_in_words_says_what_is_told_and_no_more() -> None:
    assert wording.health(GOOD) == ("3 % worn, spare 100 % (low below 10 %), 38 C, no media errors")
    assert wording.health(Health(worn_percent=10)) == "10 % worn"
    worried = Health(media_errors=1, warnings=("spare", "read_only"))
    assert wording.health(worried) == "1 media error, warns: spare, warns: read only"
    assert wording.health(None) == wording.health(Health()) == ""


def test_the_status_in_text_ends_with_the_health_of_those_that_tell() -> None:
    text = to_text(status(nvme(0)._replace(health=GOOD), nvme(1)))
    assert text.splitlines()[-1].startswith("Health of nvme0n1: 3 % worn, spare 100 %")
    assert "nvme1n1:" not in text


def test_a_scan_says_it_behind_the_reason() -> None:
    verdict = Verdict(DISK, False, "mounted at /mnt", health=Health(worn_percent=10))
    (line,) = client.scan_lines([verdict])
    assert line.endswith("mounted at /mnt; 10 % worn")
    assert client.verdict_to_json(verdict)["health"]["worn_percent"] == 10
