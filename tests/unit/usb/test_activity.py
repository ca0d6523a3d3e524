"""Whether the host is busy, from the wake-ups of the kernel's threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from gadgetd.usb.link import POLLING, Activity


class Proc:
    """A /proc with threads and how often they woke."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def thread(self, pid: int, wake_ups: int, name: str = "file-storage") -> None:
        directory = self.path / str(pid)
        directory.mkdir(exist_ok=True)
        (directory / "comm").write_text(f"{name}\n")
        lines = f"Name:\t{name}\nvoluntary_ctxt_switches:\t{wake_ups}\n"
        (directory / "status").write_text(f"{lines}nonvoluntary_ctxt_switches:\t99\n")

    def end(self, pid: int) -> None:
        for file in (self.path / str(pid)).iterdir():
            file.unlink()
        (self.path / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_without_a_gadget_nobody_is_busy(proc: Proc) -> None:
    proc.thread(1, 5000, "init")
    activity = Activity(proc.path)
    activity.look()
    proc.thread(1, 6000, "init")
    assert not activity.busy(2)


def test_a_host_that_reads_or_writes_is_busy(proc: Proc) -> None:
    proc.thread(70, 100)
    activity = Activity(proc.path)
    activity.look()
    proc.thread(70, 101 + 2 * POLLING)
    assert activity.busy(2)
    activity.look()
    assert not activity.busy(2)


def test_a_host_that_asks_for_media_is_not_busy(proc: Proc) -> None:
    proc.thread(70, 100)
    activity = Activity(proc.path)
    activity.look()
    proc.thread(70, 100 + 2 * POLLING)
    assert not activity.busy(2)


def test_the_threads_of_all_functions_count(proc: Proc) -> None:
    proc.thread(70, 100)
    proc.thread(71, 100)
    activity = Activity(proc.path)
    activity.look()
    proc.thread(71, 200)
    assert activity.busy(9)


def test_the_busiest_thread_tells(proc: Proc) -> None:
    # A short read of one disk is not lost among many that are idle, and questions do not add up.
    for pid in range(70, 77):
        proc.thread(pid, 100)
    activity = Activity(proc.path)
    activity.look()
    for pid in range(70, 77):
        proc.thread(pid, 100 + POLLING)
    assert not activity.busy(1)
    assert activity.look() == POLLING
    proc.thread(73, 101 + 2 * POLLING)
    assert activity.busy(1)
    assert activity.look() == POLLING + 1
    assert activity.look() == 0


def test_what_a_thread_did_before_it_was_found_is_no_use_now(proc: Proc) -> None:
    activity = Activity(proc.path)
    activity.look()
    proc.thread(70, 5000)
    assert not activity.busy(1)
    proc.thread(70, 5100)
    assert activity.busy(1)


def test_a_gadget_built_anew_has_new_threads(proc: Proc) -> None:
    proc.thread(70, 5000)
    activity = Activity(proc.path)
    activity.look()
    proc.end(70)
    proc.thread(90, 60)
    assert not activity.busy(1)
    proc.thread(90, 100)
    assert activity.busy(1)
    proc.end(90)
    assert not activity.busy(1)


@pytest.mark.parametrize(("wake_ups", "busy"), [(2, False), (6, False), (7, True), (8, True)])
def test_a_question_for_each_medium_is_no_use_and_one_short_read_more_is(
    proc: Proc, wake_ups: int, busy: bool
) -> None:
    # Measured: a question wakes the thread once, and the shortest read three times.
    proc.thread(70, 100)
    activity = Activity(proc.path)
    activity.look()
    proc.thread(70, 100 + wake_ups)
    assert activity.busy(2) is busy


def test_the_threads_of_a_function_that_was_added_are_found(proc: Proc) -> None:
    proc.thread(70, 100)
    activity = Activity(proc.path)
    activity.look()
    proc.thread(71, 100)
    activity.forget()
    activity.look()
    proc.thread(71, 200)
    assert activity.busy(2)
