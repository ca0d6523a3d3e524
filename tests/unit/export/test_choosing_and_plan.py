from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.config.settings import Config, DiskMatch, DiskRule, Usb
from gadgetd.disks.disk import Disk, Found, Kind, Verdict
from gadgetd.export.choosing import choose, choose_none
from gadgetd.export.numbering import Row, assign, identity, lun_number
from gadgetd.export.plan import gadget, inquiry, undisturbed
from gadgetd.status import Board
from gadgetd.sysfs import natural_key
from gadgetd.usb.gadget import (
    ACM,
    NO_SERIAL,
    Changes,
    Function,
    Gadget,
    Lun,
    as_it_stands,
    compare,
    deal,
    lun_places,
)

BOARD = Board("Raspberry Pi Compute Module 4 Rev 1.1", "10000000a1b2c3d4")
YAML = Path("/etc/gadgetd.yaml")

KINDS = {"mmcblk0": Kind.EMMC, "mmcblk1": Kind.SD}


def disk(name: str, *, serial: str = "", location: str = "", read_only: bool = False) -> Disk:
    kind = Kind.NVME if name.startswith("nvme") else KINDS.get(name, Kind.USB)
    node = Path("/dev", name)
    return Disk(name, kind, node, 1 << 30, read_only=read_only, serial=serial, location=location)


def found(*names: str) -> list[Found]:
    return [Found(disk(name)) for name in names]


def exported(*disks: Disk) -> list[Verdict]:
    return [Verdict(each, exported=True, reason="") for each in disks]


def names(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.disk.name for verdict in verdicts]


# Which disks.


def test_emmc_sd_and_nvme_are_exported_by_default_in_natural_order() -> None:
    verdicts = choose(found("nvme10n1", "sda", "mmcblk1", "nvme2n1", "mmcblk0"), Config())
    assert names(verdicts) == ["mmcblk0", "mmcblk1", "nvme2n1", "nvme10n1", "sda"]
    assert [verdict.exported for verdict in verdicts] == [True, True, True, True, False]
    assert all(verdict.reason for verdict in verdicts)


def test_a_disk_that_the_scan_refused_is_never_exported() -> None:
    config = Config(disks=(DiskRule(DiskMatch()),))
    refused = disk("mmcblk0")
    assert choose([Found(refused, "mounted at /mnt")], config) == (
        Verdict(refused, exported=False, reason="mounted at /mnt"),
    )


def test_where_none_is_exported_each_disk_says_why() -> None:
    free, refused = disk("mmcblk0"), disk("nvme0n1")
    assert choose_none([Found(free), Found(refused, "mounted at /mnt")], "no configuration") == (
        Verdict(free, exported=False, reason="no configuration"),
        Verdict(refused, exported=False, reason="mounted at /mnt"),
    )


def test_an_excluded_disk_is_never_exported_and_the_line_is_named() -> None:
    config = Config(
        source=YAML,
        disks=(DiskRule(DiskMatch(name="nvme*", line=3)),),
        exclude=(DiskMatch(name="sd*", line=6), DiskMatch(name="nvme0n1", line=7)),
    )
    kept, left_out = reversed(choose(found("nvme0n1", "nvme1n1"), config))
    assert left_out == Verdict(disk("nvme0n1"), False, "excluded by /etc/gadgetd.yaml:7")
    assert (kept.exported, kept.reason) == (True, "exported by /etc/gadgetd.yaml:3")


def test_the_first_rule_that_matches_decides() -> None:
    config = Config(
        disks=(
            DiskRule(DiskMatch(name="nvme0*"), read_only=True, label="golden"),
            DiskRule(DiskMatch(kinds=(Kind.NVME,)), label="target"),
        )
    )
    first, second = choose(found("nvme0n1", "nvme1n1"), config)
    assert (first.read_only, first.label) == (True, "golden")
    assert (second.read_only, second.label) == (False, "target")


def test_a_read_only_disk_is_exported_read_only_whatever_the_rule_says() -> None:
    (verdict,) = choose([Found(disk("mmcblk1", read_only=True))], Config())
    assert verdict.exported
    assert verdict.read_only


