"""A card that is put into a USB reader is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.blockscan import NO_MEDIUM
from gadgetd.disks.disk import Disk, Found, Kind
from gadgetd.export.candidates import POLL_MS, find_cards


class Reader:
    """A reader in sysfs, and what the scan says of it."""

    def __init__(self, path: Path, *, removable: str = "1", poll: str = "-1") -> None:
        self.sys = path / "sys"
        self.block = self.sys / "block" / "sda"
        self.block.mkdir(parents=True)
        (self.block / "removable").write_text(f"{removable}\n")
        (self.block / "events_poll_msecs").write_text(f"{poll}\n")
        (self.block / "size").write_text("0\n")
        self.node = path / "sda"
        self.node.touch()

    def found(self, refusal: str = NO_MEDIUM, kind: Kind = Kind.USB) -> list[Found]:
        return [Found(Disk("sda", kind, self.node, 0), refusal)]

    @property
    def poll(self) -> int:
        return int((self.block / "events_poll_msecs").read_text())


@pytest.mark.parametrize("refusal", ["", NO_MEDIUM])
def test_the_kernel_is_asked_to_look_into_a_reader(tmp_path: Path, refusal: str) -> None:
    reader = Reader(tmp_path)
    assert not find_cards(reader.found(refusal), reader.sys)
    assert reader.poll == POLL_MS


def test_what_somebody_else_has_chosen_stays(tmp_path: Path) -> None:
    reader = Reader(tmp_path, poll="0")
    find_cards(reader.found(), reader.sys)
    assert reader.poll == 0


def test_a_disk_whose_medium_cannot_be_taken_out_is_not_asked(tmp_path: Path) -> None:
    reader = Reader(tmp_path, removable="0")
    find_cards(reader.found(), reader.sys)
    assert reader.poll == -1


@pytest.mark.parametrize(
    ("refusal", "kind"), [("comes from this gadget itself", Kind.USB), (NO_MEDIUM, Kind.NVME)]
)
def test_neither_are_our_own_disks_nor_those_of_another_kind(
    tmp_path: Path, refusal: str, kind: Kind
) -> None:
    reader = Reader(tmp_path)
    find_cards(reader.found(refusal, kind), reader.sys)
    assert reader.poll == -1


def test_a_card_whose_size_shows_when_the_reader_is_opened_is_told(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    (reader.block / "size").write_text("2048\n")
    assert find_cards(reader.found(), reader.sys)
    assert not find_cards(reader.found(""), reader.sys)


def test_a_reader_that_has_left_or_has_no_card_is_no_error(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.node.unlink()
    assert not find_cards(reader.found(), reader.sys)
    assert not find_cards(reader.found(), tmp_path / "nothing")
