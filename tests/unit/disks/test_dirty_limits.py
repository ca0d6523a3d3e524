"""The bounds on unwritten data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.config.settings import Writeback
from gadgetd.disks.dirty_limits import EXPIRE_CENTISECS, WAKEUP_CENTISECS, limit
from gadgetd.export.drive import QUIET_S

NAMES = (
    "dirty_background_bytes",
    "dirty_bytes",
    "dirty_expire_centisecs",
    "dirty_writeback_centisecs",
)


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    path = tmp_path / "sys" / "vm"
    path.mkdir(parents=True)
    for name in NAMES:
        (path / name).write_text("x")
    return path


def test_the_kernel_gets_the_bounds_of_the_configuration(tmp_path: Path, vm: Path) -> None:
    assert limit(1 << 20, 1 << 19, tmp_path) == ()
    assert (vm / "dirty_bytes").read_text() == "1048576\n"
    assert (vm / "dirty_background_bytes").read_text() == "524288\n"


def test_a_small_write_is_on_its_way_before_the_disk_counts_as_quiet() -> None:
    assert (EXPIRE_CENTISECS + WAKEUP_CENTISECS) / 100 < QUIET_S


def test_the_defaults_hold_less_than_a_slow_disk_writes_in_the_hosts_patience() -> None:
    # 4 MB/s, and a host that resets the port after 30 s: see docs/slow-media.md.
    assert Writeback().dirty_bytes / 4_000_000 < 30 / 2


def test_a_bound_that_cannot_be_set_is_told_and_the_others_are_set(
    tmp_path: Path, vm: Path
) -> None:
    (vm / "dirty_bytes").unlink()
    told = limit(*Writeback(), tmp_path)
    words = f"cannot set vm.dirty_bytes to {8 << 20}: No such file or directory"
    assert [each.message for each in told] == [words]
    assert (vm / "dirty_background_bytes").read_text() == f"{4 << 20}\n"
    assert (vm / "dirty_expire_centisecs").read_text() == f"{EXPIRE_CENTISECS}\n"


def test_without_proc_every_bound_is_told(tmp_path: Path) -> None:
    assert len(limit(*Writeback(), tmp_path / "missing")) == len(NAMES)
