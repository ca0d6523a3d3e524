"""A board, its kernel and its host for tests: all in memory or below a temporary directory.

Time is faked: the loop's poll lets it pass instead of waiting, so that a test of ten minutes takes
milliseconds and every wake-up is counted.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gadgetd.blockscan import BlockScan
from gadgetd.config.settings import Config
from gadgetd.configfs import ConfigFs
from gadgetd.console import Panel
from gadgetd.daemon import Daemon
from gadgetd.disks import health
from gadgetd.disks.disk import Disk, Found, Health, Kind, Pending
from gadgetd.disks.health import Question
from gadgetd.disks.hold import Hold, hold
from gadgetd.disks.kernel_log import KernelLog
from gadgetd.errors import DiskBusyError
from gadgetd.eventloop import Loop
from gadgetd.export import drive as export_module
from gadgetd.export.exporter import Exporter
from gadgetd.export.reconnect import LET_GO_S
from gadgetd.status import Board, Status
from gadgetd.usb.gadget import NAME, UsbIdentity
from gadgetd.usb.kernelfs import Kernel
from gadgetd.usb.serial_login import Login
from tests.fake_configfs import ROOT, FakeDisk, FakeKernel, FakeUdc, LunGroup

CM4 = Board("Raspberry Pi Compute Module 4 Rev 1.1", "10000000a1b2c3d4")
CONTROLLER = "fe980000.usb"
MIB = 1 << 20
SIZE_BYTES = 64 * MIB


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakePoll:
    """Waits without waiting: with nothing ready, the clock jumps to the end of the timeout.

    Descriptors are real. A regular file stands in for an attribute of sysfs: it has POLLPRI
    whenever its content has changed.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._poll = select.poll()
        self._attributes: dict[int, bytes] = {}
        self.registered: set[int] = set()
        self.wakeups = 0

    def register(self, fd: int, events: int) -> None:
        self.registered.add(fd)
        if events & select.POLLPRI and stat.S_ISREG(os.fstat(fd).st_mode):
            self._attributes[fd] = _content(fd)
        else:
            self._poll.register(fd, events)

    def unregister(self, fd: int) -> None:
        self.registered.remove(fd)
        if self._attributes.pop(fd, None) is None:
            self._poll.unregister(fd)

    def poll(self, timeout_ms: int | None = None) -> list[tuple[int, int]]:
        self.wakeups += 1
        ready = self.ready()
        if not ready:
            assert timeout_ms is not None, "nothing will ever happen again"
            self._clock.now += timeout_ms / 1000
        return ready

    def ready(self) -> list[tuple[int, int]]:
        ready = self._poll.poll(0)
        for fd, before in self._attributes.items():
            now = _content(fd)
            if now != before:
                self._attributes[fd] = now
                ready.append((fd, select.POLLPRI))
        return ready


def _content(fd: int) -> bytes:
    return os.pread(fd, 4096, 0)


class FakeLoop(Loop):
    """A loop whose time passes at once."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.fake_clock = clock or FakeClock()
        super().__init__(self.fake_clock)
        self.fake_poll = FakePoll(self.fake_clock)
        self._poll: Any = self.fake_poll

    def run_for(self, seconds: float) -> int:
        """Let time pass and return how often the loop woke up in it."""
        before = self.fake_poll.wakeups
        self.call_later(seconds, self.stop)
        self.run()
        return self.fake_poll.wakeups - before - 1

    def settle(self) -> None:
        """Do all that is due now and all that follows at once."""
        for _ in range(20):
            self.run_for(0)

    @property
    def watched(self) -> set[int]:
        return set(self._watched)


class FakeFlush:
    """An fsync that is over when the test says so, with the result that the test says."""

    def __init__(self, fd: int, result: int | None) -> None:
        self.name = Path(f"/proc/self/fd/{fd}").readlink().name  # of the disk
        self._reader, self._writer = os.pipe()
        self._result = 0
        self.over = self.collected = False
        if result is not None:
            self.finish(result)

    def fileno(self) -> int:
        return self._reader

    def finish(self, result: int = 0) -> None:
        self._result = result
        self.over = True
        os.write(self._writer, b"\n")

    def result(self) -> int:
        assert self.over, "nobody may wait for an fsync"
        self.close()
        return self._result

    def close(self) -> None:
        if not self.collected:
            self.collected = True
            os.close(self._reader)
            os.close(self._writer)


class FakeQuestion(Question):
    """A disk that is asked for its health, and tells it when the test says so."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._reader, self._writer = os.pipe()
        self._health: Health | None = None
        self.collected = False

    def fileno(self) -> int:
        return self._reader

    def tell(self, health: Health | None) -> None:
        self._health = health
        os.write(self._writer, b"\n")

    def health(self) -> Health | None:
        assert not self.collected
        self.collected = True
        os.close(self._reader)
        os.close(self._writer)
        return self._health


