"""The promises of config.schema: editors and gadgetd agree, and what is generated is current."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gadgetd.config.load import parse
from gadgetd.config.option_types import (
    Choice,
    Flag,
    Glob,
    Named,
    Seconds,
    Several,
    Size,
    Text,
    UsbNumber,
    Value,
    Whole,
)
from gadgetd.config.options import TABLE, Option, Section
from gadgetd.config.schema import BEGIN, END, json_schema, main, reference, schema_text, update
from gadgetd.config.settings import Config, DiskMatch
from gadgetd.errors import ConfigError

DOCS = Path(__file__).parents[3] / "docs"
FILE = Path("/etc/gadgetd.yaml")
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def config_accepts(data: object) -> bool:
    # JSON is YAML, and quotes every text: what a text looks like does not matter here.
    try:
        parse(json.dumps(data, indent=1), FILE)
    except ConfigError:
        return False
    return True


# Valid configurations, made from the table

PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)


def texts(longest: int) -> st.SearchStrategy[str]:
    return st.text(PRINTABLE, min_size=1, max_size=longest).filter(
        lambda text: text == text.strip()
    )


def values(value: Value) -> st.SearchStrategy[Any]:
    """What a person may write for a kind of value."""
    match value:
        case Flag():
            return st.booleans()
        case Whole(low=low, high=high):
            return st.integers(low, high)
        case UsbNumber(bcd=bcd):
            written = st.text(
                "0123456789" if bcd else "0123456789abcdefABCDEF", min_size=1, max_size=4
            )
            return written.map(lambda digits: f"0x{digits}") | written.map(lambda d: int(d, 16))
        case Seconds(high=high):
            return st.integers(0, high) | st.integers(1, 1000).map(
                lambda hundredths: hundredths / 100
            )
        case Size(low=low, high=high):
            return st.integers(low, high) | st.sampled_from(["64KiB", "0.5 MB", "1gib", "100.25MB"])
        case Glob():
            return st.sampled_from(["*", "nvme*", "[!a-c]?", "[]]", "x[!]]", "a b", "12", "on"])
        case Choice(words=words):
            return st.sampled_from([str(word) for word in words])
        case Several(item=item):
            return values(item) | st.lists(values(item), min_size=1, unique=True)
        case Named(words=words, other=other):
            return st.sampled_from(words) | values(other)
        case Text(longest=longest, pattern=""):
            return texts(longest).filter(lambda text: text.lower() != "auto")
        case Text(pattern=pattern):
            return st.just("/dev/tty1") if "dev" in pattern else st.just("fe980000.usb")
    raise AssertionError(value)


def mappings(options: tuple[Option, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={one.key: values(one.value) for one in options})


def rows(row: Option | Section) -> st.SearchStrategy[Any]:
    if isinstance(row, Option):
        return values(row.value)
    if not row.listed:
        return mappings(row.options)
    asks = set(DiskMatch._fields)
    return st.lists(
        mappings(row.options).filter(
            lambda rule: any(one.key in rule and one.attribute in asks for one in row.options)
        ),
        max_size=3,
    )


def _bounds_in_order(data: dict[str, Any]) -> bool:
    # What the schema cannot express: leave to gadgetd's own tests.
    rules = [*data.get("disks", []), *data.get("exclude", [])]
    crossed = any("min_size" in rule and "max_size" in rule for rule in rules)
    return not crossed and not data.get("writeback")


CONFIGS = st.fixed_dictionaries({}, optional={row.key: rows(row) for row in TABLE})


@settings(deadline=None)
@given(CONFIGS.filter(_bounds_in_order))
def test_what_the_table_allows_passes_both(data: dict[str, Any]) -> None:
    VALIDATOR.validate(data)
    parse(json.dumps(data), FILE)
    parse(json.dumps(data, indent=2), FILE)


JUNK: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, 1, -1, 3, 501, 70000, 1 << 60, 0.5, -0.5, 1e9, "", " ", "auto", "none",
    "on", "yes", "12", "0x", "0x0a5c", "0x010a", "8M", "8MiB", "/dev/tty1", "/dev/../x", "a/b",
    "..", "[a", "é", "a\n", "\x00", "x" * 17, "x" * 127, "x" * 200, [], {}, [[]], ["sd"],
    ["sd", "sd"], [{}], {"name": "a"}, [{"name": "a"}], [{"label": "a"}], "stay", "reboot", "nvem",
])  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """A valid configuration with one to three places spoiled."""
    data = deepcopy(draw(CONFIGS))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = data
        while True:
            inner = list(at.values()) if isinstance(at, dict) else at
            deeper = [one for one in inner if isinstance(one, dict | list)]
            if not deeper or draw(st.booleans()):
                break
            at = draw(st.sampled_from(deeper))
        # JSON has no infinity: what Python writes for it is a word to YAML.
        numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        junk = draw(JUNK | st.text() | numbers)
        if isinstance(at, list):
            at.insert(draw(st.integers(0, len(at))), deepcopy(junk))
        elif at and draw(st.booleans()):
            at[draw(st.sampled_from(sorted(at)))] = deepcopy(junk)
        else:
            name = draw(st.sampled_from([row.key for row in TABLE] + ["name", "acm"]) | st.text())
            at[name] = deepcopy(junk)
    return data


@settings(max_examples=500, deadline=None)
@given(mutated())
def test_what_the_schema_refuses_gadgetd_refuses(data: object) -> None:
    if not VALIDATOR.is_valid(data):
        assert not config_accepts(data)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "text",
        "foo: 1",
        "disks: nvme0n1",
        "disks:",
        "disks: [{}]",
        "disks: [{label: x}]",
        "disks: [{name: a, nmae: b}]",
        "disks: [{kind: nvem}]",
        "disks: [{kind: []}]",
        "disks: [{kind: [sd, sd]}]",
        "disks: [{name: ''}]",
        "disks: [{name: /dev/sda}]",
        "disks: [{name: 5}]",
        "disks: [{name: a, label: seventeen letters}]",
        "disks: [{name: a, label: on}]",
        "disks: [{name: a, label: ' a'}]",
        "disks: [{name: a, label: é}]",
        "disks: [{name: a, read_only: 1}]",
        "disks: [{name: a, read_only: 'yes'}]",
        "disks: [{name: a, on_ejected: reboot}]",
        "disks: [{min_size: 8M}]",
        "disks: [{min_size: -1}]",
        "disks: [{min_size: 1.5}]",
        "exclude: [{}]",
        "exclude: [{name: a, read_only: true}]",
        "usb: auto",
        "usb: {vendor_id: 0x10000}",
        "usb: {vendor_id: 0a5c}",
        "usb: {device_version: '0x010a'}",
        "usb: {product: ''}",
        "usb: {serial: 5}",
        "usb: {udc: a/b}",
        "usb: {max_power_ma: 501}",
        "usb: {acm: 'true'}",
        "slots: 9",
        "slots: '2'",
        "slots: 1.5",
        "on_ejected: eject",
        "reinsert_after_s: -1",
        "reinsert_after_s: 5s",
        "led: off",
        "led: ..",
        "consoles: {hdmi: tty1}",
        "consoles: {vga: auto}",
        "wait: {udc_s: .inf}",
        "wait: {udc_s: 3601}",
        "writeback: {dirty_bytes: 4096}",
    ],
)
def test_these_are_refused_by_both(text: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(text))
    with pytest.raises(ConfigError):
        parse(text, FILE)


# The table and the dataclasses


def test_every_field_of_the_dataclasses_is_an_option() -> None:
    top = {row.key if isinstance(row, Section) else row.attribute for row in TABLE}
    assert top == set(Config._fields) - {"source"}
    for section in TABLE:
        if isinstance(section, Section):
            attributes = {option.attribute for option in section.options}
            expected = set(section.type._fields)
            if section.listed:
                expected |= set(DiskMatch._fields)
            assert attributes == expected - {"match", "line"}


def test_every_default_is_one_that_could_be_written() -> None:
    for row in TABLE:
        if isinstance(row, Option):
            written = f"{row.key}: {row.value.yaml(getattr(Config(), row.attribute))}"
            assert parse(written, FILE) == Config(source=FILE)
        elif not row.listed:
            for option in row.options:
                value = getattr(getattr(Config(), row.key), option.attribute)
                written = f"{row.key}: {{{option.key}: {option.value.yaml(value)}}}"
                assert parse(written, FILE) == Config(source=FILE)


# What is generated


def test_the_schema_is_a_schema_and_every_default_in_it_is_valid() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "default" in node:
                jsonschema.Draft202012Validator(node).validate(node["default"])
            for inner in node.values():
                walk(inner)

    walk(schema)
    assert schema["properties"]["disks"]["default"] == [{"kind": ["emmc", "sd", "nvme"]}]  # type: ignore[index]


def test_every_key_in_the_schema_is_described() -> None:
    for row in TABLE:
        assert row.description.endswith(".")
        for option in row.options if isinstance(row, Section) else ():
            assert option.description.endswith(".")


def test_the_schema_in_the_documentation_is_current() -> None:
    current = (DOCS / "gadgetd.schema.json").read_text()
    assert current == schema_text(), "run: python3 -m gadgetd.config.schema --update docs"


def test_the_reference_in_the_documentation_is_current() -> None:
    page = (DOCS / "configuration.md").read_text()
    generated = page.split(BEGIN)[1].split(END)[0].strip()
    assert generated == reference().strip(), "run: python3 -m gadgetd.config.schema --update docs"


def test_the_configurations_in_the_documentation_are_valid() -> None:
    page = (DOCS / "configuration.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        parse(block, FILE)


def test_an_update_of_what_is_current_changes_nothing(tmp_path: Path) -> None:
    for name in ("configuration.md", "gadgetd.schema.json"):
        (tmp_path / name).write_bytes((DOCS / name).read_bytes())
    assert main(["--update", str(tmp_path)]) == 0
    update(tmp_path)
    for name in ("configuration.md", "gadgetd.schema.json"):
        assert (tmp_path / name).read_bytes() == (DOCS / name).read_bytes()


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "gadgetd.config.schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json_schema()
    assert main(["--reference"]) == 0
    assert capsys.readouterr().out == reference()
    assert main(["--nonsense"]) == 2
