"""The phase, the headline and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gadgetd.config.settings import Config, Usb, Wait
from gadgetd.disks.disk import Disk, Kind, Pending, Verdict
from gadgetd.errors import ConfigError, GadgetError, Problem
from gadgetd.export.drive import Drive, Signal
from gadgetd.export.outcome import Exported, Outcome, Stop, Waits
from gadgetd.show.advice import about_change, about_disks
from gadgetd.show.snapshot import Facts, phase_of, rows
from gadgetd.status import DiskStatus, Life, Phase

REFUSED = GadgetError("cannot write functions/mass_storage.0/lun.0/file", hint="look")
PROBLEM = Problem("cannot write functions/mass_storage.0/lun.0/file", "look")
WRONG = ConfigError("unknown key", file=Path("/etc/gadgetd.yaml"), line=3, key="slot")
LOCKED = ConfigError("locked", file=Path("/etc/gadgetd.yaml"), key="boards")
PENDING = Pending("0000:01:00.0", Kind.NVME, "NVMe at 0000:01:00.0")


def drive(name: str, number: int, life: Life = Life.IDLE) -> Drive:
    disk = Disk(name, Kind.NVME, Path("/dev") / name, 1 << 30)
    made = Drive(number, Verdict(disk, True, "exported by the default"), "x", None, 0.0)
    made.life = life
    return made


TWO = (drive("nvme0n1", 0), drive("nvme1n1", 1))
GOOD = Facts(
    config=Config(),
    outcome=Outcome(wants_gadget=True),
    exported=Exported(drives=TWO, luns=frozenset((0, 1)), bound=True),
)


def given(facts: Facts = GOOD, **fields: object) -> Facts:
    """Change some facts, wherever they stand."""
    for name in ("exported", "outcome", "stop", "link"):
        part = getattr(facts, name)
        inner = {key: fields.pop(key) for key in part._fields if key in fields}
        facts = facts._replace(**{name: part._replace(**inner)})
    return facts._replace(**fields)


def rows_of(
    drives: Sequence[Drive],
    verdicts: Sequence[Verdict],
    visible: frozenset[int] | None,
    *,
    refused: bool = False,
) -> tuple[DiskStatus, ...]:
    """Give the rows; `visible` is None while nothing is exported."""
    refusal = REFUSED if refused else None
    luns = visible or frozenset()
    facts = given(drives=drives, luns=luns, verdicts=tuple(verdicts), refusal=refusal)
    return rows(facts, exported=visible is not None)


def test_disks_that_a_host_can_see_are_exported() -> None:
    assert phase_of(GOOD) == (Phase.EXPORTED, "2 disks exported", None)
    assert phase_of(given(drives=TWO[:1]))[1] == "1 disk exported"
    gone = drive("nvme2n1", 2, Life.GONE)
    assert phase_of(given(drives=(*TWO, gone)))[1] == "2 disks exported"


def test_a_disk_that_the_host_cannot_see_is_not_counted_as_exported() -> None:
    one = phase_of(given(luns=frozenset((0,))))
    assert one == (Phase.EXPORTED, "1 disk exported, 1 disk waits", None)
    none = phase_of(given(luns=frozenset()))
    assert none == (Phase.EXPORTED, "2 disks wait", None)
    ejected = drive("nvme0n1", 0)
    ejected.signal(Signal.EJECT)
    some = given(drives=(ejected, TWO[1]))
    assert phase_of(some)[1] == "1 disk exported, 1 disk ejected"
    assert phase_of(given(some, luns=frozenset((0,))))[1] == "1 disk ejected, 1 disk waits"


def test_exported_disks_are_exported_whatever_else_is_on_its_way() -> None:
    assert phase_of(given(awaited=(PENDING,)))[0] is Phase.EXPORTED


def test_what_is_waited_for_is_named() -> None:
    phase, message, problem = phase_of(given(bound=False, awaited=(PENDING,)))
    assert (phase, problem) == (Phase.WAITING_FOR_DISKS, None)
    assert message == "waiting for NVMe at 0000:01:00.0"


def test_no_disk_at_all_is_said() -> None:
    phase, message, problem = phase_of(given(bound=False, wants_gadget=False, drives=()))
    assert (phase, message, problem) == (
        Phase.WAITING_FOR_DISKS,
        "no disk to export; waiting for one",
        None,
    )


def test_a_wrong_configuration_exports_nothing_and_says_so() -> None:
    phase, message, problem = phase_of(given(config=None, config_error=WRONG))
    assert problem is not None
    assert (phase, problem.message) == (Phase.CONFIG_ERROR, WRONG.message)
    assert (problem.line, problem.hint) == (3, "to use it: gadgetd reload")
    assert "nothing is exported" in message


def test_a_refused_step_is_the_problem() -> None:
    assert phase_of(given(error=REFUSED))[::2] == (Phase.FAILED, PROBLEM)


def test_a_stop_that_is_under_way_says_not_to_unplug() -> None:
    phase, message, problem = phase_of(given(stop=Stop(begun=True, under_way=True)))
    assert (phase, problem) == (Phase.STOPPED, None)
    assert message == "stopping: flushing the disks, do not unplug"
    phase, message, problem = phase_of(given(stop=Stop(begun=True, under_way=True, error=REFUSED)))
    assert (phase, problem) == (Phase.STOPPED, PROBLEM)
    assert message == "stopping: a disk does not answer, do not unplug"


def test_a_daemon_that_was_stopped_says_how_to_go_on() -> None:
    phase, message, _ = phase_of(given(stop=Stop(begun=True, flushed=True, safe=True)))
    assert phase is Phase.STOPPED
    assert "gadgetd start" in message


@pytest.mark.parametrize(("waited_s", "problem"), [(9.9, False), (10.0, True), (99.0, True)])
def test_a_controller_is_missed_after_the_limit(waited_s: float, problem: bool) -> None:
    facts = given(bound=False, note="no USB device controller", without_controller_s=waited_s)
    phase, message, told = phase_of(facts)
    assert phase is Phase.WAITING_FOR_UDC
    assert message == "2 disks ready; waiting for a USB device controller"
    assert (told is not None) is problem
    if told:
        assert told.message == "no USB device controller after 10 s"
        assert "dr_mode=peripheral" in told.hint


def test_without_waiting_a_missing_controller_is_a_problem_at_once() -> None:
    config = Config(wait=Wait(udc_s=0))
    told = phase_of(given(config=config, bound=False, note="no controller"))[2]
    assert told is not None
    assert told.message == "no controller"


def test_exports_come_first_and_then_what_is_left_out_with_the_reason() -> None:
    left_out = Verdict(Disk("sda", Kind.USB, Path("/dev/sda"), 1), False, "mounted at /mnt")
    one, two = drive("nvme0n1", 0), drive("nvme1n1", 1)
    shown = rows_of([one, two], [one.verdict, left_out], frozenset((0, 1)))
    assert [(row.disk.name, row.lun, row.reason) for row in shown] == [
        ("nvme0n1", 0, "exported by the default"),
        ("nvme1n1", 1, "exported by the default"),
        ("sda", None, "mounted at /mnt"),
    ]


def test_a_disk_that_the_host_cannot_see_yet_has_no_lun_and_says_why() -> None:
    shown = rows_of([drive("nvme0n1", 0), drive("nvme1n1", 1)], [], frozenset((0,)))
    assert [(row.lun, row.waits) for row in shown] == [(0, False), (None, True)]
    assert "waits until the host" in shown[1].reason
    shown = rows_of([*TWO], [], frozenset((0,)), refused=True)
    assert shown[1].waits
    assert shown[1].reason.startswith("the kernel refused")


def test_a_disk_that_will_be_exported_waits_and_one_that_is_left_out_does_not() -> None:
    left_out = Verdict(Disk("sda", Kind.USB, Path("/dev/sda"), 1), False, "mounted at /mnt")
    chosen = Verdict(Disk("sdb", Kind.USB, Path("/dev/sdb"), 1), True, "exported by the default")
    shown = rows_of([], [left_out, chosen], None)
    assert [(row.disk.name, row.lun, row.waits) for row in shown] == [
        ("sda", None, False),
        ("sdb", None, True),
    ]


def test_a_row_is_read_only_as_the_lun_stands() -> None:
    made = drive("nvme0n1", 0)
    made.verdict = made.verdict._replace(read_only=True)
    assert not rows_of([made], [], None)[0].read_only
    made.read_only = True
    assert rows_of([made], [], None)[0].read_only


def test_before_the_bind_every_disk_shows_the_lun_it_will_have() -> None:
    shown = rows_of([drive("nvme0n1", 0)], [], None)
    assert [row.lun for row in shown] == [0]


def test_a_disk_that_left_still_has_its_row() -> None:
    shown = rows_of([drive("nvme0n1", 0, Life.GONE)], [], frozenset((0,)))
    assert [(row.lun, row.life) for row in shown] == [(0, Life.GONE)]


def test_a_disk_that_left_hides_no_other_of_its_name() -> None:
    gone = drive("sda", 0, Life.GONE)
    other = Verdict(Disk("sda", Kind.USB, Path("/dev/sda"), 1), False, "mounted at /mnt")
    shown = rows_of([gone], [other], frozenset((0,)))
    assert [(row.lun, row.reason) for row in shown] == [
        (0, "exported by the default"),
        (None, "mounted at /mnt"),
    ]
    there = drive("sda", 1)
    assert [row.lun for row in rows_of([gone, there], [there.verdict], None)] == [0, 1]


def test_io_errors_are_told_by_disk_and_number() -> None:
    one, two, good = drive("mmcblk0", 0), drive("nvme0n1", 1), drive("nvme1n1", 2)
    one.io_errors, two.io_errors = 1, 34
    told = list(about_disks([one, two, good]))
    assert [each.message for each in told] == [
        "mmcblk0: 1 I/O error",
        "nvme0n1: at least 10 I/O errors",
    ]
    assert all(each.hint for each in told)


@pytest.mark.parametrize("life", Life)
def test_a_disk_that_left_with_unwritten_data_is_named(life: Life) -> None:
    made = drive("nvme0n1", 0, life)
    made.signal(Signal.LEFT)
    told = [each.message for each in about_disks([made])]
    unwritten = life in (Life.WRITING, Life.FLUSHING, Life.EJECTING, Life.FAILED)
    assert told == (["nvme0n1 does not have all that the host had written"] if unwritten else [])
    assert made.written is not unwritten


def test_a_change_that_waits_says_what_for() -> None:
    assert list(about_change(Outcome(waits=Waits.NOTHING), ())) == []
    assert list(about_change(Outcome(waits=Waits.CONTROLLER), ())) == []
    (idle,) = about_change(Outcome(waits=Waits.IDLE), ())
    assert "waits until the host lets go" in idle.message
    (locked,) = about_change(Outcome(waits=Waits.LOCK, locked=("mmcblk0", "nvme0n1")), ())
    assert locked.message == "a change of mmcblk0, nvme0n1 waits: the host has locked the medium"
    assert "--force" in locked.hint


NAMED = Config(usb=Usb(udc="nosuch"))
MISSING = given(config=NAMED, bound=False, without_controller_s=10, controllers=1)


def test_the_controller_that_is_waited_for_is_named() -> None:
    message = phase_of(given(MISSING, without_controller_s=0))[1]
    assert message == "2 disks ready; waiting for USB device controller nosuch"


def test_a_controller_that_the_file_misspells_is_to_be_corrected_there() -> None:
    note = "usb.udc names nosuch, which is not there; there is dummy_udc.0"
    told = phase_of(given(MISSING, note=note))[2]
    assert told is not None
    assert told.message == (
        "usb.udc names nosuch, which is not there after 10 s; there is dummy_udc.0"
    )
    assert "usb.udc" in told.hint
    assert "config.txt" not in told.hint
    told = phase_of(given(MISSING, note=note, controllers=0))[2]
    assert told is not None
    assert "config.txt" in told.hint


def test_a_controller_that_another_gadget_has_is_not_missed_in_config_txt() -> None:
    note = "no free USB device controller: dummy_udc.0 is used by gadget g1"
    told = phase_of(given(MISSING, config=Config(), note=note))[2]
    assert told is not None
    assert told.message.startswith("no free USB device controller after 10 s: dummy_udc.0")
    assert "unbind" in told.hint


def test_a_board_that_is_locked_out_is_told_from_a_wrong_file() -> None:
    phase, message, problem = phase_of(given(config=None, config_error=LOCKED))
    assert problem is not None
    assert (phase, problem.message) == (Phase.CONFIG_ERROR, LOCKED.message)
    assert message == "locked: this board is not one of boards: nothing is exported"
    wrong = phase_of(given(config=None, config_error=WRONG))
    assert "is wrong" in wrong[1]
