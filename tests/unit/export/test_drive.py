"""One exported disk: what its counters and its flushes make of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gadgetd.disks.counters import Counters
from gadgetd.disks.disk import Disk, Kind, Verdict
from gadgetd.disks.hold import Hold, hold
from gadgetd.disks.kernel_log import IoError
from gadgetd.export.drive import QUIET_S, UNWRITTEN, Drive, Signal, all_ejected
from gadgetd.status import DiskStatus, Life

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    node = tmp_path / "mmcblk0"
    node.write_bytes(b"")
    return Disk("mmcblk0", Kind.EMMC, node, 64 * MIB)


@pytest.fixture
def drive(disk: Disk) -> Iterator[Drive]:
    made = make(disk)
    yield made
    if made.flush is not None:
        made.flush.result()
    made.release()


def make(disk: Disk) -> Drive:
    made = Drive(0, Verdict(disk, True, "the default"), "a1b2c3d4 eMMC mmcblk0", hold(disk), 0.0)
    made.start_counting(Counters(), 0.0)
    made.signal(Signal.HOST_READY)
    return made


def life_of(drive: Drive) -> Life:
    return drive.life


def failing(drive: Drive) -> None:
    """Let every fsync fail: a pipe cannot be synced."""
    drive.release()
    reader, writer = os.pipe()
    drive.hold = Hold(writer, reader)


def test_what_happened_before_the_export_is_not_the_hosts(disk: Disk) -> None:
    drive = make(disk)
    drive.start_counting(Counters(5 * MIB, 6 * MIB), 10.0)
    drive.observe(Counters(5 * MIB, 6 * MIB), 10.5)
    assert (drive.life, drive.total) == (Life.IDLE, Counters())
    drive.release()


def test_bytes_and_rate_are_counted(drive: Drive) -> None:
    drive.observe(Counters(MIB, 2 * MIB), 0.5)
    assert drive.total == Counters(MIB, 2 * MIB)
    assert drive.rate_bytes_s == 6 * MIB
    row = drive.to_status()
    assert (row.read_bytes, row.written_bytes, row.rate_bytes_s) == (MIB, 2 * MIB, 6 * MIB)
    assert (row.lun, row.life, row.reason) == (0, Life.WRITING, "the default")


def test_a_disk_at_rest_shows_no_rate(drive: Drive) -> None:
    drive.observe(Counters(MIB, 0), 0.5)
    assert drive.to_status().rate_bytes_s == 2 * MIB
    drive.observe(Counters(MIB, 0), 0.5 + QUIET_S)
    assert life_of(drive) is Life.IDLE
    assert drive.to_status().rate_bytes_s == 0


def test_reading_and_writing_at_once_is_writing(drive: Drive) -> None:
    drive.observe(Counters(MIB, MIB), 0.5)
    assert life_of(drive) is Life.WRITING


def test_reading_between_writes_ends_no_writing(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 0.5)
    drive.observe(Counters(MIB, MIB), 1.0)
    assert life_of(drive) is Life.WRITING


def test_a_host_that_verifies_what_it_has_written_is_reading_soon(drive: Drive) -> None:
    # As Raspberry Pi Imager does: it writes all, flushes, and reads all back.
    for second in range(1, 6):
        drive.observe(Counters(0, second * MIB), second)
    now, flushes = 5.0, 0
    while now < 125:
        now += 0.5
        drive.observe(Counters(int(now * MIB), 5 * MIB), now)
        if drive.wants_flush(now, host_ready=True):
            flushes += 1
            drive.signal(Signal.FLUSH_STARTED)
            drive.signal(Signal.FLUSH_DONE)
        if now > 5 + QUIET_S + 1:
            assert drive.life is Life.READING
    assert flushes == 1


def test_a_counter_that_starts_anew_takes_nothing_back(drive: Drive) -> None:
    drive.observe(Counters(9 * MIB, 9 * MIB), 0.5)
    drive.observe(Counters(MIB, 0), 1.0)
    assert drive.total == Counters(9 * MIB, 9 * MIB)


def test_two_looks_at_the_same_time_are_no_error(drive: Drive) -> None:
    drive.observe(Counters(MIB, 0), 0.0)
    assert drive.rate_bytes_s == 0


def test_a_disk_whose_counters_are_gone_keeps_what_it_was(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 0.5)
    drive.observe(None, 1.0)
    assert (drive.life, drive.total) == (Life.WRITING, Counters(0, MIB))


def test_a_host_that_pauses_has_its_data_flushed(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 1.0)
    assert not drive.wants_flush(1.0 + QUIET_S / 2, host_ready=True)
    assert drive.wants_flush(1.0 + QUIET_S, host_ready=True)


def test_a_host_that_leaves_has_its_data_flushed_at_once(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 1.0)
    assert drive.wants_flush(1.0, host_ready=False)


def test_an_eject_has_the_disk_flushed_at_once_written_to_or_not(drive: Drive) -> None:
    drive.signal(Signal.EJECT)
    assert drive.wants_flush(0.0, host_ready=True)


@pytest.mark.parametrize("life", sorted(set(Life) - {Life.WRITING, Life.EJECTING, Life.FLUSHING}))
def test_nothing_else_is_flushed_by_itself(drive: Drive, life: Life) -> None:
    drive.life = life
    assert not drive.wants_flush(1e9, host_ready=False)


def test_one_flush_at_a_time(drive: Drive) -> None:
    drive.signal(Signal.EJECT)
    drive.start_flush()
    assert not drive.wants_flush(1e9, host_ready=False)


def test_a_disk_that_is_not_held_is_not_flushed(drive: Drive) -> None:
    drive.signal(Signal.EJECT)
    drive.release()
    assert not drive.wants_flush(1e9, host_ready=False)


def test_a_flush_ends_in_flushed(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 1.0)
    drive.start_flush()
    assert life_of(drive) is Life.FLUSHING
    assert drive.end_flush(Counters(0, MIB), 4.0) == 0
    assert life_of(drive) is Life.FLUSHED
    assert drive.flush is None


def test_what_a_flush_writes_is_not_the_host_writing_more(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 1.0)
    drive.start_flush()
    drive.end_flush(Counters(0, 9 * MIB), 4.0)
    assert (drive.life, drive.total.written_bytes) == (Life.FLUSHED, 9 * MIB)
    drive.observe(Counters(0, 9 * MIB), 4.5)
    assert life_of(drive) is Life.FLUSHED


def test_more_writing_after_a_flush_takes_the_word_back(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 1.0)
    drive.start_flush()
    drive.end_flush(Counters(0, MIB), 4.0)
    drive.observe(Counters(0, 2 * MIB), 4.5)
    assert life_of(drive) is Life.WRITING


def test_a_failed_flush_is_never_made_good_by_a_later_one(drive: Drive) -> None:
    failing(drive)
    drive.signal(Signal.EJECT)
    drive.start_flush()
    assert drive.end_flush(Counters(), 1.0) == errno.EINVAL
    assert life_of(drive) is Life.FAILED
    drive.release()
    assert not drive.wants_flush(1e9, host_ready=False)


def test_an_eject_needs_a_flush_that_began_after_it(drive: Drive) -> None:
    # What the host wrote between the beginning of an fsync and its eject may be in RAM alone.
    drive.observe(Counters(0, MIB), 1.0)
    drive.start_flush()
    drive.signal(Signal.EJECT)
    drive.end_flush(Counters(0, MIB), 4.0)
    assert life_of(drive) is Life.EJECTING
    assert drive.wants_flush(4.0, host_ready=True)
    drive.start_flush()
    drive.end_flush(Counters(0, MIB), 5.0)
    assert life_of(drive) is Life.EJECTED


def test_a_flush_that_began_before_an_eject_and_fails_has_failed(drive: Drive) -> None:
    failing(drive)
    drive.signal(Signal.WRITE)
    drive.start_flush()
    drive.signal(Signal.EJECT)
    assert drive.end_flush(Counters(), 4.0)
    assert life_of(drive) is Life.FAILED


def test_a_disk_that_leaves_during_a_flush_stays_gone(drive: Drive) -> None:
    drive.signal(Signal.EJECT)
    drive.start_flush()
    drive.signal(Signal.LEFT)
    drive.release()
    assert drive.end_flush(None, 1.0) == 0
    assert life_of(drive) is Life.GONE


def test_ending_a_flush_that_there_is_not_does_no_harm(drive: Drive) -> None:
    assert drive.end_flush(None, 1.0) == 0
    assert life_of(drive) is Life.IDLE


def test_a_disk_that_failed_and_was_ejected_is_not_in_its_lun(drive: Drive) -> None:
    # Else the next look at the gadget would put it back, which nobody has asked for.
    failing(drive)
    drive.signal(Signal.EJECT)
    drive.start_flush()
    drive.end_flush(Counters(), 1.0)
    assert life_of(drive) is Life.FAILED
    assert not drive.has_medium


def test_a_disk_that_failed_in_its_lun_is_still_there(drive: Drive) -> None:
    failing(drive)
    drive.signal(Signal.WRITE)
    drive.start_flush()
    drive.end_flush(Counters(), 1.0)
    assert life_of(drive) is Life.FAILED
    assert drive.has_medium
    drive.signal(Signal.EJECT)
    assert not drive.has_medium
    drive.signal(Signal.INSERT)
    assert drive.has_medium


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(["flush", "end", "eject", "insert", "arrive", "depart", "wait"]),
            st.just(0),
            st.just(0),
        ),
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(STEPS)
def test_in_any_order_of_events_the_totals_grow_and_the_word_is_true(
    disk: Disk, steps: list[tuple[str, int, int]]
) -> None:
    drive, now = make(disk), 0.0
    seen = Counters()
    unflushed = False
    for step, read, written in steps:
        now += 0.5
        before = drive.total
        if step == "look":
            seen = Counters(seen.read_bytes + read * 512, seen.written_bytes + written * 512)
            drive.observe(seen, now)
            unflushed |= bool(written) and drive.has_medium
        elif step == "flush" and drive.flush is None:
            drive.start_flush()
            covered = not drive.has_medium or not unflushed or drive.life is Life.FLUSHING
            assert covered or drive.life in UNWRITTEN
        elif step == "end" and drive.flush is not None:
            drive.end_flush(seen, now)
            unflushed = drive.life in UNWRITTEN
        elif step == "eject":
            drive.signal(Signal.EJECT)
        elif step == "insert" and drive.life in (Life.EJECTED, Life.FAILED):
            drive.signal(Signal.INSERT)
            unflushed = False
        elif step == "arrive":
            drive.signal(Signal.HOST_READY)
        elif step == "depart":
            drive.signal(Signal.HOST_GONE)
        elif step == "wait":
            now += QUIET_S
        assert drive.total.read_bytes >= before.read_bytes
        assert drive.total.written_bytes >= before.written_bytes
        if drive.life is Life.EJECTED:
            assert drive.flush is None or not unflushed
        if drive.life in UNWRITTEN:
            assert not drive.calm or drive.life is Life.FAILED
    if drive.flush is not None:
        drive.end_flush(seen, now)
    drive.release()


# What is made of several drives, and of the kernel's log.


def ejected(disk: Disk) -> Drive:
    drive = make(disk)
    drive.signal(Signal.EJECT)
    drive.signal(Signal.FLUSH_DONE)
    assert life_of(drive) is Life.EJECTED
    return drive


def test_all_are_ejected_if_one_is_and_none_is_with_the_host(disk: Disk) -> None:
    out, gone, there = ejected(disk), make(disk), make(disk)
    gone.signal(Signal.LEFT)
    assert all_ejected([out])
    assert all_ejected([out, gone])
    assert not all_ejected([]), "there is nothing to unplug"
    assert not all_ejected([gone]), "it was pulled, and not ejected"
    assert not all_ejected([out, there])
    assert not all_ejected([there])
    flushing = make(disk)
    flushing.signal(Signal.EJECT)
    assert not all_ejected([out, flushing])


def test_one_that_was_taken_by_force_keeps_the_word_back_from_all(disk: Disk) -> None:
    out, torn = ejected(disk), ejected(disk)
    torn.torn = True
    assert not all_ejected([out, torn])
    torn.begin_anew()
    assert all_ejected([out, torn])


def test_errors_are_counted_of_this_disk_while_it_is_there(drive: Drive) -> None:
    read, write = IoError("mmcblk0", True), IoError("mmcblk0", False)
    assert not drive.note_errors([IoError("nvme0n1", False)])
    assert (drive.io_errors, drive.write_errors) == (0, False)
    assert not drive.note_errors([read])
    assert drive.note_errors([write, read])
    assert not drive.note_errors([read])
    assert (drive.io_errors, drive.write_errors) == (4, True)
    drive.release()
    assert not drive.note_errors([write]), "another may have its name"
    assert drive.io_errors == 4


def test_a_flush_that_is_outdated_twice_is_still_followed_by_another(drive: Drive) -> None:
    drive.observe(Counters(0, MIB), 1.0)
    drive.start_flush()
    drive.outdate_flush()
    drive.end_flush(Counters(0, MIB), 2.0)
    drive.outdate_flush()
    assert drive.wants_flush(2.0, host_ready=True)


def test_the_row_that_is_shown_has_what_the_drive_is(disk: Disk) -> None:
    drive = Drive(3, Verdict(disk, True, "why"), "inquiry", None, 0.0, read_only=True)
    drive.signal(Signal.HOST_READY)
    drive.start_counting(Counters(), 10.0)
    drive.observe(Counters(4 * MIB, 2 * MIB), 12.0)
    assert drive.to_status() == DiskStatus(
        disk,
        3,
        reason="why",
        read_only=True,
        inquiry="inquiry",
        life=Life.WRITING,
        read_bytes=4 * MIB,
        written_bytes=2 * MIB,
        rate_bytes_s=3 * MIB,
    )
    drive.signal(Signal.EJECT)
    assert drive.to_status().rate_bytes_s == 0


def test_a_drive_is_writable_unless_it_is_said_to_be_read_only(drive: Drive) -> None:
    assert drive.read_only is False


def test_what_the_board_itself_reads_is_not_the_hosts_and_what_is_written_is(drive: Drive) -> None:
    drive.board_readers = 1
    drive.observe(Counters(MIB, 0), 1.0)
    assert (drive.total, life_of(drive)) == (Counters(), Life.IDLE)
    drive.observe(Counters(2 * MIB, 3 * MIB), 2.0)
    assert (drive.total, life_of(drive)) == (Counters(0, 3 * MIB), Life.WRITING)


def test_a_host_that_has_read_just_now_is_not_quiet_yet(drive: Drive) -> None:
    drive.start_counting(Counters(), 10.0)
    drive.observe(Counters(MIB, 0), 10.5)
    drive.observe(Counters(MIB, 0), 11.0)
    assert life_of(drive) is Life.READING
    drive.observe(Counters(MIB, 0), 10.5 + QUIET_S)
    assert life_of(drive) is Life.IDLE


def test_a_flush_that_fails_puts_what_was_written_in_doubt(drive: Drive) -> None:
    failing(drive)
    drive.observe(Counters(0, MIB), 1.0)
    drive.start_flush()
    assert drive.end_flush(Counters(0, MIB), 2.0)
    assert (drive.io_errors, drive.write_errors) == (1, True)


def test_times_begin_when_the_drive_does(disk: Disk) -> None:
    drive = Drive(0, Verdict(disk, True, "why"), "inquiry", None, 5.0)
    assert (drive.changed_at, drive.written_at) == (5.0, 5.0)


@pytest.mark.parametrize("signal", Signal)
def test_only_what_is_out_is_open_nowhere(drive: Drive, signal: Signal) -> None:
    drive.opened = drive.reset = True
    drive.signal(signal)
    kept = signal not in (Signal.EJECT, Signal.LEFT)
    assert (drive.opened, drive.reset) == (kept, kept)
