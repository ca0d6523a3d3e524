"""What the board itself reads of an exported disk, by `gadgetd hash`, is not the host's doing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from gadgetd.daemon import Daemon
from gadgetd.export.drives import TICK_S
from tests.unit.fakes import MIB, Bench, lives


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as started:
        yield started
        started.kill()


@pytest.fixture
def daemon(bench: Bench) -> Daemon:
    bench.add("mmcblk0")
    bench.add("nvme0n1")
    return bench.daemon()


def read_bytes(daemon: Daemon) -> dict[str, int]:
    return {row.disk.name: row.read_bytes for row in daemon.status.disks}


def reads(bench: Bench, name: str) -> None:
    bench.traffic(name, read=MIB)
    bench.loop.run_for(TICK_S * 1.1)


def test_a_hash_is_not_taken_for_a_host_that_reads(
    bench: Bench, daemon: Daemon, program: subprocess.Popen[bytes]
) -> None:
    daemon.board_reads.begin(daemon.drives[0], program.pid)
    reads(bench, "mmcblk0")
    assert lives(daemon)["mmcblk0"] == "idle"
    assert read_bytes(daemon) == {"mmcblk0": 0, "nvme0n1": 0}
    assert not any(drive.touched for drive in daemon.drives)
    # The host's reads of another disk count.
    reads(bench, "nvme0n1")
    assert read_bytes(daemon) == {"mmcblk0": 0, "nvme0n1": MIB}


def test_however_the_program_ends_the_host_is_counted_from_then_on(
    bench: Bench, daemon: Daemon, program: subprocess.Popen[bytes]
) -> None:
    daemon.board_reads.begin(daemon.drives[0], program.pid)
    bench.traffic("mmcblk0", read=MIB)
    program.kill()
    program.wait()
    bench.loop.settle()
    reads(bench, "mmcblk0")
    assert read_bytes(daemon)["mmcblk0"] == MIB
    assert lives(daemon)["mmcblk0"] == "reading"


def test_what_the_host_has_read_before_and_what_it_writes_meanwhile_counts(
    bench: Bench, daemon: Daemon, program: subprocess.Popen[bytes]
) -> None:
    bench.traffic("mmcblk0", read=MIB)
    daemon.board_reads.begin(daemon.drives[0], program.pid)
    bench.traffic("mmcblk0", written=MIB)
    reads(bench, "mmcblk0")
    (row, _) = daemon.status.disks
    assert (row.read_bytes, row.written_bytes) == (MIB, MIB)
    assert lives(daemon)["mmcblk0"] == "writing"


def test_a_write_that_is_noticed_only_then_is_flushed_though_no_host_is_there(
    bench: Bench, daemon: Daemon, program: subprocess.Popen[bytes]
) -> None:
    bench.unplug()
    bench.loop.run_for(30)
    flushes = len(bench.flushes)
    bench.traffic("mmcblk0", written=MIB)
    daemon.board_reads.begin(daemon.drives[0], program.pid)
    bench.loop.run_for(5)
    assert len(bench.flushes) == flushes + 1
    assert daemon.drives[0].written
