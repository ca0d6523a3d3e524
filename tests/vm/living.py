"""What the tests of living with a host share: traffic, ejecting, what the host's kernel said."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator import HostBlock
from tests.vm import hostside
from tests.vm.board import WAIT_S, Board, until

MIB = 1 << 20
HOSTSIDE = "/usr/lib/hostside.py"
PYTHON = "python3 -S -I"
FILES = {HOSTSIDE: Path(hostside.__file__)}
"""For MachineOptions.files: what the functions here need on the board."""

_numbers = itertools.count(1)


def bad_disk(image: Path, size_bytes: int, fails: str, at: int) -> tuple[str, ...]:
    """QEMU's options for an NVMe disk that fails to "read" or "write" the sector at byte `at`."""
    image.touch()
    os.truncate(image, size_bytes)
    error = f"event=none,iotype={fails},errno=5,once=off,sector={at // 512}"
    inject = ",".join(f"file.inject-error.0.{option}" for option in error.split(","))
    node = f"driver=raw,node-name=bad,file.driver=blkdebug,file.image.driver=file,{inject}"
    return (
        *("-blockdev", f"{node},file.image.filename={image}"),
        *("-device", "pcie-root-port,id=badport,chassis=50,slot=50"),
        *("-device", "nvme,id=badnvme,bus=badport,drive=bad,serial=BAD1"),
    )


@dataclass
class Traffic:
    """The host writes, reads back and compares, in the background."""

    board: Board
    block: HostBlock
    first: int
    """The first chunk it writes to."""
    count: int = 128
    result: dict[str, Any] = field(default_factory=dict)
    _stop: str = field(default_factory=lambda: f"/tmp/traffic-{next(_numbers)}")

    def begin(self) -> None:
        """Return once it has written and read."""
        arguments = f"{self.block.device} {self.first} {self.count} {self._stop}"
        command = f"{PYTHON} {HOSTSIDE} traffic {arguments} >{self._stop}.said 2>&1 &"
        self.board.host.check(command)
        until("the host writes", lambda: self.board.host.run(f"ls {self._stop}.begun")[0] == 0)

    def progress(self) -> int:
        """Bytes that the host's kernel has written to the disk so far."""
        fields = self.board.host.check(f"cat /sys/block/{self.block.name}/stat").split()
        return int(fields[6]) * 512

    def end(self) -> dict[str, Any]:
        """Stop it, let it flush, and return what it counted."""
        self.board.host.check(f"touch {self._stop}")

        def said() -> str:
            return self.board.host.check(f"cat {self._stop}.said").strip()

        text = until("the host stops writing", said)
        assert text.startswith("{"), text
        self.result = json.loads(text)
        return self.result

    def wrong_on_medium(self, image: Path) -> list[int]:
        """The chunks of which the image file has not what the host wrote last."""
        wrong = []
        with image.open("rb") as file:
            for number, generation in enumerate(self.result["generations"], self.first):
                file.seek(number * hostside.CHUNK)
                found = file.read(hostside.CHUNK)
                unknown = not generation or number in self.result["failed"]
                if not unknown and found != hostside.chunk(number, generation):
                    wrong.append(number)
        return wrong


@contextmanager
def traffic(board: Board, block: HostBlock, first: int = 16, count: int = 128) -> Iterator[Traffic]:
    """Have the host write, read and compare meanwhile; at the end no byte may have been wrong."""
    running = Traffic(board, block, first, count)
    running.begin()
    try:
        yield running
    finally:
        result = running.end()
    assert result["errors"] == []
    assert result["generations"][0] >= 1
    assert result["reads"] >= 2


@dataclass(frozen=True)
class Chunks:
    """Bytes that the host writes to a disk: some chunks, each unlike all others."""

    first: int
    count: int
    generation: int = 1

    @property
    def offset(self) -> int:
        """Where they begin on the disk, in bytes."""
        return self.first * hostside.CHUNK

    @property
    def data(self) -> bytes:
        """All of them."""
        numbers = range(self.first, self.first + self.count)
        return b"".join(hostside.chunk(number, self.generation) for number in numbers)

    def are_in(self, image: Path) -> bool:
        """Whether an image file has them where they belong."""
        with image.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.count * hostside.CHUNK) == self.data