def test_a_disk_that_must_be_asked_for_says_how() -> None:
    (verdict,) = choose(found("sda"), Config())
    assert verdict.reason == (
        "no rule of disks matches; to export it, add a rule to disks: such as - kind: usb"
    )
    (verdict,) = choose(found("mmcblk0"), Config(disks=()))
    assert verdict.reason == "no rule of disks matches"


@given(st.permutations(["mmcblk0", "mmcblk1", "nvme0n1", "nvme0n2", "nvme10n1", "sda", "sdb"]))
def test_the_order_does_not_depend_on_the_order_of_the_scan(order: list[str]) -> None:
    in_order = ["mmcblk0", "mmcblk1", "nvme0n1", "nvme0n2", "nvme10n1", "sda", "sdb"]
    assert names(choose(found(*order), Config())) == in_order


@given(st.lists(st.tuples(st.sampled_from("abn"), st.integers(0, 999)), min_size=1), st.data())
def test_natural_order_compares_numbers_as_numbers(
    parts: list[tuple[str, int]], data: st.DataObject
) -> None:
    others = data.draw(st.permutations(parts))
    texts = ["".join(f"{word}{number}" for word, number in each) for each in (parts, others)]
    assert (natural_key(texts[0]) < natural_key(texts[1])) is (list(parts) < list(others))


@given(st.text(), st.text())
def test_any_two_names_have_an_order_and_only_equal_ones_are_equal(one: str, other: str) -> None:
    assert (natural_key(one) == natural_key(other)) is (one == other)
    assert (natural_key(one) < natural_key(other)) is not (natural_key(one) >= natural_key(other))


# LUN numbers.


def test_luns_are_numbered_from_0_in_the_order_of_the_disks() -> None:
    disks = [disk(name) for name in ("mmcblk0", "nvme0n1", "nvme1n1")]
    numbers = assign(exported(*disks), {})
    assert [lun_number(each, numbers) for each in disks] == [0, 1, 2]


def test_a_disk_that_is_left_out_has_no_lun() -> None:
    left_out = Verdict(disk("sda"), exported=False, reason="")
    numbers = assign([left_out, *exported(disk("sdb"))], {})
    assert lun_number(disk("sda"), numbers) is None
    assert lun_number(disk("sdb"), numbers) == 0


def test_a_disk_that_comes_back_under_another_name_has_its_old_lun() -> None:
    before = [
        disk("nvme0n1", serial="A", location="0000:01:00.0 n1"),
        disk("nvme1n1", serial="B", location="0000:02:00.0 n1"),
    ]
    numbers = assign(exported(*before), {})
    numbers = assign(exported(before[1]), numbers)
    newcomer = disk("nvme0n1", serial="C", location="0000:03:00.0 n1")
    numbers = assign(exported(newcomer, before[1]), numbers)
    assert lun_number(newcomer, numbers) == 2
    back = before[0]._replace(name="nvme2n1")
    known = numbers
    numbers = assign(exported(newcomer, before[1], back), known)
    assert numbers == known, "it is the same disk, with what is known of its data"
    assert [lun_number(each, numbers) for each in (back, before[1], newcomer)] == [0, 1, 2]


def test_two_namespaces_of_one_nvme_disk_have_a_lun_each() -> None:
    disks = [disk(f"nvme0n{n}", serial="A", location=f"0000:01:00.0 n{n}") for n in (1, 2)]
    numbers = assign(exported(*disks), {})
    assert [lun_number(each, numbers) for each in disks] == [0, 1]


def test_the_slots_of_one_card_reader_have_a_lun_each_and_keep_it() -> None:
    slots = [disk(name, serial="A", location="1-1:1.0") for name in ("sda", "sdb", "sdc")]
    assert len({identity(each) for each in slots}) == 1
    numbers = assign(exported(*slots), {})
    assert [lun_number(each, numbers) for each in slots] == [0, 1, 2]
    numbers = assign(exported(*slots[1:]), numbers)
    assert [lun_number(each, numbers) for each in slots] == [0, 1, 2]
    numbers = assign(exported(*slots), numbers)
    assert [lun_number(each, numbers) for each in slots] == [0, 1, 2]