class FakeScan(BlockScan):
    """What the kernel would tell; `announce` is a uevent."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self.found: dict[str, Found] = {}
        self.on_their_way: list[Pending] = []
        self.asked_with: list[Collection[UsbIdentity]] = []
        self.listens = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def listen(self, _monitor: object = None) -> None:
        self.listens = True

    def fileno(self) -> int:
        return self._reader

    def announce(self) -> None:
        os.write(self._writer, b"\n")

    def drain(self) -> frozenset[str]:
        try:
            os.read(self._reader, 65536)
        except BlockingIOError:
            return frozenset()
        return frozenset(("block",))

    def disks(self, own: Collection[UsbIdentity] = ()) -> tuple[Found, ...]:
        self.asked_with.append(own)
        return tuple(self.found.values())

    def pending(self) -> tuple[Pending, ...]:
        return tuple(self.on_their_way)


class FakePanel(Panel):
    """Keeps every status that was shown."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, CM4.model)
        self.chosen: list[Config] = []
        self.statuses: list[Status] = []

    def choose(self, config: Config) -> None:
        self.chosen.append(config)

    def show(self, status: Status) -> None:
        if not self.statuses or self.statuses[-1] != status:
            self.statuses.append(status)
        self.log.append(status.message)

    @property
    def messages(self) -> list[str]:
        return list(dict.fromkeys(status.message for status in self.statuses))


class FakeLog(KernelLog):
    """The kernel's log on a pipe: a record a line."""

    def __init__(self) -> None:
        self._fd, self._writer = os.pipe()
        os.set_blocking(self._fd, False)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._writer)

    def say(self, text: str) -> None:
        os.write(self._writer, f"3,1,2,-;{text}".encode())


@dataclass
class WiredKernel(FakeKernel):
    """A configfs whose controllers have cables: what binds and unbinds is noted in `bus`."""

    bus: list[str] = field(default_factory=list)
    changed: Callable[[], None] = lambda: None

    def _store(self, path: Path, text: str) -> None:
        before = self._bound()
        try:
            super()._store(path, text)
        finally:
            self._note(before)

    def unlink(self, path: Path) -> None:
        before = self._bound()
        super().unlink(path)
        self._note(before)

    def rmdir(self, path: Path) -> None:
        before = self._bound()
        super().rmdir(path)
        self._note(before)

    def _bound(self) -> set[str]:
        return {name for name, udc in self.udcs.items() if udc.gadget is not None}

    def _note(self, before: set[str]) -> None:
        now = self._bound()
        self.bus += [f"unbind {name}" for name in sorted(before - now)]
        self.bus += [f"bind {name}" for name in sorted(now - before)]
        if now != before:
            self.changed()


