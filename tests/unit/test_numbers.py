"""What a killed daemon leaves to its successor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadgetd.numbers import LIMIT, Numbers, load, save

NUMBERS = st.dictionaries(
    st.text(min_size=1, max_size=20), st.integers(0, LIMIT - 1), max_size=5
).flatmap(
    lambda luns: st.builds(
        Numbers,
        st.just(luns),
        *[st.frozensets(st.sampled_from(sorted(luns.values()))) if luns else st.just(frozenset())]
        * 2,
    )
)


def test_the_numbers_survive_being_written_and_read(tmp_path: Path) -> None:
    luns = {"nvme at-1 X serial\twith a tab": 0, "sd mmcblk1  ": 3, "sd mmcblk2  ": 4, "x": 5}
    numbers = Numbers(luns, frozenset((3, 5)), frozenset((4, 5)))
    save(tmp_path / "run" / "luns", numbers)
    assert load(tmp_path / "run" / "luns") == numbers
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["luns"]


@settings(max_examples=50)
@given(NUMBERS)
def test_no_name_of_a_disk_upsets_the_file(
    tmp_path_factory: pytest.TempPathFactory, numbers: Numbers
) -> None:
    path = tmp_path_factory.getbasetemp() / "luns"
    save(path, numbers)
    luns = {key: number for key, number in numbers.luns.items() if "\n" not in key}
    there = frozenset(luns.values())
    assert load(path) == Numbers(luns, numbers.shown & there, numbers.failed & there)


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
    assert numbers.shown | numbers.failed <= set(numbers.luns.values())


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert load(tmp_path / "luns") == Numbers()
    assert load(tmp_path) == Numbers()


def test_without_a_place_for_the_file_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a directory should be")
    save(tmp_path / "run" / "luns", Numbers({"a": 1}))
    assert load(tmp_path / "run" / "luns") == Numbers()
