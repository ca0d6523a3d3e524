"""The promises of config.settings: what a file means; every error says where and what."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gadgetd.config.load import SIZE_LIMIT, load, load_for, parse
from gadgetd.config.options import TABLE, Option
from gadgetd.config.settings import Config, Consoles, DiskMatch, DiskRule, OnEjected, UartLines
from gadgetd.disks.disk import Disk, Kind
from gadgetd.errors import ConfigError

FILE = Path("/etc/gadgetd.yaml")
EXAMPLE = Path(__file__).parents[3] / "rootfs-overlay/etc/gadgetd.yaml.example"
LONGEST_SENTENCE = 220
LOADERS = ("CSafeLoader", "SafeLoader")


@contextmanager
def yaml_loader(name: str) -> Iterator[None]:
    """PyYAML with libyaml, or as it is where it was built without."""
    fast = getattr(yaml, "CSafeLoader", None)
    if name == "CSafeLoader" and fast is None:
        pytest.skip("PyYAML without libyaml")
    if name == "SafeLoader" and fast is not None:
        del yaml.CSafeLoader
    try:
        yield
    finally:
        if fast is not None:
            yaml.CSafeLoader = fast  # type: ignore[misc]


@pytest.fixture(params=LOADERS)
def each_loader(request: pytest.FixtureRequest) -> Iterator[None]:
    with yaml_loader(request.param):
        yield


def refusal(text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    return caught.value


def disk(
    name: str = "nvme0n1", kind: Kind = Kind.NVME, size_bytes: int = 10**12, model: str = "Foo 980"
) -> Disk:
    return Disk(name, kind, Path("/dev") / name, size_bytes, model=model, serial="S4EV0001")


# What a file means


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only\n# comments\n", "---\n", "{}", "\ufeff", "---\n..."]
)
def test_an_empty_file_means_the_defaults(text: str) -> None:
    assert parse(text, FILE) == Config(source=FILE)
    assert parse(text.encode(), FILE) == Config(source=FILE)


def test_the_defaults_export_emmc_sd_and_nvme_and_nothing_else() -> None:
    (rule,) = Config().disks
    exported = {kind for kind in Kind if rule.match.matches(disk(kind=kind))}
    assert exported == {Kind.EMMC, Kind.SD, Kind.NVME}
    assert Config().exclude == ()


def _without_places(config: Config) -> Config:
    rules = tuple(rule._replace(match=rule.match._replace(line=0)) for rule in config.disks)
    matches = tuple(match._replace(line=0) for match in config.exclude)
    return config._replace(source=None, disks=rules, exclude=matches)


@pytest.mark.usefixtures("each_loader")
def test_every_option_reaches_its_field() -> None:
    config = parse(
        """
disks:
  - name: "nvme*"
    kind: [nvme, usb]
    model: Foo *
    serial: "1234"
    min_size: 64 GB
    max_size: 1.5TB
    read_only: true
    label: Boot disk
    on_ejected: reinsert
  - kind: sd
exclude:
  - max_size: 8MiB
usb:
  udc: fe980000.usb
  vendor_id: 0x1209
  product_id: 1
  device_version: "0x0234"
  manufacturer: Me
  product: It
  serial: "00ff"
  max_power_ma: 500
  functions: 4
  acm: true
