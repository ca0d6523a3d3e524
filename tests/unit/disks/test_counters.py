"""How much was read and written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.disks.counters import Counters, read_counters

# As a kernel 6.1 prints it: 17 fields, aligned.
STAT = (
    "    1234       56    78900      321     4321      654    98760      987        0     1000"
    "     1308        1        0     2048        5        7       12\n"
)
COUNTERS = st.builds(Counters, st.integers(0, 1 << 60), st.integers(0, 1 << 60))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "block" / "mmcblk0"
    path.mkdir(parents=True)
    return path


def test_the_counters_are_the_kernels_sectors_in_bytes(tmp_path: Path, disk: Path) -> None:
    (disk / "stat").write_text(STAT)
    assert read_counters("mmcblk0", tmp_path) == Counters(78900 * 512, 98760 * 512)


@pytest.mark.parametrize("text", ["", "1 2 3\n", "a b c d e f g h\n", "1 2 3 4 5 6 \xff\n"])
def test_a_stat_that_makes_no_sense_is_no_counter(tmp_path: Path, disk: Path, text: str) -> None:
    (disk / "stat").write_text(text, "latin-1")
    assert read_counters("mmcblk0", tmp_path) is None


def test_a_disk_that_is_gone_has_no_counters(tmp_path: Path) -> None:
    assert read_counters("mmcblk0", tmp_path) is None


@given(COUNTERS, COUNTERS)
def test_a_counter_never_runs_backwards(later: Counters, earlier: Counters) -> None:
    delta = later - earlier
    assert delta.read_bytes == max(0, later.read_bytes - earlier.read_bytes)
    assert delta.written_bytes == max(0, later.written_bytes - earlier.written_bytes)
