"""A disk that does not answer: nobody waits for it, and what was asked of it is done when it does.

The fake kernel fails the test if the daemon would wait, for a thread or behind a write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gadgetd.control.commands import Commands
from gadgetd.daemon import Daemon
from gadgetd.export.by_hand import EJECT_S
from gadgetd.export.drive import Drive
from gadgetd.export.drives import PATIENCE_S, TICK_S
from gadgetd.export.ending import LIMIT_S
from gadgetd.export.reconnect import LET_GO_S
from gadgetd.status import Phase
from tests.unit.fakes import CONTROLLER, Bench, lives
from tests.unit.test_daemon import advice, boot, hints, host_ejects, host_writes, of, problem

READ_ONLY = "disks:\n  - kind: emmc\n  - kind: nvme\n    read_only: true\n"
WITHOUT_NVME = "disks:\n  - kind: emmc\n"


@pytest.fixture
def daemon(bench: Bench) -> Daemon:
    """Start with two disks and a host that has used them."""
    return boot(bench, "mmcblk0", "nvme0n1")


def ask(bench: Bench, daemon: Daemon, command: str, **fields: Any) -> list[dict[str, Any]]:
    """Give a command; the answers come into what is returned."""
    answers: list[dict[str, Any]] = []
    Commands(daemon, bench.panel.log).handle({"command": command, **fields}, answers.append)
    return answers


def hang(bench: Bench) -> None:
    """Have a command of the host's not come to its end."""
    bench.kernel.thread_busy = True


def nvme(daemon: Daemon) -> Drive:
    return of(daemon, "nvme0n1")


