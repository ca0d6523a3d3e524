"""The shell's commands from the client's side, against an answering daemon."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from gadgetd import blockscan
from gadgetd.control import client, server
from gadgetd.disks.disk import Disk, Found, Kind, Verdict
from gadgetd.errors import ConfigError, ControlError, GadgetdError
from gadgetd.status import DiskStatus, Life, Phase, Status, to_json
from gadgetd.usb.gadget import UsbIdentity
from tests.unit.statuses import STATUSES, disk, left_out, nvme, status

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class FakeDaemon:
    """Answers in the daemon's place; `statuses` are given in turn, the last for good."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.statuses: list[Status] = []
        self.on_status: Callable[[], None] = lambda: None

    def ask(
        self, request: dict[str, Any], path: Path = server.SOCKET, timeout_s: float | None = 30.0
    ) -> dict[str, Any]:
        assert path == server.SOCKET
        assert timeout_s is not None
        self.asked.append(request)
        if not self.statuses:
            raise ControlError("gadgetd is not running")
        if request["command"] == "status":
            self.on_status()
            now = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            return {"ok": True, "status": json.loads(json.dumps(to_json(now)))}
        return {"ok": True, "safe": True}


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(server, "ask", fake.ask)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return fake


# Status


@given(STATUSES)
def test_a_status_survives_the_way_over_the_socket(now: Status) -> None:
    text = json.dumps(to_json(now))
    rows = tuple(
        row._replace(
            disk=row.disk._replace(read_only=row.read_only),
            life=row.life if row.lun is not None else Life.WAITING,  # It has none.
        )
        for row in now.disks
    )
    assert client.from_json(json.loads(text)) == now._replace(disks=rows)


def test_a_status_is_drawn_when_it_changes_and_only_then(daemon: FakeDaemon) -> None:
    one, two = status(nvme(0)), status(nvme(0, life=Life.WRITING))
    daemon.statuses = [one, one, two, two, one]
    drawn: list[Life] = []

    def draw(now: Status) -> None:
        drawn.append(now.disks[0].life)
        if len(drawn) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.watch(draw)
    assert drawn == [Life.IDLE, Life.WRITING, Life.IDLE]


# Finding a disk


@pytest.mark.parametrize("wanted", ["1", "nvme1n1", "/dev/nvme1n1"])
def test_a_disk_is_found_by_lun_or_name(wanted: str) -> None:
    assert client.find(status(nvme(0), nvme(1)), wanted).disk.name == "nvme1n1"


@pytest.mark.parametrize("wanted", ["2", "nvme", "sda", "", "None"])
def test_a_disk_that_is_not_exported_is_not_found(wanted: str) -> None:
    with pytest.raises(ControlError, match="no disk is called") as caught:
        client.find(status(nvme(0), left_out("sda")), wanted)
    assert caught.value.hint == "exported: 0 (nvme0n1)"


def test_with_nothing_exported_the_hint_says_so() -> None:
    with pytest.raises(ControlError) as caught:
        client.find(status(), "0")
    assert caught.value.hint == "exported: none"


def test_a_name_means_the_disk_that_is_there_and_not_one_that_left() -> None:
    gone, there = nvme(0, lun=0, life=Life.GONE), nvme(0, lun=1)
    assert client.find(status(gone, there), "nvme0n1").lun == 1


# Scan


def told(verdicts: list[Verdict]) -> list[tuple[str, bool, str]]:
    return [(v.disk.name, v.exported, v.reason) for v in verdicts]


def test_a_scan_asks_the_daemon_that_runs(daemon: FakeDaemon) -> None:
    daemon.statuses = [
        status(
            nvme(0),
            nvme(1, life=Life.GONE),
            left_out("sda", "mounted at /mnt"),
            left_out("sdb", "waits until the host lets go")._replace(waits=True),
        )
    ]
    assert told(client.scan()) == [
        ("nvme0n1", True, "disk 0; exported by default"),
        ("nvme1n1", False, "has left the board; its number 1 waits for it"),
        ("sda", False, "mounted at /mnt"),
        ("sdb", True, "waits until the host lets go"),
    ]