def test_the_cards_that_follow_one_another_in_a_slot_share_a_lun() -> None:
    first, other = disk("nvme0n1", serial="N", location="pci1"), "mmc0:0001"
    numbers = assign(exported(first, disk("mmcblk1", serial="card 0", location=other)), {})
    for n in range(1, 12):
        card = disk("mmcblk1", serial=f"card {n}", location=other)
        numbers = assign(exported(first), numbers)
        numbers = assign(exported(first, card), numbers)
        assert lun_number(card, numbers) == 1
        assert lun_number(first, numbers) == 0
        assert len(numbers) == 2


def test_a_disk_that_is_there_is_not_robbed_of_its_lun_by_one_in_its_place() -> None:
    one = disk("sda", serial="A", location="1-1:1.0")
    numbers = assign(exported(one), {})
    other = disk("sdb", serial="B", location="1-1:1.0")
    numbers = assign(exported(one, other), numbers)
    assert [lun_number(each, numbers) for each in (one, other)] == [0, 1]


def test_a_disk_of_another_kind_or_place_takes_over_no_lun() -> None:
    numbers = assign(exported(disk("sda", serial="A", location="1-1:1.0")), {})
    for newcomer in (
        disk("sdb", serial="B", location="1-1"),
        disk("sdc", serial="C", location="1-1:1.01"),
        disk("sdd", serial="D"),
        disk("nvme0n1", serial="E", location="1-1:1.0"),
    ):
        numbers = assign(exported(newcomer), numbers)
        assert lun_number(newcomer, numbers) == len(numbers) - 1


def test_the_slots_of_a_card_reader_do_not_steal_from_each_other() -> None:
    # Both were there; what comes next into either finds two that were in this place.
    slots = [disk(name, serial="A", location="1-1:1.0") for name in ("sda", "sdb")]
    numbers = assign(exported(*slots), {})
    numbers = assign([], numbers)
    third = disk("sdc", serial="another reader's name", location="1-1:1.0")
    numbers = assign(exported(third), numbers)
    assert [lun_number(each, numbers) for each in (*slots, third)] == [0, 1, 2]


@given(
    st.lists(
        st.dictionaries(st.integers(0, 4), st.integers(0, 3), max_size=5), min_size=1, max_size=10
    )
)
def test_whatever_is_swapped_no_two_disks_share_a_lun_and_none_moves(
    scans: list[dict[int, int]],
) -> None:
    # Each scan says which disk is in which place.
    numbers = assign([], {})
    before: dict[Disk, int | None] = {}
    for scan in scans:
        there = [
            disk(f"nvme{place}n1", serial=f"S{place} {n}", location=f"pci{place}")
            for place, n in scan.items()
        ]
        numbers = assign(exported(*there), numbers)
        now = {each: lun_number(each, numbers) for each in there}
        assert None not in now.values()
        assert len(set(now.values())) == len(there)
        assert all(now[each] == before[each] for each in there if each in before)
        before = now
        assert len(numbers) <= 5


def test_an_empty_serial_number_or_place_is_no_identity() -> None:
    disks = [disk("sda", location="here"), disk("sdb", location="here")]
    disks += [disk("sdc", serial="A"), disk("sdd", serial="A")]
    assert len({identity(each) for each in disks}) == 4


@given(
    st.lists(
        st.lists(st.integers(0, 12), unique=True),
        min_size=1,
        max_size=8,
    )
)
def test_luns_never_move_never_collide_and_have_no_gap(scans: list[list[int]]) -> None:
    numbers = assign([], {})
    known: dict[int, int] = {}
    for scan in scans:
        disks = {n: disk(f"nvme{n}n1", serial=f"S{n}", location=f"pci{n}") for n in sorted(scan)}
        numbers = assign(exported(*disks.values()), numbers)
        for n, each in disks.items():
            number = lun_number(each, numbers)
            assert number is not None
            assert known.setdefault(n, number) == number
    assert sorted(known.values()) == list(range(len(known)))
    assert sorted(numbers.values()) == list(range(len(known)))


