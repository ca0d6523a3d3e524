"""Every step that the daemon asks of the kernel may be refused, once or for long: it recovers.

A scenario is played once to count its steps: the calls to configfs and the reads of sysfs. Then it
is played anew, with one of them refused. After it no disk is exported that should not
be, the others are, nothing is left over, and what was held up was said. Some of the steps are
tried, in one way each; `make soak` tries others in other ways.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from gadgetd import sysfs
from gadgetd.blockscan import BlockScan
from gadgetd.daemon import Daemon
from gadgetd.export.drives import TICK_S
from gadgetd.export.ending import RETRY_S
from gadgetd.export.reconnect import LET_GO_S
from gadgetd.export.retry import REFUSED_S
from gadgetd.status import Phase
from gadgetd.usb import controllers
from gadgetd.usb.gadget import NAME
from gadgetd.usb.kernelfs import ANSWER_S, Kernel
from tests.fake_configfs import ROOT
from tests.soak import SEED, count
from tests.unit.fakes import CONTROLLER, Bench

T = TypeVar("T")

STEPS = 20  # that are refused of each scene
ERRORS = (
    *(errno.ENOENT, errno.EACCES, errno.EBUSY, errno.EIO),
    *(errno.ENOSPC, errno.ENODEV, errno.EINTR),
)
CONFIG = """\
disks:
  - kind: emmc
    read_only: true
  - kind: nvme
exclude:
  - name: nvme9n1
"""


class Steps:
    """Takes note of what is asked of the kernel, and refuses one of it: once, or for long."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refused = False
        self._what = ""
        self._errno = 0
        self._once = True

    def refuse(self, what: str, number: int, *, once: bool = True) -> None:
        """Refuse this step from now on, once or each time; an empty one refuses none."""
        self.taken.clear()
        self._what, self._errno, self._once = what, number, once

    def step(self, what: str) -> None:
        """Raise OSError if this is the one."""
        self.taken.append(what)
        if what == self._what and not (self._once and self.refused):
            self.refused = True
            raise OSError(self._errno, os.strerror(self._errno))


class RefusingKernel(Kernel):
    """The fake kernel behind the steps."""

    def __init__(self, kernel: Kernel, steps: Steps, after: Callable[[], None]) -> None:
        self._kernel = kernel
        self._steps = steps
        self._after = after

    def _do(self, verb: str, path: Path, call: Callable[[], T]) -> T:
        self._steps.step(f"{verb} {path.relative_to(ROOT)}")
        result = call()
        if verb in ("symlink", "write", "write_apart"):  # what can give a disk to the host
            self._after()
        return result

    def mkdir(self, path: Path) -> None:
        self._do("mkdir", path, lambda: self._kernel.mkdir(path))

    def rmdir(self, path: Path) -> None:
        self._do("rmdir", path, lambda: self._kernel.rmdir(path))

    def symlink(self, target: Path, path: Path) -> None:
        self._do("symlink", path, lambda: self._kernel.symlink(target, path))

    def unlink(self, path: Path) -> None:
        self._do("unlink", path, lambda: self._kernel.unlink(path))

    def directories(self, path: Path) -> list[str]:
        return self._do("directories", path, lambda: self._kernel.directories(path))

    def links(self, path: Path) -> list[str]:
        return self._do("links", path, lambda: self._kernel.links(path))

    def read(self, path: Path) -> str:
        return self._do("read", path, lambda: self._kernel.read(path))

    def write(self, path: Path, text: str) -> None:
        self._do("write", path, lambda: self._kernel.write(path, text))

    def write_apart(self, path: Path, text: str, wait_s: float = 0.0) -> None:
        self._do("write_apart", path, lambda: self._kernel.write_apart(path, text, wait_s))

    def read_apart(self, gadget: Path, paths: Iterable[Path], wait_s: float = ANSWER_S) -> None:
        self._do("read_apart", gadget, lambda: self._kernel.read_apart(gadget, paths, wait_s))

    @property
    def under_way(self) -> frozenset[Path]:
        return self._kernel.under_way

    def __setattr__(self, name: str, value: object) -> None:
        # What is called at the end of a write that took long.
        object.__setattr__(self._kernel if name == "late" else self, name, value)


