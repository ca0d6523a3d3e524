"""How often counters and LUNs are looked at: seldom while the host sends nothing, else soon."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gadgetd.export.drives import TICK_S
from gadgetd.export.reconnect import ASK_S, LOOK_S, SURE_S
from gadgetd.status import Life
from tests.unit.fakes import MIB, Bench


class Looks:
    """A daemon with two disks and a host that has long been quiet; counts the looks."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.add("mmcblk0")
        bench.add("nvme0n1")
        self.threads = [bench.proc / "4711", bench.proc / "4712"]
        for thread in self.threads:
            thread.mkdir()
            (thread / "comm").write_text("file-storage\n")
        self.wake_ups = 0
        self.wake(100)
        self.daemon = bench.daemon()
        bench.plug()
        bench.loop.run_for(2 * ASK_S)
        self.count = 0
        drives = self.daemon._exporter.drives
        look = drives.look

        def counted() -> object:
            self.count += 1
            return look()

        setattr(drives, "look", counted)  # noqa: B010 - mypy knows it for a method

    def wake(self, times: int) -> None:
        """Have each function's thread woken so often, by the steps of the host's commands."""
        self.wake_ups += times
        for thread in self.threads:
            (thread / "status").write_text(f"voluntary_ctxt_switches:\t{self.wake_ups}\n")

    def in_s(self, seconds: float) -> int:
        """Let time pass; how many looks there were."""
        before = self.count
        self.bench.loop.run_for(seconds)
        return self.count - before

    def life(self, lun: int) -> Life:
        return self.daemon.drives[lun].life


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looks]:
    with Bench(tmp_path, monkeypatch) as bench:
        yield Looks(bench)


def test_while_the_host_sends_nothing_there_is_a_look_now_and_then(looks: Looks) -> None:
    assert 9 <= looks.in_s(10 * LOOK_S) <= 11


def test_an_eject_is_noticed_with_the_next_tick(looks: Looks) -> None:
    looks.in_s(LOOK_S)
    looks.bench.host_ejects(1)
    looks.wake(1)
    looks.in_s(TICK_S * 1.1)
    assert looks.life(1) in (Life.EJECTING, Life.EJECTED)


def test_an_eject_between_a_look_and_its_end_is_noticed_with_the_next_tick(looks: Looks) -> None:
    drives = looks.daemon._exporter.drives
    look = drives.look

    def late() -> object:
        done = look()
        setattr(drives, "look", look)  # noqa: B010
        looks.bench.host_ejects(1)
        looks.wake(1)
        return done

    setattr(drives, "look", late)  # noqa: B010
    looks.in_s(LOOK_S)
    looks.in_s(TICK_S * 1.1)
    assert looks.life(1) in (Life.EJECTING, Life.EJECTED)


def test_questions_for_media_are_a_look_each_and_no_more(looks: Looks) -> None:
    for _ in range(5):
        looks.wake(1)
        assert looks.in_s(2.0) == 1


def test_a_write_is_followed_until_it_has_moved_the_counters(looks: Looks) -> None:
    looks.wake(20)
    assert looks.in_s(SURE_S - TICK_S) >= (SURE_S - TICK_S) / TICK_S - 1
    looks.bench.traffic("mmcblk0", written=MIB)
    looks.in_s(TICK_S * 1.1)
    assert looks.life(0) is Life.WRITING


def test_a_write_too_short_to_tell_from_a_question_is_noticed_all_the_same(looks: Looks) -> None:
    looks.wake(1)
    looks.in_s(TICK_S * 1.1)
    looks.bench.traffic("mmcblk0", written=4096)
    looks.in_s(LOOK_S + TICK_S)
    assert looks.daemon.drives[0].total.written_bytes == 4096


def test_where_no_thread_is_known_each_tick_is_a_look(looks: Looks) -> None:
    for thread in looks.threads:
        shutil.rmtree(thread)
    assert looks.in_s(10 * TICK_S) >= 9