# The inquiry string.


def test_the_inquiry_string_says_board_disk_and_version() -> None:
    assert inquiry(BOARD, disk("nvme0n1"), "", "0.1") == "a1b2c3d4NVMe nvme0n1    0.1 "
    assert inquiry(BOARD, disk("mmcblk0"), "", "0.1") == "a1b2c3d4eMMC mmcblk0    0.1 "
    assert inquiry(BOARD, disk("mmcblk0"), "golden image", "0.1") == "a1b2c3d4golden image    0.1 "
    assert inquiry(Board(), disk("mmcblk1"), "", "0.1") == "gadgetd SD mmcblk1      0.1 "
    assert inquiry(BOARD, None, "", "0.1", 3) == "a1b2c3d4slot 3          0.1 "


@given(st.text(), st.text(), st.text(), st.text())
def test_the_inquiry_string_is_28_printable_ascii_characters(
    serial: str, name: str, label: str, revision: str
) -> None:
    text = inquiry(Board("", serial), disk(name), label, revision)
    assert len(text) == 28
    assert text.isascii()
    assert text.isprintable()


# The gadget.


def rows(count: int) -> list[Row]:
    return [Row(n, disk(f"nvme{n}n1")) for n in range(count)]


def test_the_gadget_has_the_configured_ids_and_strings() -> None:
    usb = Usb(
        vendor_id=0x1234,
        product_id=0x5678,
        device_version=0x0210,
        manufacturer="Maker",
        product="Thing",
        serial="42",
        max_power_ma=500,
    )
    value = gadget(Config(usb=usb), BOARD, rows(1), "0.1")
    for field in Gadget._fields:
        if field not in ("functions", "name"):
            assert getattr(value, field) == getattr(usb, field), field


def test_the_serial_number_is_the_board_s_unless_configured() -> None:
    assert gadget(Config(), BOARD, rows(1), "0.1").serial == "10000000a1b2c3d4"
    assert gadget(Config(), Board(), rows(1), "0.1").serial == NO_SERIAL
    assert gadget(Config(usb=Usb(serial="")), BOARD, rows(1), "0.1").serial == ""


@pytest.mark.parametrize(
    ("count", "most", "each"),
    [
        (1, 7, [1]),
        (2, 7, [1, 1]),
        (7, 7, [1] * 7),
        (8, 7, [2, 1, 1, 1, 1, 1, 1]),
        (10, 5, [2, 2, 2, 2, 2]),
        (4, 1, [4]),
        (8, 1, [8]),
        (9, 1, [5, 4]),  # A host looks at eight of one function.
        (40, 7, [6, 6, 6, 6, 6, 5, 5]),
        (56, 7, [8] * 7),
        (57, 7, [8, 7, 7, 7, 7, 7, 7, 7]),
    ],
)
def test_each_disk_has_a_function_and_beyond_the_most_they_share_evenly(
    count: int, most: int, each: list[int]
) -> None:
    value = gadget(Config(), BOARD, rows(count), "0.1", most_functions=most)
    assert [function.name for function in value.functions] == [
        f"mass_storage.{n}" for n in range(len(each))
    ]
    assert [len(function.luns) for function in value.functions] == each
    assert [lun.number for lun in value.luns] == list(range(count))
    assert [lun.file for lun in value.luns] == [Path(f"/dev/nvme{n}n1") for n in range(count)]
    # As the kernel's directories are read back.
    there = {
        function.name: [f"lun.{n}" for n in range(len(function.luns))]
        for function in value.functions
    }
    assert lun_places(there) == {
        lun.number: f"{function.name}/lun.{n}"
        for function in value.functions
        for n, lun in enumerate(function.luns)
    }


@pytest.mark.parametrize(
    "there",
    [
        {"mass_storage.0": ["lun.0", "lun.5"]},
        {"mass_storage.1": ["lun.0"]},
        {"mass_storage.x": ["lun.0"]},
        {"mass_storage.0": ["lun.0"], "mass_storage.1": ["lun.0", "lun.1"]},
        {"mass_storage.0": [f"lun.{n}" for n in range(9)]},
    ],
)
def test_luns_that_are_not_numbered_as_ours_are_none_of_ours(there: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="LUNs"):
        lun_places(there)