slots: 2
on_ejected: poweroff
reinsert_after_s: 0.5
led: led0
consoles: {hdmi: none, uart: /dev/ttyAMA0, uart_lines: json}
wait: {disks_s: 0, mmc_s: 1, udc_s: 3600}
writeback: {dirty_bytes: 1MiB, dirty_background_bytes: 65536}
""",
        FILE,
    )
    assert config.disks == (
        DiskRule(
            DiskMatch(
                name="nvme*",
                kinds=(Kind.NVME, Kind.USB),
                model="Foo *",
                serial="1234",
                min_size_bytes=64 * 10**9,
                max_size_bytes=1_500_000_000_000,
                line=3,
            ),
            read_only=True,
            label="Boot disk",
            on_ejected=OnEjected.REINSERT,
        ),
        DiskRule(DiskMatch(kinds=(Kind.SD,), line=12)),
    )
    assert config.exclude == (DiskMatch(max_size_bytes=8 << 20, line=14),)
    assert [getattr(config.usb, name) for name in config.usb._fields] == [
        "fe980000.usb", 0x1209, 1, 0x0234, "Me", "It", "00ff", 500, 4, True,
    ]  # fmt: skip
    assert (config.slots, config.on_ejected, config.reinsert_after_s) == (2, "poweroff", 0.5)
    assert config.led == "led0"
    assert config.consoles == Consoles("none", "/dev/ttyAMA0", UartLines.JSON)
    assert (config.wait.disks_s, config.wait.mmc_s, config.wait.udc_s) == (0, 1, 3600)
    assert config.writeback.dirty_bytes == 1 << 20
    assert config.writeback.dirty_background_bytes == 64 << 10


def test_a_rule_knows_its_line_and_the_configuration_can_cite_it() -> None:
    config = parse("disks:\n  - name: a\n\n  - label: x\n    name: b\nexclude: [\n{name: c}]", FILE)
    assert [config.where(rule) for rule in config.disks] == [f"{FILE}:2", f"{FILE}:4"]
    assert config.where(config.exclude[0]) == f"{FILE}:7"
    assert Config().where(Config().disks[0]) == "the default"
    assert parse("slots: 1", FILE).where(Config().disks[0]) == "the default"


def test_an_empty_list_exports_nothing() -> None:
    assert parse("disks: []", FILE).disks == ()


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("0x1000", 4096),
        ("1B", 1),
        ("1 KB", 1000),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1.5kib", 1536),
        ('"8MiB"', 8 << 20),
        ("1.1TB", 1_100_000_000_000),
        ("0.3KiB", 307),
        ("1024TiB", 1 << 50),
    ],
)
def test_sizes(written: str, size_bytes: int) -> None:
    assert (
        parse(f"exclude: [{{min_size: {written}}}]", FILE).exclude[0].min_size_bytes == size_bytes
    )


@settings(deadline=None)
@given(st.integers(0, 1 << 50))
def test_a_size_written_by_the_documentation_reads_back(size_bytes: int) -> None:
    written = next(row for row in TABLE if row.key == "disks").options[4].value.yaml(size_bytes)  # type: ignore[union-attr]
    (match,) = parse(f"exclude: [{{max_size: {written}}}]", FILE).exclude
    assert match.max_size_bytes == size_bytes


@pytest.mark.parametrize("written", ["0x0A5c", "2652", '"0x0a5c"', "0xa5c", "+2652"])
def test_ids(written: str) -> None:
    assert parse(f"usb: {{vendor_id: {written}}}", FILE).usb.vendor_id == 0x0A5C


@pytest.mark.parametrize(
    ("written", "limit_s"), [("5", 5), ("0", 0), ("-0", 0), (".5", 0.5), ("2.", 2)]
)
def test_seconds(written: str, limit_s: float) -> None:
    assert parse(f"wait: {{udc_s: {written}}}", FILE).wait.udc_s == limit_s


# What a rule matches


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ('name: "nvme*"', True),
        ("name: nvme", False),
        ('name: "NVME*"', False),
        ('name: "[!m]vme?n[0-3]"', True),
        ("kind: nvme", True),
        ("kind: [sd, usb]", False),
        ('model: "*980"', True),
        ('model: ""' if False else 'model: "Foo"', False),
        ('serial: "S4EV*"', True),
        ("min_size: 1TB", True),
        ("min_size: 1000000000001", False),
        ("max_size: 1TB", True),
        ("max_size: 999GB", False),
        ('{name: "nvme*", kind: sd}', False),
        ('{name: "nvme*", kind: nvme, min_size: 1GB, max_size: 2TB, serial: "*1"}', True),
    ],
)
def test_a_disk_must_be_all_that_a_rule_asks(rule: str, matches: bool) -> None:
    (match,) = parse(f"exclude:\n  - {rule}", FILE).exclude
    assert match.matches(disk()) is matches


def test_a_disk_without_a_model_matches_only_patterns_that_take_nothing() -> None:
    unknown = disk(model="")
    assert DiskMatch(model="*").matches(unknown)
    assert not DiskMatch(model="?*").matches(unknown)


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128))
@example("[[:alpha:]]*")
@example("[]")
@example("[!]")
@example("[!]]")
@example("[a&&b||c~~d--e]")
@example("*a" * 60)
def test_a_pattern_that_was_accepted_can_be_matched(pattern: str) -> None:
    quoted = pattern.replace("'", "''")
    try:
        (match,) = parse(f"exclude: [{{model: '{quoted}'}}]", FILE).exclude
    except ConfigError:
        return
    match.matches(disk(model="a" * 40))


# Errors


ERRORS = [
    # text, line, column, key, words of the sentence
    ("slots: 1\nfoo: 1", 2, 1, "foo", "unknown key; expected one of disks, exclude, boards"),
    ("usb:\n  vender_id: 1", 2, 3, "usb.vender_id", "did you mean vendor_id?"),
    ("exclude: [{name: a, read_only: true}]", 1, 21, "exclude[0].read_only", "unknown key"),
    ("slots: 1\nslots: 2", 2, 1, "slots", "twice, first in line 1"),
    ("disks:\n- name: a\n  name: b", 3, 3, "disks[0].name", "twice, first in line 2"),
    ("'slots': 1\nslots: 2", 2, 1, "slots", "twice"),
    ("? [a]\n: 1", 1, 3, "", "stands where a key should"),
    ("[1]", 1, 1, "", "this is a list; expected a mapping of disks"),
    ("hello", 1, 1, "", "'hello' is a single value; expected a mapping"),
    ("null", 1, 1, "", "expected a mapping"),
    ("''", 1, 1, "", "expected a mapping"),
    # Lists of rules
    ("disks: nvme0n1", 1, 8, "disks", "expected a list of rules"),
    ("disks:\nslots: 1", 1, 7, "disks", "there is no value; expected a list"),
    ("disks: {name: a}", 1, 8, "disks", "this is a mapping; expected a list"),
    ("disks: [sda]", 1, 9, "disks[0]", "'sda' is a single value; expected a mapping"),
    ("disks:\n  - {}", 2, 5, "disks[0]", 'matches every disk; expected one of name, kind'),
    ("disks:\n  - label: x", 2, 5, "disks[0]", 'matches every disk'),
    ("exclude: [{}]", 1, 11, "exclude[0]", "matches every disk"),
    ("disks:\n- min_size: 2GB\n  max_size: 1GB", 3, 13, "disks[0].max_size", "at least min_size"),
    # Kinds
    ("disks:\n  - name: a\n    kind: nvem", 3, 11, "disks[0].kind",
     "'nvem' is not a kind (did you mean nvme?); expected one of emmc, sd, nvme, sata, usb, other"),
    ("disks: [{kind: [sd, NVMe]}]", 1, 21, "disks[0].kind[1]", "'NVMe' is not a kind"),
    ("disks: [{kind: [sd, sd]}]", 1, 21, "disks[0].kind[1]", "sd is there twice"),
    ("disks: [{kind: []}]", 1, 16, "disks[0].kind", "the list is empty"),
    ("disks: [{kind: [[sd]]}]", 1, 17, "disks[0].kind[0]", "this is a list"),
    ("disks: [{kind: {sd: 1}}]", 1, 16, "disks[0].kind", "this is a mapping"),
    # Patterns
    ("disks: [{name: ''}]", 1, 16, "disks[0].name", "empty; expected a pattern"),
    ("disks: [{name: 'a[b'}]", 1, 16, "disks[0].name", "'[' without its ']'"),
    ("disks: [{name: '[]'}]", 1, 16, "disks[0].name", "'[' without its ']'"),
    ("disks: [{name: '[!]'}]", 1, 16, "disks[0].name", "'[' without its ']'"),
    ("disks: [{name: '[a]['}]", 1, 16, "disks[0].name", "'[' without its ']'"),
    ("disks: [{name: 'sd[z-a]'}]", 1, 16, "disks[0].name", "range z-a backwards"),
    ("disks: [{name: /dev/sda}]", 1, 16, "disks[0].name", "holds a '/'"),
    ("disks: [{name: 0}]", 1, 16, "disks[0].name", "put it in quotes"),
    ("disks: [{name: *nvme}]", 1, 16, "disks[0].name",
     "quotes around a pattern that begins with *"),
    ("disks:\n- name: *", 2, 10, "", "put the pattern in quotes"),
    ("disks:\n- name: [ab]*", 2, 13, "", "in quotes"),
    ("disks:\n- name: [ab]c*", 2, 13, "", "use quotes"),
    # Texts
    ("disks: [{name: a, label: on}]", 1, 26, "disks[0].label",
     "'on' is a boolean to YAML: put it in quotes"),
    ("disks: [{name: a, label: 1e3}]", 1, 26, "disks[0].label", "put it in quotes"),
    ("disks: [{name: a, label: 0o17}]", 1, 26, "disks[0].label", "put it in quotes"),
    ("disks: [{name: a, label: 2024-01-01}]", 1, 26, "disks[0].label", "a date to YAML"),
    ("disks: [{name: a, label: 12:30:00}]", 1, 26, "disks[0].label", "put it in quotes"),
    ("disks: [{name: a, label: =}]", 1, 26, "disks[0].label", "put it in quotes"),
    ("disks: [{name: a, label: ~}]", 1, 26, "disks[0].label", "no value"),
    ("disks:\n- name: a\n  label: #1", 3, 9, "disks[0].label", "no value"),
    ("disks: [{name: a, label: Größe}]", 1, 26, "disks[0].label", "not printable ASCII"),
    ('disks: [{name: a, label: "a\\tb"}]', 1, 26, "disks[0].label", "not printable ASCII"),
    ("disks: [{name: a, label: ' a'}]", 1, 26, "disks[0].label", "begins or ends with a space"),
    ("disks: [{name: a, label: seventeen letters}]", 1, 26, "disks[0].label",
     "17 characters, more than 16; expected 1 to 16"),
    ("usb: {serial: 1000000012345678}", 1, 15, "usb.serial", "put it in quotes"),
    ("usb: {serial: Auto}", 1, 15, "usb.serial", "'Auto' is written auto"),
    ("usb: {product: ''}", 1, 16, "usb.product", "empty"),
    ("usb: {manufacturer: [a]}", 1, 21, "usb.manufacturer", "this is a list"),
    # Words and names
    ("disks: [{name: a, on_ejected: poweroff}]", 1, 31, "disks[0].on_ejected",
     "expected one of stay, reinsert"),
    ("on_ejected: no", 1, 13, "on_ejected", "'no' is a boolean"),
    ("on_ejected: 1", 1, 13, "on_ejected", "'1' is a number"),
    ("led: off", 1, 6, "led", "'off' is a boolean; expected auto, none or"),
    ("led: None", 1, 6, "led", "'None' is written none"),
    ("led: ..", 1, 6, "led", "wrong form"),
    ("led: a/b", 1, 6, "led", "wrong form"),
    ("usb: {udc: ../x}", 1, 12, "usb.udc", "wrong form"),
    ("consoles: {hdmi: tty1}", 1, 18, "consoles.hdmi", "such as /dev/tty1"),
    ("consoles: {uart: /dev/../etc/passwd}", 1, 18, "consoles.uart", "wrong form"),
    ("consoles: {uart: /dev/}", 1, 18, "consoles.uart", "wrong form"),
    ("consoles: {uart_lines: none}", 1, 24, "consoles.uart_lines",
     "'none' is not a form of lines; expected one of both, text, json"),
    ("consoles: {hdmi: }", 1, None, "consoles.hdmi", "there is no value"),
    ("consoles: auto", 1, 11, "consoles", "expected a mapping of hdmi, uart"),
    # Flags
    ("usb: {acm: yes}", 1, 12, "usb.acm", "'yes' is not written plainly; expected true or false"),
    ("usb: {acm: 'true'}", 1, 12, "usb.acm", "is text, being in quotes"),
    ("usb: {acm: 1}", 1, 12, "usb.acm", "'1' is a number; expected true or false"),
    ("usb: {acm: True}", 1, 12, "usb.acm", "expected true or false"),
    ("usb: {acm: {}}", 1, 12, "usb.acm", "this is a mapping"),
    # Numbers
    ("slots: 9", 1, 8, "slots", "'9' is too large; expected a whole number from 0 to 8"),
    ("slots: -1", 1, 8, "slots", "too small"),
    ("slots: two", 1, 8, "slots", "'two' is text"),
    ("slots: '2'", 1, 8, "slots", "'2' is text, being in quotes"),
    ("slots: 2.0", 1, 8, "slots", "not a whole number"),
    ("slots: 010", 1, 8, "slots", "no leading 0"),
    ("slots: 0b1", 1, 8, "slots", "not plain"),
    ("slots: 0o7", 1, 8, "slots", "expected a whole number"),
    ("slots: 1_0", 1, 8, "slots", "underscore"),
    ("slots: true", 1, 8, "slots", "'true' is a boolean"),
    ("slots: null", 1, 8, "slots", "'null' is no value"),
    ("slots: .inf", 1, 8, "slots", "not a whole number"),
    ("slots: " + "9" * 6000, 1, 8, "slots", "expected a whole number"),
    ("usb: {max_power_ma: 1}", 1, 21, "usb.max_power_ma", "from 2 to 500"),
    ("usb: {max_power_ma: 501}", 1, 21, "usb.max_power_ma", "too large"),
    ("usb: {functions: 0}", 1, 18, "usb.functions", "from 1 to 15"),
    ("usb: {functions: 16}", 1, 18, "usb.functions", "too large"),
    ("usb: {functions: many}", 1, 18, "usb.functions", "auto or a whole number from 1 to 15"),
    ("usb: {vendor_id: 0x10000}", 1, 18, "usb.vendor_id", "expected 0x0000 to 0xffff"),
    ("usb: {vendor_id: 0a5c}", 1, 18, "usb.vendor_id", "lacks its 0x"),
    ("usb: {vendor_id: 0104}", 1, 18, "usb.vendor_id", "lacks its 0x"),
    ("usb: {vendor_id: '2652'}", 1, 18, "usb.vendor_id", "text, being in quotes"),
    ("usb: {vendor_id: -1}", 1, 18, "usb.vendor_id", "too small"),
    ("usb: {device_version: 0x010a}", 1, 23, "usb.device_version", "a digit over 9"),
    ("wait: {udc_s: -0.1}", 1, 15, "wait.udc_s", "too small"),
    ("wait: {udc_s: 3601}", 1, 15, "wait.udc_s", "too large"),
    ("wait: {udc_s: .inf}", 1, 15, "wait.udc_s", "'.inf' is not written plainly; expected"),
    ("wait: {udc_s: 1_000}", 1, 15, "wait.udc_s", "'1_000' is not written plainly; expected"),
    ("wait: {udc_s: .nan}", 1, 15, "wait.udc_s", "a number of seconds"),
    ("wait: {udc_s: 5s}", 1, 15, "wait.udc_s", "'5s' is text"),
    ("wait: {udc_s: '5'}", 1, 15, "wait.udc_s", "text, being in quotes"),
    # Sizes
    ("exclude: [{min_size: 8M}]", 1, 22, "exclude[0].min_size", "'8M' is not a size"),
    ("exclude: [{min_size: 1.5}]", 1, 22, "exclude[0].min_size", "'1.5' has no unit"),
    ("exclude: [{min_size: -1GB}]", 1, 22, "exclude[0].min_size", "not a size"),
    ("exclude: [{min_size: 1025TiB}]", 1, 22, "exclude[0].min_size", "too large"),
    ("exclude: [{min_size: 1_000}]", 1, 22, "exclude[0].min_size", "underscore"),
    ("exclude: [{min_size: '1000'}]", 1, 22, "exclude[0].min_size", "not a size"),
    ("exclude: [{min_size: yes}]", 1, 22, "exclude[0].min_size", "a boolean"),
    ("writeback: {dirty_bytes: 4096}", 1, 26, "writeback.dirty_bytes", "from 64KiB to 1GiB"),
    ("writeback: {dirty_bytes: 4MiB}", 1, 26, "writeback.dirty_bytes",
     "more than dirty_background_bytes (4MiB, its default)"),
    ("writeback: {dirty_background_bytes: 8MiB}", 1, 37, "writeback.dirty_background_bytes",
     "less than dirty_bytes (8MiB, its default)"),
    ("writeback:\n  dirty_background_bytes: 1MB\n  dirty_bytes: 1MB", 2, 27,
     "writeback.dirty_background_bytes", "less than dirty_bytes (1MB)"),
    # YAML beyond the plain
    ("a: &x 1\nb: *x", 1, 4, "a", "anchor"),
    ("&x {}", 1, 1, "", "anchor"),
    ("<<: {slots: 1}", 1, 1, "", "merge key"),
    ("led: !!str on", 1, 6, "led", "the tag '!!str'"),
    ("led: ! on", 1, 6, "led", "the tag '!'"),
    ("led: !!python/object/apply:os.system [ls]", 1, 6, "led", "python/object/apply:os.system"),
    ("disks:\n- kind: !!binary sd", 2, 9, "disks[0].kind", "!!binary"),
    ("--- {}\n---\n{}", 2, 1, "", "second document"),
    ("slots: 1\n...\nslots: 2", 3, 1, "", "text after the end of the document"),
    ("[" * 60_000, 1, 9, "[0][0][0][0][0][0][0][0]", "nested deeper"),
    ("{a: " * 16_000, 1, 33, "a.a.a.a.a.a.a.a", "nested deeper"),
    ("- " * 400, 1, 17, "[0][0][0][0][0][0][0][0]", "nested deeper"),
    # YAML that does not parse
    ("slots: 1\n\tled: x", 2, 1, "", "a tab cannot indent"),
    ("slots: 1\nled: 'x", 2, 8, "", "a quote is not closed"),
    ("slots: @1", 1, 8, "", "@ cannot begin a value: put the text in quotes"),
    ("slots: %1", 1, 8, "", "% cannot begin a value"),
    ("slots: 1: 2", 1, 9, "", "':' out of place"),
    ("usb: {acm: true", None, None, "", "does not parse"),
    ("disks:\n  - name: a\n label: b", 3, 2, "", "wrong indentation"),
    ('led: "\\U99999999"', 1, None, "", "does not parse"),
    ("%YAML 2.0\n---\n{}", 1, None, "", "does not parse"),
    ("%YAML 1." + "1" * 5000 + "\n---\n{}", None, None, "", "does not parse"),
    # Not text
    (b"slots: 1\nled: \xff", 2, 6, "", "byte 0xff; expected text in UTF-8"),
    (b"\xef\xbb\xbfled: \xff", 1, 6, "", "byte 0xff"),
    ("led: x".encode("utf-16"), 1, 1, "", "UTF-16"),
    (b"slots: 1\n\0\0\0", 2, 1, "", "NUL byte: the file is damaged"),
    (b"\0" * 4096, 1, 1, "", "NUL byte"),
    ("led: a\x07", 1, 7, "", "character U+0007"),
    ("led: \ud800", 1, 6, "", "character U+D800"),
]  # fmt: skip


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize(
    ("text", "line", "column", "key", "words"),
    ERRORS,
    ids=[f"{at}-{one[0][:24]!r}" for at, one in enumerate(ERRORS)],
)
def test_an_error_says_where_and_what_was_expected(
    text: str | bytes, line: int | None, column: int | None, key: str, words: str
) -> None:
    error = refusal(text)
    assert words in str(error)
    assert error.key == key
    assert line is None or error.line == line
    # The two parsers of PyYAML disagree by a column on where some errors are.
    assert column is None or abs(error.column - column) <= (2 if "not parse" in str(error) else 0)
    assert str(error).startswith(str(FILE))
    assert len(str(error)) <= LONGEST_SENTENCE
    assert error.hint


def also(text: str) -> list[str]:
    """Every error of a file but the first, less the file's name and what was expected."""
    errors = refusal(text).also
    return [str(each).removeprefix(f"{FILE}:").partition(";")[0] for each in errors]


