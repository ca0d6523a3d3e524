"""SAFE TO UNPLUG, whatever happens: the daemon beside a model of what really is on the media."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gadgetd.errors import GadgetError
from gadgetd.export.drive import Drive
from gadgetd.status import Life, Phase
from tests.unit.fakes import MIB, Bench, FakeFlush

NAMES = ("mmcblk0", "nvme0n1", "nvme1n1")
LAG_S = 1.5
"""How long the kernel keeps a write in RAM before its counters tell of it; see dirty_limits.py."""


@dataclass
class Medium:
    """One disk. Writes are numbered from 1."""

    writes: int = 0
    written_at: float | None = None
    """Since when there is a write that no counter tells of yet."""
    on_medium: int = 0
    """All writes up to this number are on the medium."""
    lost: bool = False


class World:
    """A host, a person at the cable, another at the shell, a kernel, and a daemon among them."""

    def __init__(self, bench: Bench, disks: int, config: str) -> None:
        self.bench = bench
        bench.configure(config)
        bench.flush_result = None
        bench.on_flush = self._flush_begins
        self.media: dict[str, Medium] = {}
        self.flushes: list[tuple[FakeFlush, Medium, int]] = []
        self.said = 0
        for name in NAMES[:disks]:
            self.arrive(name)
        self.daemon = bench.daemon()

    # What the host does

    def write(self, name: str) -> None:
        if self._host_sees(name):
            medium = self.media[name]
            medium.writes += 1
            if medium.written_at is None:
                medium.written_at = self.bench.clock()

    def write_and_pause(self, name: str) -> None:
        self.write(name)
        self.pause(name)

    def eject(self, name: str) -> None:
        if self._host_sees(name):
            number = next(n for n, file in self.bench.files().items() if file == name)
            self.bench.host_ejects(number)

    def eject_all(self, _: str) -> None:
        for name in NAMES:
            self.eject(name)
        self.bench.loop.run_for(0.6)

    def plug(self, _: str) -> None:
        self.bench.plug()

    def unplug(self, _: str) -> None:
        self.bench.unplug()

    # What the kernel does

    def moment(self, _: str) -> None:
        self.bench.loop.run_for(0.4)

    def pause(self, _: str) -> None:
        for _quarter in range(16):
            for name, medium in self.media.items():
                since = medium.written_at
                if since is not None and self.bench.clock() - since >= LAG_S - 0.26:
                    self._write_back(name)
            self.bench.loop.run_for(0.25)

    def flush_ends(self, _: str, result: int = 0) -> None:
        if self.flushes:
            flush, medium, covered = self.flushes.pop(0)
            if result:
                medium.lost |= covered > medium.on_medium
            else:
                medium.on_medium = max(medium.on_medium, covered)
            if self.media.get(flush.name) is medium:
                self._write_back(flush.name)
            flush.finish(result)

    def flush_fails(self, _: str) -> None:
        self.flush_ends(_, errno.EIO)

    def leave(self, name: str) -> None:
        if name in self.media:
            del self.media[name]
            self.bench.remove(name)

    def arrive(self, name: str) -> None:
        if name not in self.media:
            self.media[name] = Medium()
            self.bench.add(name)

    # What becomes of the daemon, and what it is told

    def kill(self, _: str) -> None:
        # That a write was lost does not outlive the daemon that saw it.
        if not any(medium.lost for medium in self.media.values()):
            while self.flushes:
                flush, medium, covered = self.flushes.pop()
                medium.on_medium = max(medium.on_medium, covered)
                flush.finish()
            self.daemon = self.bench.daemon()

    def stop(self, _: str) -> None:
        self.daemon.stop(lambda: None)

    def start(self, _: str) -> None:
        if self.daemon.status.phase is Phase.STOPPED and not self.daemon.shutdown.stop.under_way:
            for name in self.media:
                self._forgive(name)
            self.daemon.resume()

    def shell_ejects(self, name: str) -> None:
        drive = self._export(name)
        if drive is not None and drive.has_medium:
            try:
                self.daemon.by_hand.eject(drive, force=False)
            except GadgetError:
                return

    def shell_inserts(self, name: str) -> None:
        drive = self._export(name)
        if drive is not None and drive.life in (Life.EJECTED, Life.FAILED):
            self._forgive(name)
            self.daemon.by_hand.insert(drive)

    # What must hold

    def check(self) -> None:
        wakeups = self.bench.loop.fake_poll.wakeups
        self.bench.loop.settle()
        assert self.bench.loop.fake_poll.wakeups - wakeups < 60, "it spins"
        if not self.daemon.status.safe_to_unplug:
            return
        self.said += 1
        for name, medium in self.media.items():
            assert not self._host_sees(name), name
            assert not medium.lost, name
            assert medium.on_medium == medium.writes, name

    def _host_sees(self, name: str) -> bool:
        files = self.bench.files().values()
        return bool(self.bench.plugged and self.bench.bound and name in files)

    def _export(self, name: str) -> Drive | None:
        return next((e for e in self.daemon.drives if e.name == name and e.hold), None)

    def _flush_begins(self, flush: FakeFlush) -> None:
        medium = self.media.get(flush.name) or Medium()
        self.flushes.append((flush, medium, medium.writes))

    def _write_back(self, name: str) -> None:
        medium = self.media[name]
        if medium.written_at is not None:
            medium.written_at = None
            self.bench.traffic(name, written=MIB)

    def _forgive(self, name: str) -> None:
        # A person has been told, and begins anew.
        if name in self.media and self.media[name].lost:
            self.media[name] = Medium()


OFTEN = [World.write, World.write_and_pause, World.eject_all, World.flush_ends] * 5
SOMETIMES = [World.moment, World.pause, World.eject, World.plug, World.start] * 2
RARELY = [
    World.unplug,
    World.flush_fails,
    World.leave,
    World.arrive,
    World.kill,
    World.stop,
    World.shell_ejects,
    World.shell_inserts,
]
Step = tuple[Callable[[World, str], None], str]


def steps_with(disks: int) -> st.SearchStrategy[list[Step]]:
    actions = st.sampled_from(OFTEN + SOMETIMES + RARELY)
    return st.lists(st.tuples(actions, st.sampled_from(NAMES[:disks])), min_size=10, max_size=25)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.integers(1, 3).flatmap(steps_with),
    disks=st.integers(1, 2),
    slots=st.sampled_from([0, 2]),
    action=st.sampled_from(["stay", "reinsert"]),
)
def test_the_word_is_only_said_when_it_is_true(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], disks: int, slots: int, action: str
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        bench = Bench(tmp_path_factory.mktemp("bench"), monkeypatch)
        config = f"slots: {slots}\non_ejected: {action}\nreinsert_after_s: 3\n"
        world = World(bench, disks, config)
        for step, name in steps:
            step(world, name)
            world.check()
        event("said" if world.said else "never said")
        bench.close()
