"""What a killed daemon leaves to its successor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadgetd.export.lun_memory import LIMIT, LunRecord, load, save

STATES = ("shown", "failed", "unproved", "withdrawn", "safe", "torn", "opened", "reset", "refused")


@st.composite
def numbers_of_disks(draw: st.DrawFn) -> LunRecord:
    keys = draw(st.lists(st.text(min_size=1, max_size=20), max_size=5, unique=True))
    count = len(keys)
    taken = draw(st.lists(st.integers(0, LIMIT - 1), min_size=count, max_size=count, unique=True))
    some = st.frozensets(st.sampled_from(taken)) if taken else st.just(frozenset[int]())
    displaced = draw(
        st.dictionaries(
            st.text(min_size=1, max_size=20),
            st.frozensets(st.sampled_from(("failed", "torn")), min_size=1),
            max_size=3,
        )
    )
    luns = dict(zip(keys, taken, strict=True))
    return LunRecord(luns, displaced, *[draw(some) for _ in STATES])


def test_the_numbers_survive_being_written_and_read(tmp_path: Path) -> None:
    luns = {"nvme at-1 X serial\twith a tab": 0, "sd mmcblk1  ": 3, "sd mmcblk2  ": 4, "x": 5}
    some = [
        frozenset(those) for those in ((3, 5), (4, 5), (0,), (3,), (), (4,), (0, 5), (5,), (3,))
    ]
    numbers = LunRecord(luns, {"sd mmcblk1 at\t1": frozenset(("torn", "failed"))}, *some)
    save(tmp_path / "run" / "luns", numbers)
    assert load(tmp_path / "run" / "luns") == numbers
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["luns"]


@settings(max_examples=50)
@given(numbers_of_disks())
def test_no_name_of_a_disk_upsets_the_file(
    tmp_path_factory: pytest.TempPathFactory, numbers: LunRecord
) -> None:
    path = tmp_path_factory.getbasetemp() / "luns"
    save(path, numbers)
    assert load(path) == numbers


@settings(max_examples=100)
@given(
    st.binary(max_size=60)
    | st.text("0129\t\nabn²shownreved,fail", max_size=60).map(lambda text: text.encode())
)
def test_no_content_of_the_file_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "luns-of-others"
    path.write_bytes(content)
    numbers = load(path)
    assert all(0 <= number < LIMIT for number in numbers.luns.values())
    assert numbers.in_doubt <= set(numbers.luns.values())
    assert len(set(numbers.luns.values())) == len(numbers.luns), "a LUN has one disk"


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert load(tmp_path / "luns") == LunRecord()
    assert load(tmp_path) == LunRecord()


def test_without_a_place_for_the_file_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a directory should be")
    save(tmp_path / "run" / "luns", LunRecord({"a": 1}))
    assert load(tmp_path / "run" / "luns") == LunRecord()


def test_the_largest_number_is_127(tmp_path: Path) -> None:
    (tmp_path / "luns").write_text("127\tshown\tone\n128\tshown\tanother\n")
    assert load(tmp_path / "luns") == LunRecord({"one": 127}, shown=frozenset((127,)))
