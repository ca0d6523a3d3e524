"""The bounds on unwritten data."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.config.settings import Writeback
from gadgetd.disks.dirty_limits import (
    EXPIRE_CENTISECS,
    WAKEUP_CENTISECS,
    limit,
    put_back,
    remember,
)
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


def test_the_lower_bound_is_set_first_since_the_kernel_lowers_it_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr("gadgetd.sysfs.write", lambda path, _: written.append(path.name))
    limit(1 << 20, 1 << 19, tmp_path)
    assert written == list(NAMES)


BEFORE = {
    "dirty_background_ratio": 10,
    "dirty_background_bytes": 0,
    "dirty_ratio": 0,
    "dirty_bytes": 123456789,
    "dirty_expire_centisecs": 3000,
    "dirty_writeback_centisecs": 500,
}


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_before_is_put_back_also_if_a_daemon_was_killed(
    tmp_path: Path, vm: Path, killed: bool
) -> None:
    memory = tmp_path / "run" / "dirty"
    for name, value in BEFORE.items():
        (vm / name).write_text(f"{value}\n")
    remember(memory, tmp_path)
    limit(1 << 20, 1 << 19, tmp_path)
    if killed:
        remember(memory, tmp_path)  # The successor finds our own bounds.
    put_back(memory, tmp_path)
    now = {name: int((vm / name).read_text().split()[0]) for name in BEFORE}
    # A file, unlike the kernel, leaves the ratio's bytes as they were.
    assert now == BEFORE | {"dirty_background_bytes": 1 << 19}
    assert not memory.exists()
    put_back(memory, tmp_path)


def test_what_is_no_bound_is_not_written(tmp_path: Path, vm: Path) -> None:
    memory = tmp_path / "dirty"
    memory.write_text("swappiness 1\ndirty_bytes\n\n../../x 3\ndirty_ratio 30\n")
    for name in ("swappiness", "dirty_ratio"):
        (vm / name).write_text("60\n")
    put_back(memory, tmp_path)
    assert (vm / "swappiness").read_text() == "60\n"
    assert (vm / "dirty_ratio").read_text() == "30\n"


def test_a_small_write_is_on_its_way_before_the_disk_counts_as_quiet() -> None:
    assert (EXPIRE_CENTISECS + WAKEUP_CENTISECS) / 100 < QUIET_S


def test_the_defaults_hold_less_than_a_slow_disk_writes_in_the_hosts_patience() -> None:
    # 4 MB/s, and a host that resets the port after 30 s: see docs/slow-media.md.
    assert Writeback().dirty_bytes / 4_000_000 < 30 / 2


def test_a_bound_that_cannot_be_set_is_told_and_the_others_are_set(
    tmp_path: Path, vm: Path
) -> None:
    (vm / "dirty_bytes").unlink()
    told = limit(**Writeback()._asdict(), proc=tmp_path)
    words = f"cannot set vm.dirty_bytes to {8 << 20}: No such file or directory"
    assert [each.message for each in told] == [words]
    assert (vm / "dirty_background_bytes").read_text() == f"{4 << 20}\n"
    assert (vm / "dirty_expire_centisecs").read_text() == f"{EXPIRE_CENTISECS}\n"


def test_without_proc_every_bound_is_told(tmp_path: Path) -> None:
    told = limit(**Writeback()._asdict(), proc=tmp_path / "missing")
    assert len(told) == len(NAMES)
