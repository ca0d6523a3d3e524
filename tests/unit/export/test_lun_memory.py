"""What a killed daemon leaves to its successor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gadgetd.disks.disk import Disk, Kind, Verdict
from gadgetd.export.drive import Drive
from gadgetd.export.lun_memory import LIMIT, LunMemory, LunRecord, load, save
from gadgetd.status import Life

STATES = ("shown", "failed", "unproved", "withdrawn", "safe", "torn", "opened", "reset", "refused")


@st.composite
def numbers_of_disks(draw: st.DrawFn) -> LunRecord:
    keys = draw(st.lists(st.text(min_size=1, max_size=20), max_size=5, unique=True))
    count = len(keys)
    taken = draw(st.lists(st.integers(0, LIMIT - 1), min_size=count, max_size=count, unique=True))
    some = st.frozensets(st.sampled_from(taken)) if taken else st.just(frozenset[int]())
    displaced = draw(
        st.dictionaries(
            st.text(min_size=1, max_size=20),
            st.frozensets(st.sampled_from(("failed", "torn")), min_size=1),
            max_size=3,
        )
    )
    luns = dict(zip(keys, taken, strict=True))
    return LunRecord(luns, displaced, *[draw(some) for _ in STATES])


def test_the_numbers_survive_being_written_and_read(tmp_path: Path) -> None:
    luns = {"nvme at-1 X serial\twith a tab": 0, "sd mmcblk1  ": 3, "sd mmcblk2  ": 4, "x": 5}
    some = [
        frozenset(those) for those in ((3, 5), (4, 5), (0,), (3,), (), (4,), (0, 5), (5,), (3,))
    ]
    numbers = LunRecord(luns, {"sd mmcblk1 at\t1": frozenset(("torn", "failed"))}, *some)
    save(tmp_path / "run" / "luns", numbers)
    assert load(tmp_path / "run" / "luns") == numbers
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["luns"]


@pytest.mark.parametrize("key", ["a\\nb", "a\nb", "\\", "\\\\n", "\udc80", "a\tb"])
def test_a_name_is_read_as_it_was_written(tmp_path: Path, key: str) -> None:
    numbers = LunRecord({key: 0}, {f"{key}x": frozenset(("torn",))}, shown=frozenset((0,)))
    assert save(tmp_path / "luns", numbers)
    assert load(tmp_path / "luns") == numbers


def test_the_file_is_in_a_directory_of_roots_own(tmp_path: Path) -> None:
    path = tmp_path / "run" / "gadgetd" / "luns"
    assert save(path, LunRecord({"x": 0}))
    assert path.parent.stat().st_mode & 0o777 == 0o700


@settings(max_examples=50)
@given(numbers_of_disks())
def test_no_name_of_a_disk_upsets_the_file(
    tmp_path_factory: pytest.TempPathFactory, numbers: LunRecord
) -> None:
    path = tmp_path_factory.getbasetemp() / "luns"
    save(path, numbers)
    assert load(path) == numbers


@settings(max_examples=100)
@given(
    st.binary(max_size=60)
    | st.text("0129\t\nabn²shownreved,fail", max_size=60).map(lambda text: text.encode())
)
def test_no_content_of_the_file_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "luns-of-others"
    path.write_bytes(content)
    numbers = load(path)
    assert all(0 <= number < LIMIT for number in numbers.luns.values())
    assert numbers.in_doubt <= set(numbers.luns.values())
    assert len(set(numbers.luns.values())) == len(numbers.luns), "a LUN has one disk"


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert load(tmp_path / "luns") == LunRecord()
    assert load(tmp_path) == LunRecord()


def test_without_a_place_for_the_file_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where a directory should be")
    save(tmp_path / "run" / "luns", LunRecord({"a": 1}))
    assert load(tmp_path / "run" / "luns") == LunRecord()


def test_the_largest_number_is_127(tmp_path: Path) -> None:
    (tmp_path / "luns").write_text("127\tshown\tone\n128\tshown\tanother\n")
    assert load(tmp_path / "luns") == LunRecord({"one": 127}, shown=frozenset((127,)))


# What is in doubt, from a daemon to the next


def some(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def drive(number: int, life: Life = Life.IDLE, **doubts: bool) -> Drive:
    """A drive that has its disk, in this life and with these doubts."""
    disk = Disk(f"nvme{number}n1", Kind.NVME, Path("/dev/null"), 1 << 20)
    made = Drive(number, Verdict(disk, True, "the default"), "inquiry", None, 0.0)
    made.life, made.inserted = life, True
    for name, value in doubts.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def doubts(drive: Drive) -> set[str]:
    """What a drive is not as a new one is."""
    names = ("ejected", "lost", "torn", "refused", "opened", "reset", "adopted")
    return {name for name in names if getattr(drive, name)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "luns"


class TestADaemonThatEnds:
    """`leave`: the next one knows what is in doubt, and nothing else."""

    def test_leaves_each_doubt_and_forgets_who_has_none(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {"good": 0, "failed": 1, "torn": 2, "refused": 3, "left": 4, "lost": 5}
        memory.torn.add(4)
        drives = (
            drive(0),
            drive(1, Life.FAILED),
            drive(2, torn=True),
            drive(3, refused=True),
            drive(5, lost=True),
        )
        memory.leave(iter(drives))
        assert load(file) == LunRecord(
            {"failed": 1, "torn": 2, "refused": 3, "left": 4, "lost": 5},
            failed=some(1, 5),
            torn=some(2, 4),
            refused=some(3),
        )

    def test_leaves_what_it_has_not_proved_itself(self, file: Path) -> None:
        luns = {"away": 0, "away and failed": 1, "back": 2, "refused": 3}
        save(file, LunRecord(luns, shown=some(0, 2), failed=some(1, 2), refused=some(3)))
        memory = LunMemory(file)
        assert memory.unproved == {0, 1, 2}
        memory.settle(back := drive(2), "back", was_known=True)
        assert back.lost
        back.begin_anew()
        back.life = Life.FLUSHED
        memory.leave([back])
        kept = {"away": 0, "away and failed": 1, "refused": 3}
        assert load(file) == LunRecord(kept, failed=some(1), unproved=some(0, 1), refused=some(3))

    def test_leaves_the_doubts_of_those_whose_number_another_has(self, file: Path) -> None:
        displaced = {"card": frozenset(("failed", "torn"))}
        save(file, LunRecord({"other": 0}, displaced))
        LunMemory(file).leave([drive(0)])
        assert load(file) == LunRecord({}, displaced)

    def test_has_no_number_and_no_doubt_of_its_own_left(self, file: Path) -> None:
        displaced = {"card": frozenset(("failed",))}
        luns = {"ejected": 0, "unproved": 1, "torn": 2, "refused": 3}
        save(
            file,
            LunRecord(luns, displaced, shown=some(0, 1), torn=some(2), refused=some(3)),
        )
        memory = LunMemory(file)
        memory.adopt([0])
        memory.leave([])
        assert (memory.numbers, memory.unproved, memory.torn) == ({}, set(), set())
        for number, name in enumerate(("ejected", "unproved", "torn", "refused", "card")):
            memory.settle(found := drive(number), name, was_known=True)
            assert (doubts(found), found.life) == (set(), Life.IDLE), name

    def test_twice_leaves_what_it_left_the_first_time(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {"x": 0}
        memory.leave([drive(0, Life.FAILED)])
        memory.leave([])
        assert load(file) == LunRecord({"x": 0}, failed=some(0))

    def test_and_begins_again_writes_down_what_is_new(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {"x": 0}
        memory.leave([drive(0)])
        assert load(file) == LunRecord()
        memory.numbers = {"x": 0}
        memory.remember([drive(0)])
        assert load(file) == LunRecord({"x": 0}, shown=some(0))


class TestWhatIsRemembered:
    """`remember`: written while the daemon runs, for the one that comes when it is killed."""

    def test_each_state_is_that_of_its_drive(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {str(number): number for number in range(10)}
        drives = [
            drive(0),
            drive(1, Life.FAILED),
            drive(2, lost=True),
            drive(3, Life.WRITING, inserted=False),
            drive(4, Life.EJECTED, inserted=False, ejected=True),
            drive(5, Life.EJECTED, ejected=True, ejected_by_host=True),
            drive(6, torn=True),
            drive(7, opened=True),
            drive(8, reset=True),
            drive(9, refused=True),
        ]
        memory.remember(drives)
        assert load(file) == LunRecord(
            memory.numbers,
            shown=some(0, 1, 2, 4, 5, 6, 7, 8, 9),
            failed=some(1, 2),
            unproved=some(3),
            withdrawn=some(4),
            safe=some(4, 5),
            torn=some(6),
            opened=some(7),
            reset=some(8),
            refused=some(9),
        )

    def test_a_drive_between_two_states_is_unproved_only_if_a_host_wrote(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {"written": 0, "unwritten": 1, "ejecting": 2}
        memory.remember([
            drive(0, Life.WAITING, inserted=False),
            drive(1, Life.FLUSHING, inserted=False),
            drive(2, Life.EJECTING, inserted=False, ejected=True),
        ])  # fmt: skip
        assert load(file).unproved == {1}

    def test_the_doubts_of_disks_that_are_away_stay(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {"torn": 0, "refused": 1, "neither": 2}
        memory.keep_doubts(drive(0, torn=True))
        memory.keep_doubts(drive(1, refused=True))
        memory.keep_doubts(drive(2))
        memory.remember([])
        assert load(file) == LunRecord(memory.numbers, torn=some(0), refused=some(1))

    def test_the_failure_of_a_disk_that_is_away_stays_until_it_is_settled(self, file: Path) -> None:
        save(file, LunRecord({"a": 0, "b": 1}, failed=some(0, 1)))
        memory = LunMemory(file)
        memory.settle(drive(0), "a", was_known=True)
        memory.remember([drive(0)])
        found = load(file)
        assert (found.failed, found.unproved, found.shown) == (some(1), some(1), some(0))

    def test_what_could_not_be_written_is_tried_again(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("a file where a directory should be")
        memory = LunMemory(tmp_path / "run" / "luns")
        memory.numbers = {"x": 0}
        memory.remember([])
        (tmp_path / "run").unlink()
        memory.remember([])
        assert load(tmp_path / "run" / "luns") == LunRecord({"x": 0})

    def test_the_file_is_not_written_without_need(self, file: Path) -> None:
        memory = LunMemory(file)
        memory.numbers = {"x": 0}
        memory.remember([drive(0)])
        file.unlink()
        memory.remember([drive(0)])
        assert not file.exists()


class TestADiskThatIsThereAgain:
    """`settle`: it begins where it was."""

    LUNS = {"x": 0}  # noqa: RUF012

    def settled(self, file: Path, record: LunRecord, adopt: tuple[int, ...] | None = None) -> Drive:
        save(file, record._replace(luns=self.LUNS))
        memory = LunMemory(file)
        if adopt is not None:
            memory.adopt(adopt)
        memory.settle(found := drive(0), "x", was_known=True)
        assert memory.unproved == memory.torn == set()
        return found

    @pytest.mark.parametrize("withdrawn", [False, True])
    def test_one_that_was_ejected_is_ejected_by_the_same(self, file: Path, withdrawn: bool) -> None:
        record = LunRecord(shown=some(0), withdrawn=some(0) if withdrawn else some())
        found = self.settled(file, record, adopt=(0,))
        assert (found.ejected, found.life) == (True, Life.EJECTING)
        assert found.ejected_by_host is (not withdrawn)

    def test_one_that_has_been_put_in_again_is_not_ejected_once_more(self, file: Path) -> None:
        save(file, LunRecord(self.LUNS, shown=some(0), refused=some(0)))
        memory = LunMemory(file)
        memory.adopt([0])
        memory.settle(drive(0), "x", was_known=True)
        memory.settle(again := drive(0), "x", was_known=True)
        assert doubts(again) == set()
        memory.remember([again])
        assert load(file) == LunRecord(self.LUNS, shown=some(0))

    def test_an_empty_lun_that_was_never_filled_was_not_ejected(self, file: Path) -> None:
        assert not self.settled(file, LunRecord(), adopt=(0,)).ejected

    def test_one_that_is_still_in_may_have_been_written_to(self, file: Path) -> None:
        record = LunRecord(shown=some(0), opened=some(0), reset=some(0))
        found = self.settled(file, record, adopt=())
        assert (found.life, found.ejected, found.adopted) == (Life.WRITING, False, True)
        assert (found.opened, found.reset) == (True, True)

    def test_nobody_has_open_what_nobody_had(self, file: Path) -> None:
        found = self.settled(file, LunRecord(shown=some(0)), adopt=())
        assert (found.opened, found.reset) == (False, False)

    def test_a_gadget_that_is_built_anew_has_nobody_on_it(self, file: Path) -> None:
        record = LunRecord(shown=some(0), opened=some(0), reset=some(0))
        found = self.settled(file, record)
        assert (found.life, found.adopted) == (Life.WRITING, False)
        assert (found.opened, found.reset) == (False, False)

    def test_one_that_was_flushed_after_its_eject_is_in_no_doubt(self, file: Path) -> None:
        found = self.settled(file, LunRecord(shown=some(0), safe=some(0)))
        assert (found.life, found.lost) == (Life.IDLE, False)

    def test_one_that_lost_data_has_lost_it(self, file: Path) -> None:
        found = self.settled(file, LunRecord(shown=some(0), failed=some(0)))
        assert (found.life, found.lost, found.refused) == (Life.FAILED, True, False)

    def test_one_that_was_taken_since_it_lost_data_is_not_put_in(self, file: Path) -> None:
        found = self.settled(file, LunRecord(refused=some(0)))
        assert (found.refused, found.ejected, found.lost) == (True, True, False)

    def test_one_that_was_torn_out_is_torn(self, file: Path) -> None:
        assert self.settled(file, LunRecord(torn=some(0))).torn

    def test_another_with_its_number_has_none_of_its_doubts(self, file: Path) -> None:
        everything = [some(0)] * len(STATES)
        save(file, LunRecord({"x": 0}, {}, *everything))
        memory = LunMemory(file)
        memory.adopt([0])
        memory.settle(found := drive(0), "y", was_known=False)
        assert (doubts(found), found.life) == (set(), Life.IDLE)
        assert memory.torn == {0}, "those of the first stay"

    @pytest.mark.parametrize("doubt", ["failed", "torn", "refused"])
    def test_one_that_was_displaced_has_its_own_doubts_once(self, file: Path, doubt: str) -> None:
        save(file, LunRecord({}, {"x": frozenset((doubt,))}))
        memory = LunMemory(file)
        memory.settle(found := drive(0), "x", was_known=False)
        assert (found.lost, found.torn, found.refused) == tuple(
            doubt == each for each in ("failed", "torn", "refused")
        )
        assert found.ejected is found.refused
        memory.settle(again := drive(1), "x", was_known=False)
        assert doubts(again) == set()


class TestADiskWhoseNumberAnotherTakes:
    """`renumber`: its doubts go with it, and not to the other."""

    def displaced(self, file: Path, record: LunRecord, *drives: Drive) -> LunRecord:
        save(file, record)
        memory = LunMemory(file)
        memory.renumber({"new": 0}, {each.number: each for each in drives})
        assert memory.numbers == {"new": 0}
        assert memory.unproved == memory.torn == set()
        memory.remember([])
        return load(file)

    @pytest.mark.parametrize(
        ("doubts", "noted"),
        [({"lost": True}, "failed"), ({"torn": True}, "torn"), ({"refused": True}, "refused")],
    )
    def test_what_its_drive_knows_is_noted(
        self, file: Path, doubts: dict[str, bool], noted: str
    ) -> None:
        found = self.displaced(file, LunRecord({"old": 0}), drive(0, Life.IDLE, **doubts))
        assert found == LunRecord({"new": 0}, {"old": frozenset((noted,))})

    @pytest.mark.parametrize(
        ("state", "noted"),
        [("unproved", "failed"), ("torn", "torn"), ("refused", "refused")],
    )
    def test_what_an_earlier_run_knew_is_noted(self, file: Path, state: str, noted: str) -> None:
        record = LunRecord({"old": 0})._replace(**{state: some(0)})
        found = self.displaced(file, record)
        assert found == LunRecord({"new": 0}, {"old": frozenset((noted,))})

    def test_one_in_no_doubt_is_forgotten(self, file: Path) -> None:
        assert self.displaced(file, LunRecord({"old": 0}), drive(0)) == LunRecord({"new": 0})

    def test_one_that_keeps_its_number_keeps_its_doubts(self, file: Path) -> None:
        save(file, LunRecord({"x": 0, "y": 1}, unproved=some(0, 1), torn=some(1)))
        memory = LunMemory(file)
        memory.renumber({"y": 1, "new": 0}, {})
        assert (memory.unproved, memory.torn) == ({1}, {1})
