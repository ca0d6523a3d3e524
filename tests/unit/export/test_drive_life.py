"""The life of a LUN: every pair of the table, and promises that no order of events may break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gadgetd.export.drive import EMPTY, TRANSITIONS, UNWRITTEN, Signal, after
from gadgetd.status import Life

# The table as a person would draw it, apart from the one in the code: a life, and for each signal
# that means something there what follows. LEFT always ends in GONE and is left out.
_LETTERS = {
    "ready": Signal.HOST_READY,
    "lost": Signal.HOST_GONE,
    "read": Signal.READ,
    "write": Signal.WRITE,
    "quiet": Signal.QUIET,
    "sync": Signal.FLUSH_STARTED,
    "done": Signal.FLUSH_DONE,
    "error": Signal.FLUSH_FAILED,
    "eject": Signal.EJECT,
    "insert": Signal.INSERT,
}
_DRAWN = """
WAITING   ready IDLE      write WRITING   sync FLUSHING   eject EJECTING
IDLE      lost WAITING    read READING    write WRITING   sync FLUSHING   eject EJECTING
READING   lost WAITING    write WRITING   quiet IDLE      sync FLUSHING   eject EJECTING
WRITING   sync FLUSHING   eject EJECTING
FLUSHING  done FLUSHED    error FAILED    eject EJECTING
FLUSHED   lost WAITING    read READING    write WRITING   sync FLUSHING   eject EJECTING
EJECTING  done EJECTED    error FAILED    insert WAITING
EJECTED   insert WAITING
FAILED    insert WAITING
GONE      insert WAITING
"""
DRAWN = {
    Life[words[0]]: {
        _LETTERS[signal]: Life[life] for signal, life in zip(words[1::2], words[2::2], strict=True)
    }
    for words in (line.split() for line in _DRAWN.strip().splitlines())
}
PAIRS = [(life, signal) for life in Life for signal in Signal]


@pytest.mark.parametrize(("life", "signal"), PAIRS, ids=lambda value: value.name)
def test_every_life_takes_every_signal_as_drawn(life: Life, signal: Signal) -> None:
    expected = Life.GONE if signal is Signal.LEFT else DRAWN[life].get(signal, life)
    assert after(life, signal) is expected


def test_no_life_is_forgotten() -> None:
    assert TRANSITIONS.keys() == DRAWN.keys() == set(Life)


def test_every_life_can_be_reached_and_left() -> None:
    reached = {Life.WAITING}
    while True:
        more = {after(life, signal) for life in reached for signal in Signal} | reached
        if more == reached:
            break
        reached = more
    assert reached == set(Life)
    assert all(any(after(life, signal) is not life for signal in Signal) for life in Life)


def test_only_a_finished_fsync_leads_to_flushed_and_ejected() -> None:
    for life, signal in PAIRS:
        result = after(life, signal)
        if result in (Life.FLUSHED, Life.EJECTED) and result is not life:
            assert signal is Signal.FLUSH_DONE


def test_a_failed_write_is_only_forgotten_with_a_new_insertion() -> None:
    for signal in Signal:
        if after(Life.FAILED, signal) is not Life.FAILED:
            assert signal in (Signal.INSERT, Signal.LEFT)


def test_what_was_written_and_not_flushed_is_never_taken_for_written() -> None:
    for life, signal in PAIRS:
        if life in UNWRITTEN and after(life, signal) not in UNWRITTEN:
            assert signal in (Signal.FLUSH_DONE, Signal.INSERT, Signal.LEFT)


def test_a_host_that_leaves_ends_no_flush_and_no_eject() -> None:
    for life in UNWRITTEN | EMPTY:
        assert after(life, Signal.HOST_GONE) is life


class LifeOfALun(RuleBasedStateMachine):
    """Any signals in any order, beside a model of what is really on the medium."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life.WAITING
        self.dirty = False
        self.lost = False

    @rule(signal=st.sampled_from(sorted(Signal, key=lambda signal: signal.name)))
    def happens(self, signal: Signal) -> None:
        before, self.life = self.life, after(self.life, signal)
        if signal is Signal.WRITE and before in (Life.IDLE, Life.READING, Life.WRITING):
            self.dirty = True
        if signal is Signal.WRITE and before in (Life.WAITING, Life.FLUSHED):
            self.dirty = True
        if signal is Signal.FLUSH_DONE and before in (Life.FLUSHING, Life.EJECTING):
            self.dirty = False
        if signal is Signal.FLUSH_FAILED and before in (Life.FLUSHING, Life.EJECTING):
            self.lost = True
        if signal in (Signal.INSERT, Signal.LEFT):
            self.lost = self.lost and self.life is before
            self.dirty = self.dirty and self.life is before

    @invariant()
    def the_word_is_true(self) -> None:
        if self.life in (Life.FLUSHED, Life.EJECTED):
            assert not self.dirty
            assert not self.lost

    @invariant()
    def lost_data_stays_lost(self) -> None:
        assert self.lost == (self.life is Life.FAILED)

    @invariant()
    def dirty_data_shows(self) -> None:
        if self.dirty:
            assert self.life in UNWRITTEN


TestLifeOfALun = LifeOfALun.TestCase


@given(st.lists(st.sampled_from(sorted(Signal, key=lambda signal: signal.name))))
def test_a_disk_that_left_stays_gone_until_it_is_inserted(signals: list[Signal]) -> None:
    life = after(Life.WRITING, Signal.LEFT)
    for signal in signals:
        life = after(life, signal)
        if signal is Signal.INSERT:
            break
        assert life is Life.GONE
