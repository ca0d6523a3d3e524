"""A board that is used for months: nothing grows with what happens to it.

Memory is counted in blocks of Python's allocator: what is left of a round shows, however small.
`make soak` plays some thousand rounds, `make test` a few dozen.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gadgetd.daemon import Daemon
from gadgetd.export.drives import TICK_S
from gadgetd.status import Phase
from tests.soak import ROUNDS, Sample, count, note
from tests.unit.fakes import MIB, Bench, open_fds

WARM_UP = 10
BLOCKS = 300
"""Caches and free lists move by so much, whatever the number of rounds."""

SAMPLED = 50
"""So often it is noted what there is."""

Round = Callable[[Bench, Daemon, int], None]


def plug(bench: Bench, _daemon: Daemon, number: int) -> None:
    bench.unplug()
    bench.loop.run_for(10)
    bench.plug(speed=("high-speed", "full-speed")[number % 7 == 0])
    bench.traffic("nvme0n1", read=MIB, written=MIB * (number % 3))
    bench.loop.run_for(10)


def hot_plug(bench: Bench, _daemon: Daemon, number: int) -> None:
    # Now and then another card in the same slot.
    bench.remove("nvme0n1")
    bench.loop.run_for(5)
    bench.add("nvme0n1", serial=f"card {number % 5}")
    bench.host_lets_go()


def reload(bench: Bench, daemon: Daemon, number: int) -> None:
    texts = ("usb: {product: other}\n", "slots: 2\n", "disks: [", "{}", "exclude: [{kind: nvme}]\n")
    bench.configure(texts[number % len(texts)])
    daemon.reload()
    bench.host_lets_go()


def eject(bench: Bench, daemon: Daemon, _number: int) -> None:
    bench.traffic("nvme0n1", written=MIB)
    bench.loop.run_for(1)
    bench.host_ejects(1)
    bench.loop.run_for(5)
    drive = next(each for each in daemon.drives if each.name == "nvme0n1")
    daemon.by_hand.insert(drive)
    bench.loop.run_for(5)


def restart(bench: Bench, daemon: Daemon, _number: int) -> None:
    daemon.stop(lambda: None)
    bench.loop.run_for(5)
    daemon.resume()
    bench.loop.run_for(5)


def forget(bench: Bench) -> None:
    """Empty what the bench itself keeps of all that has happened."""
    for kept in (bench.panel.statuses, bench.panel.chosen, bench.flushes, bench.kernel.bus):
        kept.clear()
    bench.scan.asked_with.clear()
    bench.questions.clear()


def left(bench: Bench) -> tuple[int, int]:
    """Open descriptors and allocated blocks."""
    forget(bench)
    gc.collect()
    return len(open_fds()), sys.getallocatedblocks()


def resident_kib() -> int:
    """What this process has in RAM. Source: proc_pid_statm(5)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def sample(bench: Bench, rounds: int) -> Sample:
    """What there is after so many rounds."""
    return Sample(
        rounds, int(bench.clock()), *left(bench), resident_kib(), lines=len(bench.panel.log)
    )


@pytest.mark.parametrize(
    "each", [plug, hot_plug, reload, eject, restart], ids=lambda each: each.__name__
)
def test_nothing_is_left_of_a_round(bench: Bench, each: Round) -> None:
    bench.add("mmcblk0")
    bench.add("nvme0n1")
    daemon = bench.daemon()
    bench.loop.run_for(60)
    for number in range(WARM_UP):
        each(bench, daemon, number)
    fds, blocks = left(bench)
    watched = len(bench.loop.watched)
    for number in range(ROUNDS):
        if number % max(1, ROUNDS // SAMPLED) == 0:
            note(sample(bench, number))
        each(bench, daemon, WARM_UP + number)
    fds_now, blocks_now = left(bench)
    note(sample(bench, ROUNDS))
    count(f"endurance: {each.__name__.replace('_', ' ')}", ROUNDS)
    assert fds_now == fds
    assert len(bench.loop.watched) == watched
    assert blocks_now - blocks < BLOCKS + ROUNDS / 2
    assert len(bench.panel.log) <= 500
    bench.configure("{}")
    daemon.reload()
    bench.host_lets_go()
    assert daemon.status.phase is Phase.EXPORTED
    assert sorted(bench.files().values()) == ["mmcblk0", "nvme0n1"]


def test_a_host_that_never_reads_costs_two_looks_a_second(bench: Bench) -> None:
    bench.add("mmcblk0")
    bench.add("nvme0n1")
    bench.daemon()
    bench.loop.run_for(300)
    fds, blocks = left(bench)
    woken = bench.loop.run_for(30 * ROUNDS)
    # An eject raises no event.
    assert woken <= 30 * ROUNDS / TICK_S * 1.1
    fds_now, blocks_now = left(bench)
    assert fds_now == fds
    assert blocks_now - blocks < BLOCKS


def test_a_day_without_a_cable_costs_a_question_an_hour(bench: Bench) -> None:
    bench.unplug()
    bench.add("mmcblk0")
    bench.daemon()
    bench.loop.run_for(300)
    fds, blocks = left(bench)
    # How the disk is.
    assert bench.loop.run_for(24 * 3600) <= 25
    fds_now, blocks_now = left(bench)
    assert fds_now == fds
    assert blocks_now - blocks < BLOCKS
