"""`gadgetd erase`: which disk it takes, what it asks, what it says."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from gadgetd.cli import FAILED, OK, main
from gadgetd.control import client, erasure, server
from gadgetd.disks.disk import Disk, Found, Kind
from gadgetd.disks.erase import Erased
from gadgetd.errors import ControlError, GadgetdError
from gadgetd.status import Phase, Status
from tests.unit.control.test_client import FakeDaemon
from tests.unit.statuses import left_out, nvme, status

Output = pytest.CaptureFixture[str]
DISK = Disk("nvme0n1", Kind.NVME, Path("/dev/nvme0n1"), 107_374_182, model="QEMU NVMe Ctrl")
MOUNTED = DISK._replace(name="nvme1n1")
LOCKED = DISK._replace(name="mmcblk0", read_only=True)


class Board:
    """The disks that are there; `erased` are those that were."""

    def __init__(self) -> None:
        self.found = [Found(DISK), Found(MOUNTED, "mounted at /mnt"), Found(LOCKED)]
        self.erased: list[Disk] = []

    def erase(self, disk: Disk, _progress: Callable[[int, int], None]) -> Erased:
        self.erased.append(disk)
        return Erased(False, 0.25, "zeros")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    def no_daemon(*_: object, **__: object) -> None:
        raise ControlError("gadgetd is not running")

    board = Board()
    monkeypatch.setattr(server, "ask", no_daemon)
    monkeypatch.setattr(client, "look", lambda _: tuple(board.found))
    monkeypatch.setattr(erasure, "erase", board.erase)
    return board


def daemon_says(monkeypatch: pytest.MonkeyPatch, now: Status) -> None:
    daemon = FakeDaemon()
    daemon.statuses = [now]
    monkeypatch.setattr(server, "ask", daemon.ask)


def test_a_disk_is_erased_once_its_name_was_typed_again(
    board: Board, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("nvme0n1\n"))
    assert main(["erase", "/dev/nvme0n1"]) == OK
    assert board.erased == [DISK]
    said = capsys.readouterr().out
    assert "This erases nvme0n1, all of it: NVMe QEMU NVMe Ctrl, 107 MB." in said
    assert "nvme0n1: 107 MB discarded in 0.2 s; its first and last MiB read as zeros now." in said
    assert "no proof that the data is gone" in said


@pytest.mark.parametrize("typed", ["", "y\n", "yes\n", "nvme0\n", "mmcblk0\n"])
def test_anything_else_changes_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch, capsys: Output, typed: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["erase", "nvme0n1"]) == FAILED
    assert board.erased == []
    assert "nothing was changed" in capsys.readouterr().err


def test_yes_asks_nothing(board: Board, capsys: Output) -> None:
    assert main(["erase", "--yes", "nvme0n1"]) == OK
    assert board.erased == [DISK]
    assert "To go on" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nvme1n1", "mounted at /mnt"),
        ("mmcblk0", "read-only"),
        ("sdz", "no disk is called 'sdz'"),
        ("nvme0n1p1", "no disk is called"),
        ("0", "no disk is called"),
    ],
)
def test_what_is_in_use_locked_or_not_there_is_not_erased(
    board: Board, capsys: Output, name: str, why: str
) -> None:
    assert main(["erase", "--yes", name]) == FAILED
    assert board.erased == []
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        nvme(0),
        nvme(0)._replace(lun=None, waits=True),
    ],
    ids=["exported", "about to be"],
)
def test_a_disk_that_a_host_may_have_is_not_erased(
    board: Board, monkeypatch: pytest.MonkeyPatch, row: object
) -> None:
    daemon_says(monkeypatch, status(row))  # type: ignore[arg-type]
    with pytest.raises(GadgetdError, match="it is exported") as caught:
        erasure.run("nvme0n1", confirmed=True)
    assert "gadgetd stop" in caught.value.hint
    assert board.erased == []


def test_a_disk_that_is_left_out_or_of_a_daemon_that_is_stopped_is_erased(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon_says(monkeypatch, status(left_out("nvme0n1", "excluded")))
    erasure.run("nvme0n1", confirmed=True)
    daemon_says(monkeypatch, status(phase=Phase.STOPPED))
    erasure.run("nvme0n1", confirmed=True)
    assert len(board.erased) == 2


def test_what_was_erased_securely_or_can_still_be_read_is_said() -> None:
    assert "securely discarded" in erasure.said(DISK, Erased(True, 1.0, "ones"))[0]
    assert "can still be read" in erasure.said(DISK, Erased(False, 1.0, "data"))[0]
