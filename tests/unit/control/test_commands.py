"""What the daemon answers to the shell's commands."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from gadgetd.control.commands import Commands
from gadgetd.daemon import Daemon
from gadgetd.errors import ControlError, GadgetError
from gadgetd.export.drive import QUIET_S
from gadgetd.status import Phase
from tests.unit.fakes import CONTROLLER, MIB, Bench, lives


class Shell:
    """Commands to a daemon on a bench."""

    def __init__(self, bench: Bench, *names: str) -> None:
        for name in names:
            bench.add(name)
        self.bench = bench
        self.daemon: Daemon = bench.daemon()
        self.commands = Commands(self.daemon, bench.panel.log)
        self.replies: list[dict[str, Any]] = []

    def __call__(self, command: str, **fields: object) -> dict[str, Any] | None:
        """Give the reply, as JSON would carry it; None if there is none yet."""
        count = len(self.replies)
        self.commands.handle(
            {"command": command, **fields},
            lambda reply: self.replies.append(json.loads(json.dumps(reply))),
        )
        self.bench.loop.settle()
        return self.replies[-1] if len(self.replies) > count else None


def reply(value: dict[str, Any] | None) -> dict[str, Any]:
    assert value is not None
    return value


def test_status_tells_all_there_is(bench: Bench) -> None:
    status = reply(Shell(bench, "mmcblk0")("status"))["status"]
    assert status["phase"] == "exported"
    assert status["controller"]["name"] == CONTROLLER
    assert [row["name"] for row in status["disks"]] == ["mmcblk0"]


def test_log_gives_the_lines_so_far(bench: Bench) -> None:
    assert reply(Shell(bench, "mmcblk0")("log"))["lines"][-1] == "1 disk exported"


@pytest.mark.parametrize("command", ["", "format", None, 7, ["stop"], {"a": 1}])
def test_an_unknown_command_is_refused_with_those_that_are_known(
    bench: Bench, command: Any
) -> None:
    with pytest.raises(ControlError, match="unknown command") as caught:
        Shell(bench)(command)
    assert "status" in caught.value.hint


@pytest.mark.parametrize("disk", ["0", "mmcblk0", 0])
def test_a_disk_is_ejected_by_lun_or_name(bench: Bench, disk: object) -> None:
    shell = Shell(bench, "mmcblk0", "nvme0n1")
    assert reply(shell("eject", disk=disk)) == {"ok": True}
    assert bench.files() == {0: "", 1: "nvme0n1"}


@pytest.mark.parametrize("disk", ["1", "mmcblk", "", "-1", None])
def test_a_disk_that_there_is_not_is_refused_with_those_that_there_are(
    bench: Bench, disk: object
) -> None:
    shell = Shell(bench, "mmcblk0")
    for command in ("eject", "insert"):
        with pytest.raises(ControlError, match="no disk is called") as caught:
            shell(command, disk=disk)
        assert caught.value.hint == "exported: 0 (mmcblk0)"


def test_a_locked_medium_is_refused_and_forced(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.lun(0).locked = True
    with pytest.raises(GadgetError, match="the host has locked the medium") as caught:
        shell("eject", disk="mmcblk0")
    assert "--force" in caught.value.hint
    assert reply(shell("eject", disk="mmcblk0", force=True)) == {"ok": True, "torn": True}


def test_what_is_out_already_cannot_be_ejected(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    shell("eject", disk="mmcblk0")
    with pytest.raises(ControlError, match="mmcblk0 is not with the host: ejected"):
        shell("eject", disk="mmcblk0")


def test_an_ejected_disk_is_inserted_and_one_that_is_there_is_not(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    with pytest.raises(ControlError, match="cannot be inserted: it was not ejected"):
        shell("insert", disk="mmcblk0")
    shell("eject", disk="mmcblk0")
    assert reply(shell("insert", disk="mmcblk0")) == {"ok": True}
    assert bench.files() == {0: "mmcblk0"}


def test_a_disk_is_not_inserted_before_it_is_flushed(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = None
    shell("eject", disk="mmcblk0")
    with pytest.raises(ControlError) as caught:
        shell("insert", disk="mmcblk0")
    assert caught.value.hint == "wait for the flush"


def test_a_disk_that_failed_is_out_of_its_lun_and_can_be_inserted(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    bench.traffic("mmcblk0", written=MIB)
    bench.loop.run_for(QUIET_S + 1)
    assert lives(shell.daemon) == {"mmcblk0": "write error"}
    assert bench.files() == {0: ""}
    assert reply(shell("insert", disk="mmcblk0")) == {"ok": True}
    assert bench.files() == {0: "mmcblk0"}


def test_a_disk_that_waits_for_its_lun_is_neither_ejected_nor_inserted(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.traffic("mmcblk0", read=MIB)
    bench.loop.run_for(1)
    bench.add("nvme0n1")
    bench.loop.settle()
    assert bench.files() == {0: "mmcblk0"}
    with pytest.raises(ControlError, match="nvme0n1 is not with the host"):
        shell("eject", disk="nvme0n1")
    with pytest.raises(ControlError, match="cannot be inserted"):
        shell("insert", disk="nvme0n1")


def test_a_disk_that_failed_is_inserted_on_demand(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    shell("eject", disk="mmcblk0")
    assert lives(shell.daemon) == {"mmcblk0": "write error"}
    assert reply(shell("insert", disk="0")) == {"ok": True}
    assert bench.files() == {0: "mmcblk0"}
    assert lives(shell.daemon) == {"mmcblk0": "idle"}


def test_a_name_means_the_disk_that_is_there_and_not_one_that_left(bench: Bench) -> None:
    # Both were called sda, in two sockets, and LUN 0 waits for the first.
    bench.configure("disks: [{kind: usb}]\n")
    shell = Shell(bench, "sda")
    bench.remove("sda")
    bench.loop.settle()
    bench.add("sda", serial="another", location="elsewhere")
    bench.loop.settle()
    assert bench.files() == {0: "", 1: "sda"}
    assert reply(shell("eject", disk="sda")) == {"ok": True}
    assert bench.files() == {0: "", 1: ""}
    with pytest.raises(ControlError, match="is not with the host: gone"):
        shell("eject", disk="0")


def test_a_stop_replies_once_all_is_flushed_and_gone(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = None
    assert shell("stop") is None
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert shell.replies == [{"ok": True, "safe": False, "flushed": True}]
    assert bench.tree == []


def test_a_stop_that_lost_data_says_so(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = errno.EIO
    assert reply(shell("stop")) == {"ok": True, "safe": False, "flushed": False}


def test_what_is_stopped_cannot_be_stopped_again(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    shell("stop")
    with pytest.raises(ControlError, match="stopped already"):
        shell("stop")


def test_a_stop_during_a_stop_joins_it(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = None
    assert shell("stop") is None
    assert shell("stop") is None
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert shell.replies == [{"ok": True, "safe": False, "flushed": True}] * 2


def test_a_start_during_a_stop_is_refused_and_the_stop_still_replies(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = None
    shell("stop")
    with pytest.raises(ControlError, match="still stopping"):
        shell("start")
    bench.flushes[-1].finish()
    bench.loop.settle()
    assert shell.replies == [{"ok": True, "safe": False, "flushed": True}]


def test_a_start_exports_again(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    with pytest.raises(ControlError, match="it is not stopped"):
        shell("start")
    shell("stop")
    assert reply(shell("start"))["status"]["phase"] == "exported"
    assert bench.files() == {0: "mmcblk0"}


def test_a_reload_tells_what_came_of_it(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.configure("slot: 2\n")
    status = reply(shell("reload"))["status"]
    assert status["advice"][0]["key"] == "slot"
    assert status["phase"] == Phase.EXPORTED


@pytest.mark.parametrize("text", ["disks: []\n", "exclude: [{kind: nvme}]\n"])
def test_a_reload_replies_once_what_is_excluded_now_is_flushed_and_let_go(
    bench: Bench, text: str
) -> None:
    shell = Shell(bench, "mmcblk0", "nvme0n1")
    bench.flush_result = None
    bench.configure(text)
    assert shell("reload") is None
    while any(not flush.over for flush in bench.flushes):
        assert shell.replies == []
        next(flush for flush in bench.flushes if not flush.over).finish()
        bench.loop.settle()
    (answer,) = shell.replies
    exported = [row["name"] for row in answer["status"]["disks"] if row["lun"] is not None]
    assert exported == ([] if text.startswith("disks") else ["mmcblk0"])


def test_a_stop_meanwhile_answers_a_reload_too(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    bench.flush_result = None
    bench.configure("disks: []\n")
    assert shell("reload") is None
    assert shell("stop") is None
    bench.flush_result = 0
    for flush in bench.flushes:
        flush.finish()
    bench.loop.settle()
    assert len(shell.replies) == 2


def test_after_a_start_with_a_wrong_file_the_corrected_one_is_used_by_another_start(
    bench: Bench,
) -> None:
    shell = Shell(bench, "mmcblk0")
    shell("stop")
    bench.configure("slot: 2\n")
    status = reply(shell("start"))["status"]
    assert status["phase"] == Phase.CONFIG_ERROR
    assert status["problem"]["hint"].endswith("to use it: gadgetd reload")
    bench.configure("slots: 2\n")
    assert reply(shell("start"))["status"]["phase"] == Phase.EXPORTED


def test_a_disk_can_be_named_as_hash_prints_it(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    for wrong in ("/dev/0", "/dev//dev/mmcblk0", "dev/mmcblk0", ""):
        with pytest.raises(ControlError, match="no disk is called"):
            shell("eject", disk=wrong)
    assert reply(shell("eject", disk="/dev/mmcblk0")) == {"ok": True}


def test_while_stopped_a_command_about_a_disk_hears_that(bench: Bench) -> None:
    shell = Shell(bench, "mmcblk0")
    shell("stop")
    with pytest.raises(ControlError, match="stopped: all that arrived is on the disks"):
        shell("eject", disk="0")


@pytest.mark.parametrize("fields", [{}, {"pid": "x"}, {"pid": None}, {"pid": -1}, {"pid": 1 << 40}])
def test_a_hash_by_no_process_is_refused(bench: Bench, fields: dict[str, object]) -> None:
    shell = Shell(bench, "mmcblk0")
    with pytest.raises(ControlError, match="no such process"):
        shell("hash", disk="0", **fields)
    assert shell.daemon.drives[0].board_readers == 0
