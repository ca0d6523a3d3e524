"""What `gadgetd check` warns of: nothing that is not certain."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.config.load import parse
from gadgetd.config.pitfalls import pitfalls
from gadgetd.config.settings import Config, DiskMatch, DiskRule
from gadgetd.disks.disk import Disk, Found, Kind
from gadgetd.export.choosing import choose

FILE = Path("gadgetd.yaml")


def warnings(text: str) -> list[str]:
    return list(pitfalls(parse(text, FILE)))


def rules(*lines: str) -> str:
    return "disks:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("kind: nvme", 'kind: nvme, serial: "S4*"'),
        ("kind: [nvme, sd]", "kind: sd"),
        ('name: "*"', "kind: usb"),
        ('name: "nvme*"', "name: nvme0n1"),
        ('name: "nvme*"', 'name: "nvme?n1"'),
        ('name: "nvme*"', 'name: "nvme*"'),
        ("kind: nvme", 'name: "nvme*"'),
        ("kind: [emmc, sd]", "name: mmcblk0"),
        ('model: "Sam*"', 'model: "Samsung 9*", kind: nvme'),
        ("kind: nvme, max_size: 2TB", "kind: nvme, max_size: 1TB"),
        ("kind: nvme, min_size: 1GB", "kind: nvme, min_size: 2GB, max_size: 4GB"),
    ],
)
def test_a_rule_that_an_earlier_one_leaves_nothing_can_never_match(first: str, second: str) -> None:
    (warning,) = warnings(rules(first, second))
    assert warning.startswith("gadgetd.yaml:3: this rule can never match")
    assert "line 2 took already" in warning


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('kind: nvme, serial: "S4*"', "kind: nvme"),
        ("kind: sd", "kind: [nvme, sd]"),
        ('name: "nvme*"', "kind: usb"),
        ('name: "nvme?n1"', 'name: "nvme*"'),
        ('name: "*n1"', 'name: "nvme*"'),
        ('name: "mmc*"', 'name: "*"'),
        ('model: "Sam*"', 'model: "S*"'),
        ("kind: nvme, max_size: 1TB", "kind: nvme"),
        ("kind: nvme, min_size: 2GB", "kind: nvme, min_size: 1GB"),
        ("kind: nvme, read_only: true", 'kind: usb, label: "x", serial: "1"'),
    ],
)
def test_a_rule_that_may_still_match_is_not_warned_of(first: str, second: str) -> None:
    assert warnings(rules(first, second)) == []


def test_rules_together_can_leave_nothing() -> None:
    (warning,) = warnings(rules("kind: emmc", "kind: sd", 'name: "mmcblk*"'))
    assert "lines 2 and 3 took already" in warning


def test_what_is_excluded_leaves_nothing_either() -> None:
    (warning,) = warnings("exclude:\n  - kind: usb\ndisks:\n  - kind: usb\n  - kind: nvme\n")
    assert warning.startswith("gadgetd.yaml:4: this rule can never match")


def test_a_rule_of_exclude_that_another_makes_needless_is_told() -> None:
    (warning,) = warnings('exclude:\n  - kind: usb\n  - {kind: usb, model: "x"}\n')
    assert warning.startswith("gadgetd.yaml:3: this rule of exclude has no effect")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ('name: "nvme*", kind: emmc', "both this name and this kind"),
        ("name: mmcblk0, kind: [nvme, usb]", "both this name and this kind"),
        ("name: vda", "such a name"),
        ('name: "loop*", kind: other', "such a name"),
    ],
)
def test_a_rule_that_contradicts_itself_can_never_match(rule: str, why: str) -> None:
    (warning,) = warnings(rules(rule))
    assert why in warning


def test_one_label_in_two_rules_is_told() -> None:
    (warning,) = warnings(rules('kind: emmc, label: "Boot"', 'name: nvme0n1, label: "Boot"'))
    assert 'gadgetd.yaml:3: the label "Boot" stands in line 2 too' in warning


@pytest.mark.parametrize("asked", ["kind: nvme", 'serial: "S4*"', 'name: "*"', "kind: [sd, usb]"])
def test_a_label_for_a_rule_that_several_disks_may_match_is_told(asked: str) -> None:
    (warning,) = warnings(rules(f'{asked}, label: "Data"'))
    assert 'the label "Data" goes to every disk' in warning


@pytest.mark.parametrize(
    "asked", ["kind: [emmc, sd]", "kind: nvme, serial: S4EV", "name: nvme0n1", 'name: "mmcblk*"']
)
def test_a_label_for_one_disk_is_as_it_should_be(asked: str) -> None:
    assert warnings(rules(f'{asked}, label: "Data"')) == []


def test_the_defaults_have_no_pitfall() -> None:
    assert list(pitfalls(Config())) == []


_PATTERNS = st.sampled_from(
    [None, "*", "nvme*", "nvme0n1", "nvme?n1", "nvme[01]n1", "mmcblk0", "m*", "*0", "sd?", "sda"]
)
_MATCHES = st.builds(
    DiskMatch,
    name=_PATTERNS,
    kinds=st.lists(st.sampled_from(Kind), unique=True, max_size=3).map(tuple),
    serial=st.sampled_from([None, "*", "S*", "S1", "T?"]),
    min_size_bytes=st.sampled_from([None, 0, 5]),
    max_size_bytes=st.sampled_from([None, 5, 9]),
)
_DISKS = [
    Disk(name, kind, Path("/dev/x"), size, serial=serial)
    for name, kinds in (
        ("nvme0n1", (Kind.NVME,)),
        ("nvme1n1", (Kind.NVME,)),
        ("mmcblk0", (Kind.EMMC, Kind.SD)),
        ("sda", (Kind.USB, Kind.SATA, Kind.OTHER)),
    )
    for kind in kinds
    for size in (1, 5, 7, 10)
    for serial in ("", "S1", "S2", "T1")
]


@given(
    st.lists(st.builds(DiskRule, _MATCHES), min_size=1, max_size=4),
    st.lists(_MATCHES, max_size=2),
)
def test_no_rule_that_decides_for_a_disk_is_said_never_to_match(
    given_rules: list[DiskRule], excluded: list[DiskMatch]
) -> None:
    numbered = [
        rule._replace(match=rule.match._replace(line=20 + at))
        for at, rule in enumerate(given_rules)
    ]
    config = Config(
        source=FILE,
        disks=tuple(numbered),
        exclude=tuple(match._replace(line=2 + at) for at, match in enumerate(excluded)),
    )
    never = {int(warning.split(":")[1]) for warning in pitfalls(config) if "never match" in warning}
    used = {
        line
        for disk in _DISKS
        for verdict in choose([Found(disk)], config)
        if verdict.exported
        for line in range(20, 30)
        if f"{FILE}:{line}" in verdict.reason
    }
    assert not never & used