def host_does(board: Board, *steps: str) -> str:
    """Have the host do steps of hostside.py, and return what they say."""
    return board.host.check(f"{PYTHON} {HOSTSIDE} {' then '.join(steps)}", WAIT_S)


def write(block: HostBlock, chunks: Chunks) -> str:
    """Step: the host writes past its own cache, and nothing is flushed."""
    return f"write {block.device} {chunks.first} {chunks.count} {chunks.generation}"


def eject(block: HostBlock) -> str:
    """Step: the host ejects a disk, as eject(1) does."""
    return f"eject {block.device}"


def drop(block: HostBlock) -> str:
    """Step: the host ejects a disk without having the gadget flush it."""
    return f"drop {block.device}"


def host_locks(board: Board, block: HostBlock) -> int:
    """The host opens a disk, which locks it; returns the process that holds it open."""
    pid = board.host.check(f"sleep 10000 <{block.device} >/dev/null 2>&1 & echo $!")
    return int(pid)


def host_size(board: Board, block: HostBlock) -> int:
    """Size in bytes of the medium that the host finds in a drive; 0 for none."""
    status, said = board.host.run(f"blockdev --getsize64 {block.device}")
    return int(said) if status == 0 else 0


def expect_host_size(board: Board, block: HostBlock, size_bytes: int) -> None:
    """Wait until the host finds a medium of this size, or none for 0."""
    until(f"{size_bytes} B in {block.name}", lambda: host_size(board, block) == size_bytes, WAIT_S)


def mark(board: Board) -> str:
    """Mark a place in the kernel's log, for `kernel_said`."""
    text = f"tests: mark {next(_numbers)}."
    board.host.check(f"echo '{text}' >/dev/kmsg")
    return text


def kernel_said(board: Board, since: str) -> str:
    """What the kernel, the board's and the host's, has logged since a mark."""
    said = board.host.check("dmesg")
    assert since in said, "the kernel's log has run over"
    return said.rpartition(since)[2]


def assert_host_undisturbed(board: Board, since: str) -> None:
    """The host has not lost, reset or set up anew the device, and had no I/O error."""
    said = kernel_said(board, since)
    for word in ("USB disconnect", "new high-speed USB device", "reset high-speed", "I/O error"):
        assert word not in said, said


def lives(board: Board, since: int, lun: int) -> list[str]:
    """What the UART has said that a LUN was doing, apart from reading: hosts look when they like.

    A word that stands there twice in succession, with a read in between, is given once.
    """
    said = [e for e in board.events(since) if e["event"] == "lun" and e["lun"] == lun]
    told = [str(e["life"]) for e in said if e["life"] not in ("reading", "idle")]
    return [word for word, before in zip(told, ["", *told], strict=False) if word != before]


@contextmanager
def no_daemon(board: Board, signal: str = "TERM") -> Iterator[None]:
    """End the daemon with a signal and have init find no other meanwhile."""
    pid = board.daemon()
    board.inside.check("mv /usr/bin/gadgetd /usr/bin/gadgetd.away")
    try:
        board.inside.check(f"kill -{signal} {pid}")
        until("the daemon ends", lambda: board.inside.run(f"kill -0 {pid}")[0] != 0)
        yield
    finally:
        since = board.uart.line.position
        board.inside.check("mv /usr/bin/gadgetd.away /usr/bin/gadgetd")
        board.expect_phase("exported", since)


def life(board: Board, lun: int) -> str:
    """What `gadgetd status` says that a LUN is doing."""
    rows = {row["lun"]: row for row in board.status()["disks"]}
    return str(rows[lun]["life"])


def expect_life(board: Board, lun: int, *lives: str) -> str:
    """Wait until a LUN is doing one of these, and return which."""
    found = ""

    def there() -> bool:
        nonlocal found
        found = life(board, lun)
        return found in lives

    until(f"LUN {lun} is {' or '.join(lives)}", there)
    return found