def test_all_errors_of_a_file_are_told_at_once() -> None:
    text = """\
slot: 2
disks:
  - kind: [nvem, sd, sd]
    labl: Boot
  - label: "alone"
  - kind: usb
    min_size: 2GB
    max_size: 1GB
usb:
  acm: yes
exclude: nvme
"""
    assert also(text) == [
        "3:12: disks[0].kind[0]: 'nvem' is not a kind (did you mean nvme?)",
        "3:22: disks[0].kind[2]: sd is there twice",
        "4:5: disks[0].labl: unknown key (did you mean label?)",
        "5:5: disks[1]: the rule matches every disk",
        "8:15: disks[2].max_size: less than min_size",
        "10:8: usb.acm: 'yes' is not written plainly",
        "11:10: exclude: 'nvme' is a single value",
    ]


def test_one_error_is_not_told_as_two() -> None:
    # The rule asks for something, wrongly; the bounds cross only if one goes by the default.
    assert also("disks:\n  - kind: nvem\n") == []
    assert also("writeback:\n  dirty_bytes: 1\n  dirty_background_bytes: 8MiB\n") == []


def test_the_sentence_as_the_documentation_shows_it() -> None:
    assert str(refusal("disks:\n  - name: a\n    kind: nvem")) == (
        "/etc/gadgetd.yaml:3:11: disks[0].kind: 'nvem' is not a kind "
        "(did you mean nvme?); expected one of emmc, sd, nvme, sata, usb, other, or a list of them"
    )