class Board:
    """What a scan of our own finds: names of disks, and which of them are open on the board."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: list[str] = []
        self.open: set[str] = set()
        self.own: set[UsbIdentity] = set()
        monkeypatch.setattr(blockscan, "BlockScan", lambda: self)
        monkeypatch.setattr(client, "in_use", lambda disk: disk.name in self.open)

    def disks(self, own: set[UsbIdentity]) -> tuple[Found, ...]:
        self.own = own
        kinds = {"n": Kind.NVME, "m": Kind.EMMC, "s": Kind.USB}
        return tuple(Found(disk(name, kinds[name[0]])) for name in self.there)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(monkeypatch)


def test_another_file_judges_though_a_daemon_runs(
    daemon: FakeDaemon, board: Board, tmp_path: Path
) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("disks: [{kind: usb}, {kind: nvme}]\nusb: {serial: bench-7}\n")
    daemon.statuses = [status(nvme(0), nvme(1), left_out("sda"))]
    board.there = ["nvme0n1", "nvme1n1", "nvme2n1", "sda", "mmcblk0"]
    # The daemon itself has what it exports open, which is no use of the board's.
    board.open = {"nvme0n1", "nvme1n1", "nvme2n1"}
    assert told(client.scan(path)) == [
        ("mmcblk0", False, "no rule of disks matches"),
        ("nvme0n1", True, f"exported by {path}:1"),
        ("nvme1n1", True, f"exported by {path}:1"),
        ("nvme2n1", False, "in use on the board"),
        ("sda", True, f"exported by {path}:1"),
    ]
    assert {each.serial for each in board.own} == {"bench-7"}


def test_after_a_stop_a_scan_looks_itself(
    daemon: FakeDaemon, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stopped daemon has no verdicts.
    monkeypatch.setattr(client, "CONFIG", tmp_path / "none.yaml")
    daemon.statuses = [status(phase=Phase.STOPPED)]
    board.there = ["nvme0n1"]
    assert told(client.scan()) == [("nvme0n1", True, "exported by the default")]


def test_without_a_daemon_a_scan_looks_itself(
    daemon: FakeDaemon, board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONFIG", tmp_path / "none.yaml")
    board.there, board.open = ["nvme0n1", "nvme1n1"], {"nvme1n1"}
    assert told(client.scan()) == [
        ("nvme0n1", True, "exported by the default"),
        ("nvme1n1", False, "in use on the board"),
    ]
    assert len(daemon.asked) == 1


def test_without_a_daemon_a_wrong_configuration_is_told(daemon: FakeDaemon, tmp_path: Path) -> None:
    path = tmp_path / "gadgetd.yaml"
    path.write_text("nonsense: 1\n")
    with pytest.raises(ConfigError):
        client.scan(path)
    assert len(daemon.asked) == 1


def test_a_scan_has_an_aligned_line_for_each_disk() -> None:
    verdicts = [
        Verdict(disk("mmcblk0"), True, "exported by the default"),
        Verdict(
            Disk("sda", Kind.USB, Path("/dev/sda"), 0, model="evil\x1b[2J\nmodel"),
            False,
            "no medium (size 0)",
        ),
    ]
    lines = client.scan_lines(verdicts)
    assert len(lines) == 2
    assert lines[0].index("exported by") == lines[1].index("no medium")
    assert lines[0].startswith("export  mmcblk0  eMMC")
    assert all(line.isprintable() for line in lines)
    assert client.scan_lines([]) == ["no disk"]


def test_a_verdict_is_plain_json() -> None:
    value = client.verdict_to_json(Verdict(disk("mmcblk0"), True, "why", True, "label"))
    assert json.loads(json.dumps(value)) == value
    assert (value["name"], value["kind"], value["exported"], value["read_only"]) == (
        "mmcblk0",
        "emmc",
        True,
        True,
    )


# Eject


def test_an_eject_is_waited_for_until_it_is_flushed(daemon: FakeDaemon) -> None:
    daemon.statuses = [
        status(nvme(0, life=Life.EJECTING)),
        status(nvme(0, life=Life.EJECTING)),
        status(nvme(0, life=Life.EJECTED)),
    ]
    assert client.wait_for_eject("nvme0n1").life is Life.EJECTED


@pytest.mark.parametrize("life", [Life.FAILED, Life.GONE])
def test_an_eject_that_did_not_end_well_is_not_called_good(daemon: FakeDaemon, life: Life) -> None:
    daemon.statuses = [status(nvme(0, life=Life.EJECTING)), status(nvme(0, life=life))]
    with pytest.raises(GadgetdError, match="nvme0n1"):
        client.wait_for_eject("0")


# Hash


class Medium:
    """A disk's content in a file, its counters in a sysfs, and the daemon's view of it."""

    def __init__(self, path: Path, daemon: FakeDaemon, content: bytes) -> None:
        self.node = path / "nvme0n1"
        self.node.write_bytes(content)
        self.sys = path / "sys"
        (self.sys / "block" / "nvme0n1").mkdir(parents=True)
        self.written(0)
        daemon.statuses = [status(self.row())]

    def row(self, life: Life = Life.IDLE) -> DiskStatus:
        size = self.node.stat().st_size
        return DiskStatus(
            Disk("nvme0n1", Kind.NVME, self.node, size), 0, "exported by default", life=life
        )

    def written(self, sectors: int) -> None:
        (self.sys / "block" / "nvme0n1" / "stat").write_text(f"0 0 0 0 0 0 {sectors} 0 0 0 0\n")


def test_a_hash_is_the_sha256_of_the_whole_disk(daemon: FakeDaemon, tmp_path: Path) -> None:
    content = os.urandom(3 * client.CHUNK_BYTES + 4096)
    medium = Medium(tmp_path, daemon, content)
    progress: list[tuple[int, int]] = []
    hashed, digest = client.sha256(
        "0", lambda done, total: progress.append((done, total)), medium.sys
    )
    assert digest == hashlib.sha256(content).hexdigest()
    assert hashed.node == medium.node
    assert progress[-1] == (len(content), len(content))
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)


def test_a_hash_is_of_the_medium_and_not_of_what_ram_remembers(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    done: list[object] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *advice: done.append(advice))
    client.sha256("0", lambda *_: done.append("read"), medium.sys)
    assert done == [(0, 0, os.POSIX_FADV_DONTNEED), "read"]


@pytest.mark.parametrize("life", [Life.WRITING, Life.FLUSHING, Life.EJECTING])
def test_a_disk_that_the_host_writes_to_is_not_hashed(
    daemon: FakeDaemon, tmp_path: Path, life: Life
) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    daemon.statuses = [status(medium.row(life))]
    with pytest.raises(ControlError, match="is being written to"):
        client.sha256("nvme0n1", lambda *_: None, medium.sys)


def test_a_hash_during_which_the_host_wrote_is_none(daemon: FakeDaemon, tmp_path: Path) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    with pytest.raises(ControlError, match="the host wrote to nvme0n1 meanwhile"):
        client.sha256("nvme0n1", lambda *_: medium.written(8), medium.sys)


def test_what_waits_in_ram_when_the_hash_ends_counts_as_written_meanwhile(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's counters tell of a host's write only when it leaves RAM, a second or two later.
    medium = Medium(tmp_path, daemon, b"x" * 512)
    read: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: medium.written(8 if read else 0))
    with pytest.raises(ControlError, match="the host wrote to nvme0n1 meanwhile"):
        client.sha256("nvme0n1", lambda *_: read.append(1), medium.sys)


def test_what_waits_in_ram_when_the_hash_begins_is_part_of_it(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    monkeypatch.setattr(os, "fsync", lambda _: medium.written(8))
    client.sha256("nvme0n1", lambda *_: None, medium.sys)


def test_a_disk_that_was_swapped_during_the_hash_is_noticed(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    row = medium.row()
    daemon.statuses = [status(row), status(row._replace(disk=row.disk._replace(serial="other")))]
    with pytest.raises(ControlError, match="left the board meanwhile"):
        client.sha256("nvme0n1", lambda *_: None, medium.sys)


def test_a_disk_that_left_during_the_hash_is_noticed(daemon: FakeDaemon, tmp_path: Path) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    daemon.statuses = [status(medium.row()), status(medium.row(Life.GONE))]
    with pytest.raises(ControlError, match="left the board meanwhile"):
        client.sha256("nvme0n1", lambda *_: None, medium.sys)


def test_a_disk_that_left_is_not_hashed(daemon: FakeDaemon, tmp_path: Path) -> None:
    # Its node may belong to another disk by now.
    medium = Medium(tmp_path, daemon, b"x" * 512)
    daemon.statuses = [status(medium.row(Life.GONE))]
    with pytest.raises(ControlError, match="has left the board"):
        client.sha256("0", lambda *_: None, medium.sys)


def test_a_disk_that_cannot_be_read_is_told_with_the_place(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 512)
    medium.node.unlink()
    with pytest.raises(GadgetdError, match="cannot read nvme0n1 at byte 0: No such file"):
        client.sha256("nvme0n1", lambda *_: None, medium.sys)


def test_the_daemon_is_told_who_reads_the_disk(daemon: FakeDaemon, tmp_path: Path) -> None:
    medium = Medium(tmp_path, daemon, b"x" * 4096)
    client.sha256("0", lambda *_: None, medium.sys)
    told = [request for request in daemon.asked if request["command"] == "hash"]
    assert told == [{"command": "hash", "disk": "0", "pid": os.getpid()}]


def test_while_stopped_no_disk_is_looked_for() -> None:
    with pytest.raises(ControlError, match="stopped: nothing"):
        client.find(status(phase=Phase.STOPPED, message="stopped: nothing is exported"), "0")