def test_no_disk_and_no_slot_is_no_function() -> None:
    assert gadget(Config(), BOARD, [], "0.1").functions == ()


def test_slots_without_a_disk_are_numbered_from_0() -> None:
    assert [lun.number for lun in gadget(Config(slots=2), BOARD, [], "0.1").luns] == [0, 1]


def test_what_is_printable_stays_in_the_inquiry_string() -> None:
    assert inquiry(BOARD, None, " a~\x7f", "0.1")[8:12] == " a~?"
    assert "slot 0" in inquiry(BOARD, None, "", "0.1")


def test_a_lun_says_its_label_and_the_version() -> None:
    row = Row(0, disk("nvme0n1"), label="Camera")
    (labelled, empty) = gadget(Config(slots=1), BOARD, [row], "0.1").luns
    assert labelled.inquiry == inquiry(BOARD, row.disk, "Camera", "0.1")
    assert empty.inquiry == inquiry(BOARD, None, "", "0.1", 1)
    assert labelled.inquiry.endswith("0.1 ")


def test_slots_are_kept_empty_after_the_disks() -> None:
    luns = gadget(Config(slots=2), BOARD, rows(1), "0.1").luns
    assert [lun.file for lun in luns] == [Path("/dev/nvme0n1"), None, None]
    assert [lun.inquiry[8:14] for lun in luns[1:]] == ["slot 1", "slot 2"]


@pytest.mark.parametrize(("standing", "disks", "expected"), [(3, 2, 3), (3, 3, 3), (3, 4, 4)])
def test_a_disk_that_takes_an_empty_slot_adds_no_lun(
    standing: int, disks: int, expected: int
) -> None:
    luns = gadget(Config(slots=2), BOARD, rows(disks), "0.1", luns=standing).luns
    assert len(luns) == expected
    assert [lun.file is not None for lun in luns] == [n < disks for n in range(expected)]


def test_a_gap_is_an_empty_lun_and_a_disk_that_left_keeps_its_name() -> None:
    gone = Row(0, disk("mmcblk0"), gone=True)
    luns = gadget(Config(), BOARD, [Row(3, disk("nvme0n1")), gone], "0.1").luns
    assert [lun.file for lun in luns] == [None, None, None, Path("/dev/nvme0n1")]
    assert "eMMC mmcblk0" in luns[0].inquiry


def test_acm_comes_last_and_only_if_configured() -> None:
    plain = gadget(Config(), BOARD, rows(9), "0.1")
    with_acm = gadget(Config(usb=Usb(acm=True)), BOARD, rows(9), "0.1")
    assert with_acm.functions == (*plain.functions, Function(ACM))


def test_a_read_only_disk_has_a_read_only_lun() -> None:
    luns = gadget(
        Config(),
        BOARD,
        [
            Row(0, disk("mmcblk0", read_only=True)),
            Row(1, disk("nvme0n1"), read_only=True),
            Row(2, disk("nvme1n1")),
        ],
        "0.1",
    ).luns
    assert [lun.read_only for lun in luns] == [True, True, False]


# What has to change.

STANDING = gadget(Config(usb=Usb(acm=True)), BOARD, rows(3), "0.1")


def test_equal_gadgets_need_no_change() -> None:
    changes = compare(STANDING, STANDING._replace())
    assert changes == Changes()
    assert not changes


def test_no_gadget_is_built() -> None:
    assert compare(None, STANDING) == Changes(rebuild=True)


@pytest.mark.parametrize("field", sorted({*Gadget._fields} - {"functions"}))
def test_another_id_or_string_is_a_rebuild(field: str) -> None:
    value = getattr(STANDING, field)
    change: dict[str, Any] = {field: value + 1 if isinstance(value, int) else value + "x"}
    assert compare(STANDING, STANDING._replace(**change)) == Changes(rebuild=True)