class Play:
    """A board with two disks to export and one to leave alone, and a scenario on it."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.steps = Steps()
        self.kernel = RefusingKernel(bench.kernel, self.steps, self.check)
        self._wrap(monkeypatch, sysfs, "read")
        self._wrap(monkeypatch, controllers, "open_state")
        bench.configure(CONFIG)
        for name in ("mmcblk0", "nvme0n1", "nvme9n1"):
            bench.add(name)
        self.stopped: list[bool] = []

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
        real = getattr(module, name)

        def stepping(asked: object) -> object:
            self.steps.step(f"{name} {asked}".replace(f"{self.bench.path}/", ""))
            return real(asked)

        monkeypatch.setattr(module, name, stepping)

    def start(self) -> Daemon:
        """Start a daemon on the kernel that refuses."""
        self.daemon = self.bench.daemon(self.kernel)
        return self.daemon

    def check(self) -> None:
        """After each call: no disk is where it should not be, nor writable against its rule."""
        for number, name in self.bench.files().items():
            assert name in ("", "mmcblk0", "nvme0n1"), f"{name} is exported"
            if name == "mmcblk0":
                assert self.bench.lun(number).read_only, f"{name} can be written"

    @property
    def well(self) -> bool:
        """Both disks are with the host, once each, and nothing is wrong."""
        there = sorted(name for name in self.bench.files().values() if name)
        return there == BOTH and bool(self.bench.bound) and self.daemon.status.problem is None

    def settle(self) -> None:
        """Let pass what has to, until all is well or everything was tried again in vain."""
        for seconds in (0, RETRY_S, LET_GO_S, RETRY_S, REFUSED_S, LET_GO_S, REFUSED_S, LET_GO_S):
            self.bench.loop.run_for(seconds + 2 * TICK_S)
            if self.well:
                return

    @property
    def said(self) -> list[str]:
        """What the consoles were given to say of trouble, and of what is waited for."""
        words = []
        for status in self.bench.panel.statuses:
            words += [each.message for each in (status.problem, *status.advice) if each]
            words += [row.reason for row in status.disks if row.disk.name in BOTH and row.reason]
            words += [status.message] if status.phase is not Phase.EXPORTED else []
        return words


BOTH = ["mmcblk0", "nvme0n1"]


def start(play: Play) -> None:
    play.start()


def take_over(play: Play) -> None:
    play.start()


def hot_plug(play: Play) -> None:
    bench = play.bench
    bench.remove("nvme0n1")
    bench.loop.settle()
    bench.add("nvme0n1")
    bench.host_lets_go()


def reload(play: Play) -> None:
    play.bench.configure(CONFIG + "usb: {product: other}\n")
    play.daemon.reload()
    play.bench.host_lets_go()


def more_luns(play: Play) -> None:
    play.bench.configure(CONFIG + "slots: 2\n")
    play.daemon.reload()
    play.bench.host_lets_go()


def host_ejects(play: Play) -> None:
    number = next(n for n, name in play.bench.files().items() if name == "nvme0n1")
    play.bench.host_ejects(number)
    play.bench.loop.run_for(TICK_S * 2)
    drive = next(each for each in play.daemon.drives if each.name == "nvme0n1")
    if drive.ejected:
        play.daemon.by_hand.insert(drive)
    play.bench.loop.settle()


def stop(play: Play) -> None:
    play.daemon.stop(lambda: play.stopped.append(True))
    play.bench.loop.settle()


def start_again(play: Play) -> None:
    play.daemon.resume()
    play.bench.loop.settle()


Scene = Callable[[Play], None]
BEFORE: dict[Scene, tuple[Scene, ...]] = {
    start: (),
    take_over: (start,),
    hot_plug: (start,),
    reload: (start,),
    more_luns: (start,),
    host_ejects: (start,),
    stop: (start,),
    start_again: (start, stop),
}


# Said of a gadget that is there, nobody can tell it from the truth.
LIES = {(stop, "directories usb_gadget/gadgetd", errno.ENOENT)}


def judge(play: Play, scene: Scene) -> None:
    """What holds after every scene."""
    if scene is stop:
        assert play.stopped, "the stop does not end"
        if play.bench.tree:
            assert play.daemon.status.problem, "a gadget is left, and nobody is told"
        play.start()
    elif not play.well:
        assert play.said, "nothing is said of it"
    play.settle()
    assert play.well, f"{play.bench.files()} {play.bench.bound} {play.daemon.status.problem}"
    assert {path.split("/")[0] for path in play.bench.tree} == {NAME}
    play.daemon.stop(lambda: play.stopped.append(True))
    play.bench.loop.settle()
    assert play.bench.tree == []


@contextmanager
def played(
    top: Path, scene: Scene, refused: str = "", number: int = 0, *, once: bool = True
) -> Iterator[Play]:
    """The scene on a board of its own, with one step refused if one is named."""
    with (
        tempfile.TemporaryDirectory(dir=top) as directory,
        pytest.MonkeyPatch.context() as patch,
        Bench(Path(directory), patch) as bench,
    ):
        play = Play(bench, patch)
        for before in BEFORE[scene]:
            before(play)
        play.steps.refuse(refused, number, once=once)
        scene(play)
        yield play


@pytest.mark.parametrize("once", [True, False], ids=["once", "for_long"])
@pytest.mark.parametrize("scene", BEFORE, ids=lambda scene: scene.__name__)
def test_each_step_may_be_refused(scene: Scene, once: bool, tmp_path: Path) -> None:
    with played(tmp_path, scene) as play:
        steps = sorted(set(play.steps.taken))
        judge(play, scene)
    chosen = random.Random(SEED)
    failures = []
    for what in chosen.sample(steps, min(STEPS if once else STEPS // 3, len(steps))):
        number = chosen.choice(ERRORS)
        if (scene, what, number) in LIES:
            continue
        try:
            with played(tmp_path, scene, what, number, once=once) as play:
                assert play.steps.refused
                count("faults: a step refused, once or for a minute")
                if not once:
                    endure(play, scene)
                judge(play, scene)
        except Exception as error:
            failures.append(f"{what}, {errno.errorcode[number]}: {error!r:.400}")
    assert not failures, f"seed {SEED}\n" + "\n".join(failures)


def endure(play: Play, scene: Scene) -> None:
    """A minute more of it costs the kernel and the host little; then it is over."""
    play.steps.taken.clear()
    disconnected = play.bench.kernel.bus.count(f"unbind {CONTROLLER}")
    play.bench.loop.run_for(60)
    # Every 5 s all that a new start takes, some 600 steps, and no more.
    assert len(play.steps.taken) < 10_000
    assert play.bench.kernel.bus.count(f"unbind {CONTROLLER}") - disconnected <= 2
    play.steps.refuse("", 0)
    play.bench.loop.run_for(2 * RETRY_S)
    if scene is not stop and not play.well:
        # A disk that the gadget could not open is tried again when a person asks for it.
        status = play.daemon.status
        reasons = [row.reason for row in status.disks if row.disk.name in BOTH and row.lun is None]
        assert any(reasons) or status.problem or status.advice
        play.daemon.reload()


@pytest.mark.parametrize("wait_s", [1, 90], ids=["moment", "long"])
@pytest.mark.parametrize(
    "scene",
    [each for each in BEFORE if start in BEFORE[each] and each is not start_again],
    ids=lambda scene: scene.__name__,
)
def test_the_gadget_may_not_answer_meanwhile(scene: Scene, wait_s: float, tmp_path: Path) -> None:
    def hang(play: Play) -> None:
        play.bench.kernel.thread_busy = True
        scene(play)
        play.bench.loop.run_for(wait_s)
        play.bench.kernel.thread_goes_on()
        play.bench.loop.run_for(TICK_S)

    BEFORE[hang] = BEFORE[scene]
    try:
        with played(tmp_path, hang) as play:
            judge(play, scene)
            count("faults: a gadget that does not answer")
    finally:
        del BEFORE[hang]


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("rmdir usb_gadget/gadgetd", errno.ENOENT),
        ("directories usb_gadget/gadgetd", errno.ENODEV),
    ],
)
def test_a_gadget_that_a_stop_leaves_is_told_of(tmp_path: Path, what: str, number: int) -> None:
    with played(tmp_path, stop, what, number) as play:
        assert play.bench.tree
        problem = play.daemon.status.problem
        assert problem
        assert "gadgetd" in problem.message
        judge(play, stop)


class FailingMonitor:
    """pyudev's monitor, whose socket fails once and then has nothing."""

    def __init__(self, number: int) -> None:
        self._socket, self._other = socket.socketpair()
        self._errors = [number]

    def fileno(self) -> int:
        return self._socket.fileno()

    def poll(self, timeout: float) -> None:
        assert timeout == 0, "nobody may wait"
        if self._errors:
            number = self._errors.pop()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        self._socket.close()
        self._other.close()


@pytest.mark.parametrize("number", [*ERRORS, errno.ENOBUFS, errno.ENOMEM])
def test_an_error_of_the_uevent_socket_is_an_event_of_everything(number: int) -> None:
    with closing(FailingMonitor(number)) as monitor:
        scan = BlockScan()
        scan.listen(monitor)
        assert {"block", "udc", "nvme"} <= scan.drain()
        assert scan.drain() == frozenset()