@pytest.mark.usefixtures("each_loader")
def test_a_billion_laughs_end_at_the_first() -> None:
    laughs = "a: &a [x]\n" + "".join(
        f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "anchor" in str(refusal(laughs))


def _sound(error: ConfigError, text: str | bytes) -> None:
    """What holds for every error: it can be printed on a console, and its place exists."""
    sentence = str(error)
    assert len(sentence) <= LONGEST_SENTENCE
    assert sentence.isprintable()
    sentence.encode()
    broken = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    breaks = sum(broken.count(one) for one in "\n\r\x85\u2028\u2029")
    assert 0 <= error.line <= breaks + 1
    assert (error.line > 0) == (error.column > 0)


def _parse_soundly(text: str | bytes) -> None:
    for name in LOADERS:
        with yaml_loader(name):
            try:
                assert isinstance(parse(text, FILE), Config)
            except ConfigError as error:
                _sound(error, text)


@settings(deadline=None)
@given(st.binary() | st.binary().map(lambda tail: b"disks:\n  - name: " + tail))
def test_no_bytes_raise_anything_but_a_config_error(data: bytes) -> None:
    _parse_soundly(data)


PIECES = st.sampled_from([
    "a", "disks", "name", ": ", ":", "- ", "-", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",",
    "'", '"', "\\", "\\x", "\\U00110000", "\\ud800", "&a ", "*a", "!", "!!str ", "!<", "%",
    "%YAML ", "%TAG ", "1.1", "---", "...", "?", "? ", "|", ">", "|2-\n", "#", " #", "\t", "~",
    "<<: ", "=", "\x85", "\u2028", "\ufeff", "\xe9", "\r", "0x", "1_0", "@", "`", "on",
    "disks:\n", "usb: ",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join))
@example("%TAG ! tag:a\n--- !x y")
@example("\x85\x85slots: 9")
@example("a\u2028: b: c")
@example("\r0\tdisks:\na\x85")
@example("a\ufeff\t")
@example("? disks")
@example('"\\ud800": 1')
@example('"' + "\\a" * 60 + '": 1')
def test_no_text_raises_anything_but_a_config_error(text: str) -> None:
    _parse_soundly(text)


KEYS = sorted(
    {row.key for row in TABLE}
    | {option.key for row in TABLE if not isinstance(row, Option) for option in row.options}
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES) | VALUES)
def test_no_yaml_raises_anything_but_a_config_error(value: object) -> None:
    _parse_soundly(yaml.safe_dump(value, allow_unicode=True))
    _parse_soundly(yaml.safe_dump(value, default_flow_style=True))