class TestAnEject:
    def test_is_answered_when_the_command_ends(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        answers = ask(bench, daemon, "eject", disk="nvme0n1")
        bench.loop.run_for(EJECT_S / 2)
        assert answers == []
        assert nvme(daemon).inserted
        bench.kernel.thread_goes_on()
        bench.loop.settle()
        assert answers == [{"ok": True}]
        assert bench.files() == {0: "mmcblk0", 1: ""}
        assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "ejected"}

    def test_that_is_not_answered_is_told_and_done_all_the_same(
        self, bench: Bench, daemon: Daemon
    ) -> None:
        host_ejects(bench, 0)
        bench.loop.run_for(5)
        hang(bench)
        answers = ask(bench, daemon, "eject", disk="nvme0n1")
        bench.loop.run_for(EJECT_S + 1)
        words = "nvme0n1 does not answer: a command of the host's has not come to its end"
        assert [each["error"] for each in answers] == [words]
        assert "does not answer" in advice(daemon)
        assert not daemon.status.safe_to_unplug
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert lives(daemon) == {"mmcblk0": "ejected", "nvme0n1": "ejected"}
        assert "does not answer" not in advice(daemon)
        assert len(answers) == 1

    def test_is_no_eject_of_the_hosts(self, bench: Bench, daemon: Daemon) -> None:
        bench.configure("disks:\n  - kind: nvme\n    on_ejected: reinsert\nreinsert_after_s: 1\n")
        daemon.reload()
        bench.loop.run_for(LIMIT_S)
        hang(bench)
        ask(bench, daemon, "eject", disk="nvme0n1")
        bench.loop.run_for(1)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(30)
        assert not nvme(daemon).ejected_by_host
        assert lives(daemon)["nvme0n1"] == "ejected"

    def test_that_the_host_has_kept_from_it_meanwhile_is_told(
        self, bench: Bench, daemon: Daemon
    ) -> None:
        hang(bench)
        answers = ask(bench, daemon, "eject", disk="nvme0n1")
        bench.lun(1).locked = True
        bench.kernel.thread_goes_on()
        bench.loop.settle()
        assert [each["error"] for each in answers] == [
            "nvme0n1 is in use: the host has locked the medium"
        ]
        assert nvme(daemon).inserted
        host_ejects(bench, 1)
        assert nvme(daemon).ejected_by_host

    def test_that_is_asked_for_twice_is_one(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        first = ask(bench, daemon, "eject", disk="nvme0n1")
        second = ask(bench, daemon, "eject", disk="nvme0n1")
        assert len(bench.kernel.behind) == 1
        assert "does not answer" in first[0]["error"]
        bench.kernel.thread_goes_on()
        bench.loop.settle()
        assert second == [{"ok": True}]


class TestADiskThatIsExcluded:
    def test_is_let_go_when_it_answers(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        bench.configure(WITHOUT_NVME)
        answers = ask(bench, daemon, "reload")
        bench.loop.run_for(LIMIT_S / 2)
        assert answers == []
        assert nvme(daemon).hold
        bench.loop.run_for(LIMIT_S)
        assert len(answers) == 1
        assert "does not answer" in str(answers[0]["status"]["advice"])
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert list(lives(daemon)) == ["mmcblk0"]
        assert bench.files() == {0: "mmcblk0", 1: ""}

    def test_and_wanted_again_comes_back(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        bench.configure(WITHOUT_NVME)
        daemon.reload()
        bench.configure("")
        daemon.reload()
        bench.loop.run_for(1)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(10)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        assert "does not answer" not in advice(daemon)
        # It was out for a moment, and nobody could tell whether the host had it open.
        assert nvme(daemon).torn


class TestAChangeOfALun:
    def test_is_carried_out_when_it_answers_and_is_no_eject(
        self, bench: Bench, daemon: Daemon
    ) -> None:
        hang(bench)
        bench.configure(READ_ONLY)
        daemon.reload()
        bench.loop.run_for(PATIENCE_S * 3)
        assert nvme(daemon).inserted
        assert "does not answer" in advice(daemon)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(10)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        assert bench.lun(1).read_only
        assert lives(daemon)["nvme0n1"] == "idle"
        assert "does not answer" not in advice(daemon)


class TestADiskThatLeaves:
    def test_is_gone_at_once(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        bench.remove("nvme0n1")
        bench.loop.settle()
        assert lives(daemon)["nvme0n1"] == "gone"
        assert daemon.status.phase is Phase.EXPORTED
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert bench.files() == {0: "mmcblk0", 1: ""}


class TestWhatDisconnectsTheHost:
    def test_is_not_begun_as_long_as_a_thread_would_keep_it_from_its_end(
        self, bench: Bench, daemon: Daemon
    ) -> None:
        bench.host_lets_go()
        hang(bench)
        bus = list(bench.kernel.bus)
        bench.add("nvme1n1")
        bench.loop.run_for(LET_GO_S * 2)
        answers = ask(bench, daemon, "attach", confirmed=True) if _waits(daemon) else []
        bench.loop.run_for(1)
        assert bench.kernel.bus == bus
        assert not any("error" in each for each in answers)
        assert "does not answer" in advice(daemon)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(LET_GO_S * 2)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1", 2: "nvme1n1"}

    def test_a_controller_that_leaves(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        bench.remove_udc(CONTROLLER)
        bench.loop.run_for(10)
        assert "a disk does not answer" in problem(daemon).message
        bench.kernel.thread_goes_on()
        bench.loop.run_for(10)
        assert daemon.status.phase is Phase.WAITING_FOR_UDC


def _waits(daemon: Daemon) -> bool:
    return "a change waits until" in advice(daemon)


class TestAStop:
    def test_is_answered_and_goes_on_by_itself(self, bench: Bench, daemon: Daemon) -> None:
        host_writes(bench, "nvme0n1")
        hang(bench)
        answers = ask(bench, daemon, "stop")
        bench.loop.run_for(LIMIT_S - 1)
        assert answers == []
        assert daemon.status.message == "stopping: flushing the disks, do not unplug"
        bench.loop.run_for(2)
        words = "stopping: a disk does not answer, do not unplug"
        assert [each["refused"] for each in answers] == [words]
        assert daemon.status.message == words
        assert not answers[0]["safe"]
        assert not answers[0]["flushed"]
        flushes = len(bench.flushes)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        # What arrived while the first were under way takes others.
        assert len(bench.flushes) == flushes + 2
        assert bench.tree == []
        assert daemon.drives == []
        assert not daemon.status.safe_to_unplug
        assert daemon.status.problem is None
        assert len(answers) == 1

    def test_can_be_repeated_meanwhile(self, bench: Bench, daemon: Daemon) -> None:
        hang(bench)
        first = ask(bench, daemon, "stop")
        bench.loop.run_for(LIMIT_S + 1)
        second = ask(bench, daemon, "stop")
        bench.loop.run_for(1)
        assert (len(first), len(second)) == (1, 0)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert second[0]["flushed"]
        assert not second[0]["safe"]
        assert bench.tree == []

    @pytest.mark.parametrize("before", ["eject", "reload"])
    def test_behind_another_write_ends_when_both_are_over(
        self, bench: Bench, daemon: Daemon, before: str
    ) -> None:
        hang(bench)
        bench.configure(WITHOUT_NVME)
        ask(bench, daemon, before, disk="nvme0n1")
        answers = ask(bench, daemon, "stop")
        assert len(bench.kernel.behind) > 1
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert answers[0]["flushed"]
        assert bench.tree == []

    def test_and_the_daemon_that_comes_after_it_waits_for_no_answer(
        self, bench: Bench, daemon: Daemon
    ) -> None:
        hang(bench)
        ended: list[bool] = []
        daemon.stop(lambda: ended.append(True))
        bench.loop.run_for(LIMIT_S + 1)
        assert ended == [True]
        daemon = bench.daemon()
        bench.loop.run_for(PATIENCE_S * 3)
        assert "the disk does not answer" in problem(daemon).message
        assert not daemon.status.safe_to_unplug
        bench.kernel.thread_goes_on()
        bench.loop.run_for(10)
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1"}
        assert daemon.status.problem is None


@pytest.mark.parametrize(
    "begin",
    [
        lambda daemon: daemon.by_hand.eject(nvme(daemon), force=False),
        lambda daemon: daemon.by_hand.eject(nvme(daemon), force=True),
        lambda daemon: daemon.reload(),
        lambda daemon: daemon.stop(lambda: None),
    ],
)
def test_a_daemon_that_is_killed_meanwhile_leaves_no_word_that_is_not_true(
    bench: Bench, daemon: Daemon, begin: Callable[[Daemon], None]
) -> None:
    host_ejects(bench, 0)
    bench.loop.run_for(5)
    host_writes(bench, "nvme0n1")
    bench.configure(WITHOUT_NVME)
    hang(bench)
    bench.flush_result = None
    begin(daemon)
    bench.loop.run_for(TICK_S * 3)
    daemon = bench.daemon()
    bench.loop.run_for(TICK_S * 3)
    assert not daemon.status.safe_to_unplug


def test_an_unbind_that_is_late_is_no_refusal(
    bench: Bench, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.host_lets_go()
    busy = bench.kernel._is_busy

    def slow(path: Path) -> bool:
        """The threads answer, and the board is slow to unbind them."""
        return (path.name == "UDC" and bool(bench.bound)) or busy(path)

    monkeypatch.setattr(bench.kernel, "_is_busy", slow)
    bench.add("nvme1n1")
    bench.loop.run_for(LET_GO_S + 10)
    assert bench.kernel.behind
    assert "gadgetd reload" not in hints(daemon)
    bench.kernel.thread_goes_on()
    bench.loop.run_for(1)
    assert bench.files() == {0: "mmcblk0", 1: "nvme0n1", 2: "nvme1n1"}
    assert daemon.status.problem is None


class TestTheOthers:
    """Each has a function of its own, and that of the NVMe disk is busy."""

    @pytest.fixture
    def daemon(self, bench: Bench) -> Daemon:
        bench.configure("slots: 1\n")
        daemon = boot(bench, "mmcblk0", "nvme0n1")
        bench.kernel.busy_functions = {"mass_storage.1"}
        ask(bench, daemon, "eject", disk="nvme0n1")
        assert bench.kernel.behind
        return daemon

    def test_are_ejected_and_inserted(self, bench: Bench, daemon: Daemon) -> None:
        answers = ask(bench, daemon, "eject", disk="mmcblk0")
        bench.loop.settle()
        assert answers == [{"ok": True}]
        assert lives(daemon)["mmcblk0"] == "ejected"
        assert ask(bench, daemon, "insert", disk="mmcblk0") == [{"ok": True}]
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1", 2: ""}

    def test_are_seen_to_be_ejected_by_the_host(self, bench: Bench, daemon: Daemon) -> None:
        host_ejects(bench, 0)
        bench.loop.run_for(5)
        assert lives(daemon)["mmcblk0"] == "ejected"
        assert not daemon.status.safe_to_unplug

    def test_are_changed(self, bench: Bench, daemon: Daemon) -> None:
        bench.configure("slots: 1\ndisks:\n  - kind: emmc\n    read_only: true\n  - kind: nvme\n")
        daemon.reload()
        assert bench.lun(0).read_only
        assert daemon.status.phase is Phase.EXPORTED

    def test_leave(self, bench: Bench, daemon: Daemon) -> None:
        bench.remove("mmcblk0")
        bench.loop.settle()
        assert bench.files() == {0: "", 1: "nvme0n1", 2: ""}
        assert lives(daemon)["mmcblk0"] == "gone"

    @pytest.mark.usefixtures("daemon")
    def test_come_into_a_slot(self, bench: Bench) -> None:
        bench.add("nvme1n1")
        bench.loop.settle()
        assert bench.files() == {0: "mmcblk0", 1: "nvme0n1", 2: "nvme1n1"}

    def test_are_named_in_no_word_about_it(self, bench: Bench, daemon: Daemon) -> None:
        bench.loop.run_for(PATIENCE_S * 2)
        words = "nvme0n1 does not answer: a command of the host's has not come to its end"
        assert words in advice(daemon)
        assert "one of" not in advice(daemon)
        bench.kernel.thread_goes_on()
        bench.loop.run_for(5)
        assert bench.files() == {0: "mmcblk0", 1: "", 2: ""}
        assert lives(daemon) == {"mmcblk0": "idle", "nvme0n1": "ejected"}
