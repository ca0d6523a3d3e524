"""A board's sysfs and its uevents under umockdev, with a BlockScan that looks at them.

umockdev works by LD_PRELOAD, so the scan lives in a process of its own: started by `MockedBoard`,
it does what it is told over a pipe (`python -m tests.unit.mocked_board` is that process).
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gadgetd.blockscan import BlockScan
from gadgetd.disks.disk import Found, Health, Pending
from gadgetd.disks.health import read_emmc
from gadgetd.usb.gadget import UsbIdentity

REPOSITORY = Path(__file__).parents[2]


class MockedBoard:
    """The test's end of the pipe. Whatever the other end raises is raised here."""

    def __init__(self, *recordings: str, proc: Path = Path("/nonexistent")) -> None:
        wrapper = shutil.which("umockdev-wrapper")
        assert wrapper, "umockdev is missing: run ./setup.sh"
        self._process = subprocess.Popen(
            [wrapper, sys.executable, "-m", "tests.unit.mocked_board"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )
        for recording in recordings:
            self.add(recording)
        self._do("listen", proc)

    def add(self, recording: str) -> None:
        """Add devices without a uevent, as if they had been there before."""
        self._do("add", recording)

    def plug(self, recording: str) -> None:
        """Add devices, each with its uevent."""
        self._do("add", recording)
        for line in recording.splitlines():
            if line.startswith("P: "):
                self.uevent(line.removeprefix("P: "), "add")

    def unplug(self, path: str) -> None:
        """Remove a device, with its uevent."""
        self.uevent(path, "remove")
        self._do("remove", path)

    def uevent(self, path: str, action: str, times: int = 1) -> None:
        self._do("uevent", path, action, times)

    def change(self, path: str, attribute: str, value: str) -> None:
        self._do("change", path, attribute, value)

    def drain(self, timeout_s: float = 0.0) -> frozenset[str] | None:
        """Drain the monitor; None if its descriptor did not get readable in time."""
        result: frozenset[str] | None = self._do("drain", timeout_s)
        return result

    def disks(self, own: Collection[UsbIdentity] = ()) -> dict[str, Found]:
        found: tuple[Found, ...] = self._do("disks", own)
        names = [one.disk.name for one in found]
        assert len(names) == len(set(names))
        return {one.disk.name: one for one in found}

    def pending(self) -> tuple[Pending, ...]:
        result: tuple[Pending, ...] = self._do("pending")
        return result

    def health(self, name: str) -> Health | None:
        """What the eMMC with this kernel name tells of itself."""
        result: Health | None = self._do("health", name)
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def _do(self, *request: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        answer = pickle.load(self._process.stdout)
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Error(ctypes.Structure):
    """GLib's GError."""

    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


class Worker:
    """The other end."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libumockdev.so.0")
        library.umockdev_testbed_new.restype = ctypes.c_void_p
        self._library = library
        self._testbed = ctypes.c_void_p(library.umockdev_testbed_new())

    def add(self, recording: str) -> None:
        error = ctypes.POINTER(_Error)()
        good = self._library.umockdev_testbed_add_from_string(
            self._testbed, recording.encode(), ctypes.byref(error)
        )
        if not good:
            raise ValueError(error.contents.message.decode())

    def remove(self, path: str) -> None:
        self._library.umockdev_testbed_remove_device(self._testbed, f"/sys{path}".encode())

    def uevent(self, path: str, action: str, times: int) -> None:
        for _ in range(times):
            self._library.umockdev_testbed_uevent(
                self._testbed, f"/sys{path}".encode(), action.encode()
            )

    def change(self, path: str, attribute: str, value: str) -> None:
        self._library.umockdev_testbed_set_attribute(
            self._testbed, f"/sys{path}".encode(), attribute.encode(), value.encode()
        )

    def close(self) -> None:
        """Let go of the testbed, whose directory goes with it."""
        ctypes.CDLL("libgobject-2.0.so.0").g_object_unref(self._testbed)

    def listen(self, proc: Path) -> None:
        self.scan = BlockScan(proc)
        self.scan.listen()

    def drain(self, timeout_s: float) -> frozenset[str] | None:
        poll = select.poll()
        poll.register(self.scan.fileno(), select.POLLIN)
        return self.scan.drain() if poll.poll(timeout_s * 1000) else None

    def disks(self, own: Collection[UsbIdentity]) -> tuple[Found, ...]:
        return self.scan.disks(own)

    def pending(self) -> tuple[Pending, ...]:
        return self.scan.pending()

    def health(self, name: str) -> Health | None:
        return read_emmc(next(each.disk for each in self.scan.disks() if each.disk.name == name))


def main() -> None:
    # What umockdev prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker()
    while True:
        try:
            name, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:  # the test has ended, or was killed
            worker.close()
            return
        try:
            answer = getattr(worker, name)(*arguments)
        except Exception as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