# Files


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    config = load(tmp_path / "gadgetd.yaml")
    assert config == Config()
    assert config.source is None


def test_no_file_costs_no_import_of_yaml(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from gadgetd.config.load import load\n"
        "load(Path(sys.argv[1]))\n"
        "sys.exit(', '.join({'yaml', 'json', 'argparse', 'difflib', 'gadgetd.config.options',"
        " 'gadgetd.config.yaml_tree'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "gadgetd.yaml"
    file.write_text("slots: 3\r\nled: none\r\n", newline="")
    config = load(file)
    assert (config.slots, config.led, config.source) == (3, "none", file)


def _refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.file == path
    return caught.value


def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(tmp_path: Path) -> None:
    link = tmp_path / "gadgetd.yaml"
    link.symlink_to(tmp_path / "gone")
    assert "leads nowhere" in str(_refused(link))
    link.unlink()
    link.symlink_to(link)
    assert "symbolic links" in str(_refused(link))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "a directory" in str(_refused(tmp_path))


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in str(_refused(tmp_path / "pipe"))
    assert "not a regular file" in str(_refused(Path("/dev/null")))


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gadgetd.yaml"
    file.write_text("slots: 1")
    file.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        assert "Permission denied" in str(_refused(file))
    finally:
        os.seteuid(user)


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in str(_refused(tmp_path / "file" / "gadgetd.yaml"))


def test_an_impossible_path_is_refused(tmp_path: Path) -> None:
    assert "too long" in str(_refused(tmp_path / ("a" * 300)))
    assert "null byte" in str(_refused(tmp_path / "a\0b"))


def test_an_input_output_error_is_refused() -> None:
    memory = Path("/proc/self/mem")  # its first page is not mapped: reading it gives EIO
    if not memory.exists():
        pytest.skip("no /proc")
    assert "cannot be read: Input/output error" in str(_refused(memory))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gadgetd.yaml"
    file.write_text("#" * SIZE_LIMIT)
    assert load(file) == Config(source=file)
    file.write_text("#" * (SIZE_LIMIT + 1))
    assert "at most 64 KiB" in str(_refused(file))


# The example


def _uncommented(prefix: str) -> str:
    """The example's lines that begin with the prefix, without it. Prose has '# ' or '#' alone."""
    lines = EXAMPLE.read_text().splitlines()
    if prefix == "##":
        return "\n".join(line[2:] for line in lines if line.startswith("##"))
    options = [line for line in lines if line.startswith("#") and not line.startswith("##")]
    return "\n".join(line[1:] for line in options if line[1:2].strip() or line.startswith("#  "))


def test_the_example_as_it_is_means_the_defaults() -> None:
    assert load(EXAMPLE) == Config(source=EXAMPLE)


def test_the_example_uncommented_is_every_default() -> None:
    text = _uncommented("#")
    assert _without_places(parse(text, EXAMPLE)) == Config()
    tree = yaml.safe_load(text)
    assert list(tree) == [row.key for row in TABLE]
    for row in TABLE:
        if not isinstance(row, Option) and not row.listed:
            assert list(tree[row.key]) == [option.key for option in row.options]


def test_the_examples_of_rules_show_every_key_of_a_rule() -> None:
    text = _uncommented("##")
    config = parse(text, EXAMPLE)
    assert len(config.disks) == 2
    assert len(config.exclude) == 2
    rules = next(row for row in TABLE if row.key == "disks")
    assert not isinstance(rules, Option)
    assert list(yaml.safe_load(text)["disks"][0]) == [option.key for option in rules.options]


@pytest.mark.parametrize(
    ("boards", "serial", "locked"),
    [
        ("", "10000000a1b2c3d4", False),
        ("", "", False),
        ("boards: 10000000a1b2c3d4a\n", "10000000a1b2c3d4", True),
        ('boards: ["0", "*a1b2c3d4"]\n', "10000000a1b2c3d4", False),
        ('boards: ["0", "*a1b2c3d4"]\n', "10000000A1B2C3D4", True),
        ('boards: "1*"\n', "", True),
    ],
)
def test_a_configuration_is_for_the_boards_that_it_names(
    tmp_path: Path, boards: str, serial: str, locked: bool
) -> None:
    file = tmp_path / "gadgetd.yaml"
    file.write_text(f"slots: 1\n{boards}")
    if not locked:
        assert load_for(file, serial).slots == 1
        return
    with pytest.raises(ConfigError, match="locked to other boards") as caught:
        load_for(file, serial)
    assert caught.value.key == "boards"


def test_a_lock_of_no_board_is_an_error_not_open_to_all() -> None:
    with pytest.raises(ConfigError, match="the list is empty"):
        parse("boards: []\n", EXAMPLE)
