"""The poll loop: descriptors, timers, order, and that it sleeps when there is nothing to do."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.eventloop import URGENT, WRITABLE, Alarms, Loop
from tests.unit.fakes import FakeLoop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


@given(st.lists(st.integers(0, 800).map(lambda eighths: eighths / 8), max_size=20))
def test_timers_run_in_the_order_in_which_they_are_due_and_never_early(
    delays: list[float],
) -> None:
    loop = FakeLoop()
    start = loop.clock()
    ran: list[tuple[float, int]] = []
    for number, delay in enumerate(delays):

        def ring(delay: float = delay, number: int = number) -> None:
            assert loop.clock() >= start + delay
            ran.append((delay, number))

        loop.call_later(delay, ring)
    loop.run_for(101)
    assert ran == sorted((delay, number) for number, delay in enumerate(delays))


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=20))
def test_a_timer_that_was_cancelled_never_rings(timers: list[tuple[float, bool]]) -> None:
    loop = FakeLoop()
    rung: list[int] = []
    for number, (delay, cancelled) in enumerate(timers):
        timer = loop.call_later(delay, lambda number=number: rung.append(number))  # type: ignore[misc]
        if cancelled:
            timer.cancel()
    loop.run_for(11)
    assert sorted(rung) == [n for n, (_, cancelled) in enumerate(timers) if not cancelled]


def test_cancelling_a_timer_that_has_rung_does_no_harm() -> None:
    loop = FakeLoop()
    timer = loop.call_later(0, lambda: None)
    loop.run_for(1)
    timer.cancel()
    timer.cancel()


def test_a_timer_rings_once() -> None:
    loop = FakeLoop()
    rung: list[float] = []
    loop.call_later(1, lambda: rung.append(loop.clock()))
    assert loop.run_for(10) == 1
    assert len(rung) == 1


def test_each_wait_for_a_timer_is_one_wakeup() -> None:
    # Rounding a timeout down would wake a millisecond early, find nothing due and spin.
    loop = FakeLoop()
    for number in range(1, 100):
        loop.call_later(number / 7, lambda: None)
    assert loop.run_for(100) <= 99


def test_a_real_timer_is_not_early_and_costs_one_poll() -> None:
    loop = Loop()
    start = time.monotonic()
    rung: list[float] = []
    loop.call_later(0.02, lambda: rung.append(time.monotonic()))
    loop.run()
    assert rung[0] - start >= 0.02


def test_the_loop_ends_when_there_is_nothing_to_wait_for() -> None:
    Loop().run()
    loop = Loop()
    loop.call_later(1000, lambda: None).cancel()
    loop.run()


def test_a_descriptor_calls_back_until_it_is_not_watched(pipe: tuple[int, int]) -> None:
    loop, (reader, writer) = FakeLoop(), pipe
    read: list[bytes] = []
    loop.watch(reader, lambda: read.append(os.read(reader, 1)))
    os.write(writer, b"ab")
    loop.settle()
    assert read == [b"a", b"b"]
    loop.unwatch(reader)
    os.write(writer, b"c")
    loop.settle()
    assert read == [b"a", b"b"]


def test_a_descriptor_can_be_watched_anew_for_something_else() -> None:
    loop = FakeLoop()
    one, other = socket.socketpair()
    called: list[str] = []
    loop.watch(one.fileno(), lambda: called.append("read"))

    def writable() -> None:
        called.append("write")
        loop.unwatch(one.fileno())

    loop.watch(one.fileno(), writable, WRITABLE)
    loop.settle()
    assert called == ["write"]
    one.close()
    other.close()


def test_unwatching_what_is_not_watched_does_no_harm() -> None:
    Loop().unwatch(12345)


def test_a_callback_may_drop_a_descriptor_that_is_ready_too(pipe: tuple[int, int]) -> None:
    # Both pipes are ready in the same round; the first callback closes the second's descriptor.
    loop, (reader, writer) = FakeLoop(), pipe
    second_reader, second_writer = os.pipe()
    os.write(writer, b"x")
    os.write(second_writer, b"x")
    called: list[int] = []
    readers = {reader, second_reader}

    def drop_the_other(me: int) -> None:
        called.append(me)
        for fd in readers:
            loop.unwatch(fd)
        os.close(max(readers))

    for fd in readers:
        loop.watch(fd, lambda fd=fd: drop_the_other(fd))  # type: ignore[misc]
    loop.settle()
    assert len(called) == 1
    for fd in (min(readers), second_writer):
        os.close(fd)


def test_a_descriptor_that_was_closed_and_opened_anew_is_not_called_for_the_old_ones_event(
    pipe: tuple[int, int],
) -> None:
    # Both are ready in the same round; the first callback puts another in the second's place.
    loop, (reader, writer) = FakeLoop(), pipe
    second_reader, second_writer = os.pipe()
    os.write(writer, b"x")
    os.write(second_writer, b"x")
    called: list[str] = []
    readers = {reader, second_reader}
    quiet, quiet_writer = os.pipe()

    def replace_the_other(me: int) -> None:
        called.append("old")
        (other,) = readers - {me}
        loop.unwatch(other)
        os.dup2(quiet, other)  # Closes it, and gives another its number.
        loop.watch(other, lambda: called.append("new"))
        os.read(me, 1)

    for fd in readers:
        loop.watch(fd, partial(replace_the_other, fd))
    loop.settle()
    assert called == ["old"]
    os.write(quiet_writer, b"x")
    loop.run_for(0)
    assert called[:2] == ["old", "new"]
    for fd in (second_reader, second_writer, quiet, quiet_writer):
        os.close(fd)


def test_an_alarm_that_is_set_again_rings_once_and_then_is_none() -> None:
    loop = FakeLoop()
    alarms = Alarms(loop)
    rung: list[str] = []
    alarms.set("one", 1, lambda: rung.append("early"))
    alarms.set("one", 5, lambda: rung.append("late"))
    alarms.set("other", 2, lambda: rung.append("other"))
    assert "one" in alarms
    loop.run_for(4)
    assert rung == ["other"]
    assert "other" not in alarms
    loop.run_for(4)
    assert rung == ["other", "late"]
    assert "one" not in alarms


def test_an_alarm_may_set_itself_again() -> None:
    loop = FakeLoop()
    alarms = Alarms(loop)
    rung: list[float] = []

    def ring() -> None:
        assert "tick" not in alarms
        rung.append(loop.clock())
        alarms.set("tick", 1, ring)

    alarms.set("tick", 1, ring)
    loop.run_for(3.5)
    assert len(rung) == 3


def test_a_hangup_is_told_to_whoever_watches(pipe: tuple[int, int]) -> None:
    loop, (reader, writer) = FakeLoop(), pipe
    called: list[bytes] = []

    def hung_up() -> None:
        called.append(os.read(reader, 1))
        loop.unwatch(reader)

    loop.watch(reader, hung_up)
    os.close(writer)
    loop.settle()
    assert called == [b""]


def test_a_stopped_loop_can_run_again() -> None:
    loop = FakeLoop()
    called: list[int] = []

    def ring(number: int) -> None:
        called.append(number)
        loop.stop()

    loop.call_later(1, partial(ring, 1))
    loop.call_later(2, partial(ring, 2))
    loop.run()
    assert called == [1]
    loop.run()
    assert called == [1, 2]


def test_urgent_is_what_sysfs_and_mountinfo_report() -> None:
    assert select.POLLPRI | select.POLLERR == URGENT