def test_a_lun_that_differs_is_changed_in_place() -> None:
    first, second, third = STANDING.luns
    changed = (second._replace(read_only=True), third._replace(file=None))
    functions = (*deal((first, *changed), 7), Function(ACM))
    assert compare(STANDING, STANDING._replace(functions=functions)) == Changes(luns=changed)


@pytest.mark.parametrize("count", [4, 9])
@pytest.mark.parametrize("most", [1, 3, 7])
def test_a_lun_more_is_an_extension_and_one_less_a_rebuild(count: int, most: int) -> None:
    usb = Config(usb=Usb(acm=True))
    before = gadget(usb, BOARD, rows(3), "0.1", most_functions=min(most, 3))
    more = gadget(usb, BOARD, rows(count), "0.1", most_functions=most)
    if (count, most) != (9, 1):
        assert compare(before, more) == Changes(extend=True)
    else:
        assert compare(before, more) == Changes(rebuild=True), "two share what one has had"
    assert compare(more, before) == Changes(rebuild=True)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_a_lun_that_is_to_be_in_another_function_is_a_rebuild(before: int, after: int) -> None:
    one = gadget(Config(), BOARD, rows(4), "0.1", most_functions=before)
    other = gadget(Config(), BOARD, rows(4), "0.1", most_functions=after)
    assert compare(one, other) == Changes(rebuild=True)
    assert compare(one, as_it_stands(other, one)) == Changes()


def test_acm_is_added_by_extension_and_removed_by_rebuild() -> None:
    plain = STANDING._replace(functions=STANDING.storage)
    assert compare(plain, STANDING) == Changes(extend=True)
    assert compare(STANDING, plain) == Changes(rebuild=True)


def test_a_lun_s_number_does_not_depend_on_its_function() -> None:
    assert Lun(9, None, "") == Lun(9, None, "")
    assert [lun.number for lun in gadget(Config(), BOARD, rows(10), "0.1").luns] == list(range(10))


# What an earlier gadgetd has built in another way.


def in_functions(most: int, count: int = 3, config: Config | None = None) -> Gadget:
    return gadget(config or Config(), BOARD, rows(count), "0.1", most_functions=most)


def test_luns_stay_in_the_one_function_in_which_they_stand() -> None:
    assert undisturbed(in_functions(7), in_functions(1)) == in_functions(1)
    assert undisturbed(in_functions(7), in_functions(2)) == in_functions(2)


def test_luns_stay_though_they_would_be_dealt_to_as_many_functions_in_another_way() -> None:
    wanted = in_functions(2)
    first, second = wanted.functions
    zero, two, one = *first.luns, *second.luns
    dealt = (first._replace(luns=(zero, one)), second._replace(luns=(two,)))
    standing = wanted._replace(functions=dealt)
    assert undisturbed(wanted, standing) == standing


def test_a_lun_that_differs_is_changed_where_it_stands() -> None:
    changed = [*rows(2), Row(2, disk("nvme7n1"))]
    wanted = gadget(Config(), BOARD, changed, "0.1")
    one = gadget(Config(), BOARD, changed, "0.1", most_functions=1)
    assert undisturbed(wanted, in_functions(1)) == one


@pytest.mark.parametrize(
    "standing",
    [
        in_functions(1, 2),  # There is a LUN more: the host is disconnected anyhow.
        in_functions(1, 4),
        in_functions(1)._replace(product="other"),
        in_functions(1, config=Config(usb=Usb(acm=True))),
    ],
    ids=["one LUN fewer", "one LUN more", "another name", "a serial port"],
)
def test_where_the_host_is_disconnected_anyhow_each_disk_has_its_function(
    standing: Gadget,
) -> None:
    assert undisturbed(in_functions(7), standing) == in_functions(7)


def test_a_serial_port_that_comes_gives_each_disk_its_function() -> None:
    wanted = in_functions(7, config=Config(usb=Usb(acm=True)))
    assert undisturbed(wanted, in_functions(1)) == wanted


def test_more_functions_than_are_wanted_do_not_stay() -> None:
    assert undisturbed(in_functions(1), in_functions(3)) == in_functions(1)