class Bench:
    """A board on a bench. Make a `daemon`, or an `exporter` alone, as often as one is started."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.sys, self.proc, self.dev = path / "sys", path / "proc", path / "dev"
        self.numbers = path / "run" / "luns"
        self.config_path = path / "gadgetd.yaml"
        for directory in (
            self.dev,
            self.sys / "block",
            self.sys / "class" / "udc",
            self.proc / "self",
            self.proc / "sys" / "vm",
        ):
            directory.mkdir(parents=True)
        (self.proc / "self" / "mountinfo").write_text("")
        for name in ("bytes", "background_bytes", "expire_centisecs", "writeback_centisecs"):
            (self.proc / "sys" / "vm" / f"dirty_{name}").write_text("0\n")
        self.clock = FakeClock()
        self.kernel = WiredKernel(changed=self._rebound)
        self.plugged = True
        self.slow_host = False
        """The host does not set up at once what it finds on its cable, but with the next `plug`."""
        self.speed = "high-speed"
        self.scan = FakeScan(self.proc)
        self.log = FakeLog()
        self.busy: set[str] = set()
        self.flushes: list[FakeFlush] = []
        self.flush_result: int | None = 0
        """What every fsync gives at once; None leaves it to `flushes[-1].finish`."""
        self.on_flush: Callable[[FakeFlush], None] = lambda _: None
        self.power: list[signal.Signals] = []
        self.loop = FakeLoop(self.clock)
        self._daemon: Daemon | None = None
        self._exporters: list[Exporter] = []
        monkeypatch.setattr(export_module, "Flush", self._flush)
        self.health: dict[str, Health] = {}
        """What NVMe disks tell of their wear. Of one that is not here nobody knows to ask."""
        self.questions: list[str] = []
        monkeypatch.setattr(health, "Question", self._question)
        self.add_udc(CONTROLLER)

    # The board

    def add_udc(self, name: str) -> None:
        self.kernel.udcs[name] = FakeUdc()
        path = self.sys / "class" / "udc" / name
        path.mkdir()
        for attribute in ("state", "current_speed", "function"):
            (path / attribute).write_text("")
        self._wire()
        self.scan.announce()

    def remove_udc(self, name: str) -> None:
        # As the kernel does: the name stays in the gadget's UDC until that is unbound.
        shutil.rmtree(self.sys / "class" / "udc" / name)
        self.scan.announce()

    def disk(self, name: str, **fields: Any) -> Disk:
        kinds = {"mmcblk0": Kind.EMMC, "mmcblk1": Kind.SD, "sd": Kind.USB, "nvme": Kind.NVME}
        kind = next((kind for start, kind in kinds.items() if name.startswith(start)), Kind.OTHER)
        disk = Disk(
            name, kind, self.dev / name, SIZE_BYTES, serial=f"serial-{name}", location=f"at-{name}"
        )
        return disk._replace(**fields)

    def add(self, name: str, refusal: str = "", **fields: Any) -> Disk:
        """Plug in a disk."""
        disk = self.disk(name, **fields)
        disk.node.write_bytes(b"")
        (self.sys / "block" / name).mkdir(exist_ok=True)
        self._counters = getattr(self, "_counters", {})
        self._counters[name] = [0, 0]
        self.traffic(name)
        errno = 30 if disk.read_only else 0
        self.kernel.disks[str(disk.node)] = FakeDisk(disk.size_bytes, open_errno=errno)
        self.scan.found[name] = Found(disk, refusal)
        self.scan.announce()
        return disk

    def remove(self, name: str) -> None:
        """Pull a disk. A LUN keeps what it had open."""
        disk = self.scan.found.pop(name).disk
        disk.node.unlink()
        del self.kernel.disks[str(disk.node)]
        shutil.rmtree(self.sys / "block" / name)
        self.scan.announce()

    def traffic(self, name: str, *, read: int = 0, written: int = 0) -> None:
        """Let bytes go from or to a disk."""
        counters = self._counters[name]
        counters[0] += read // 512
        counters[1] += written // 512
        text = f"   1 0 {counters[0]} 0 1 0 {counters[1]} 0 0 0 0\n"
        (self.sys / "block" / name / "stat").write_text(text)

    def hold(self, disk: Disk) -> Hold:
        if disk.name in self.busy:
            raise DiskBusyError(f"{disk.name} is in use on the board")
        return hold(disk)

    def configure(self, text: str) -> None:
        self.config_path.write_text(text)

    def vm(self, name: str) -> int:
        return int((self.proc / "sys" / "vm" / name).read_text())

    # The host

    def plug(self, *, speed: str = "high-speed") -> None:
        self.plugged, self.slow_host, self.speed = True, False, speed
        self._wire()

    def unplug(self) -> None:
        self.plugged = False
        self._wire()

    def host_lets_go(self) -> None:
        """Have the host do nothing for so long that it has no data of its own any more."""
        self.loop.run_for(LET_GO_S + 2)

    def host_state(self, state: str) -> None:
        """Have every bound controller in this state."""
        for name, udc in self.kernel.udcs.items():
            if udc.gadget is not None:
                self._write_state(name, state)

    def host_ejects(self, lun: int) -> None:
        self.lun(lun).host_ejects()

    def lun(self, number: int) -> LunGroup:
        index, function = divmod(number, max(1, len(self._storage())))
        return self.kernel.lun(NAME, f"mass_storage.{function}", index)

    def files(self) -> dict[int, str]:
        """Each LUN that the host could see, and the name of the disk in it."""
        found, storage = {}, self._storage()
        for function, luns in storage.items():
            for lun in luns:
                number = int(lun.partition(".")[2]) * len(storage) + int(function.partition(".")[2])
                found[number] = Path(self.lun(number).file).name
        return dict(sorted(found.items()))

    def _storage(self) -> dict[str, list[str]]:
        """The functions that have LUNs, and the LUNs of each."""
        top = ROOT / "usb_gadget" / NAME / "functions"
        try:
            functions = self.kernel.directories(top)
        except OSError:
            return {}
        storage = [each for each in functions if each.startswith("mass_storage.")]
        return {each: self.kernel.directories(top / each) for each in storage}

    @property
    def bound(self) -> str:
        """The controller that our gadget is bound to."""
        for name, udc in self.kernel.udcs.items():
            if udc.gadget is not None and udc.gadget.name == NAME:
                return name
        return ""

    @property
    def tree(self) -> list[str]:
        return self.kernel.tree()

    # A process

    def exporter(self, kernel: Kernel | None = None) -> Exporter:
        """Make an exporter; as with a process, its descriptors go with the bench."""
        exporter = Exporter(
            CM4,
            "0.1",
            self.clock,
            configfs=ConfigFs(ROOT, kernel or self.kernel),
            sys=self.sys,
            numbers=self.numbers,
            hold=self.hold,
        )
        self._exporters.append(exporter)
        return exporter

    def daemon(self, kernel: Kernel | None = None, *, start: bool = True) -> Daemon:
        """Start a daemon. The one before is killed, if there was one."""
        self.kill()
        self.loop = FakeLoop(self.clock)
        self.panel = FakePanel(self.loop)
        # Uevents go to whoever listens at the time.
        self.scan.drain()
        daemon = self._daemon = Daemon(
            self.loop,
            self.config_path,
            CM4,
            "0.1.0",
            self.scan,
            self.exporter(kernel),
            Login(self.loop, (str(self.path / "no-getty"),), self.proc),
            self.log,
            proc=self.proc,
            sys=self.sys,
            power=self.power.append,
        )
        if start:
            daemon.start()
            daemon.go_on(self.panel)
            self.loop.settle()
        return daemon

    def kill(self) -> None:
        """Do to a daemon or an exporter, and all they have open, what SIGKILL does."""
        for exporter in self._exporters:
            for drive in exporter.drives.values():
                drive.release()
        self._exporters.clear()
        if self._daemon is not None:
            of_flushes = {flush.fileno() for flush in self.flushes if not flush.collected}
            for flush in self.flushes:
                flush.close()
            for fd in self.loop.watched - of_flushes - {self.scan.fileno(), self.log.fileno()}:
                os.close(fd)
            self.kernel.lose_daemon()
            self._daemon = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing open."""
        self.kill()
        self.scan.close()
        self.log.close()

    def _flush(self, fd: int) -> FakeFlush:
        flush = FakeFlush(fd, self.flush_result)
        self.flushes.append(flush)
        self.on_flush(flush)
        return flush

    def _question(self, disk: Disk) -> FakeQuestion:
        if disk.name not in self.health:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.questions.append(disk.name)
        question = FakeQuestion(disk)
        question.tell(self.health[disk.name])
        return question

    def _wire(self) -> None:
        for name, udc in self.kernel.udcs.items():
            attached = self.plugged and udc.gadget is not None
            there = "default" if self.slow_host else "configured"
            self._write_state(name, there if attached else "not attached")
            self._write(name, "current_speed", self.speed if attached else "UNKNOWN")
            self._write(name, "function", udc.gadget.name if udc.gadget is not None else "")

    def _rebound(self) -> None:
        self._wire()
        # The kernel's udc core tells of each bind and unbind with a uevent.
        self.scan.announce()

    def _write_state(self, name: str, state: str) -> None:
        self._write(name, "state", state)

    def _write(self, name: str, attribute: str, value: str) -> None:
        path = self.sys / "class" / "udc" / name / attribute
        if path.parent.is_dir():
            path.write_text(f"{value}\n")


def lives(daemon: Daemon) -> dict[str, str]:
    """Each exported disk and what it is doing, in words."""
    return {drive.name: str(drive.life) for drive in daemon.drives}


def open_fds() -> set[str]:
    """All descriptors of this process, as numbers in text."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}
