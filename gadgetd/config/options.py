"""Every option of gadgetd.yaml in one table, and the walk over a file that the table drives.

The parser, its error texts, the JSON Schema, the reference in docs/configuration.md and the test
of the example all come from here. A new option is one row here and one field in settings.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gadgetd.config.option_types import (
    Choice,
    Flag,
    Glob,
    Named,
    Refused,
    Seconds,
    Several,
    Size,
    Text,
    UsbNumber,
    Value,
    Whole,
)
from gadgetd.config.settings import (
    AUTO,
    BOARDS,
    NONE,
    Config,
    Consoles,
    DiskMatch,
    DiskRule,
    OnEjected,
    UartLines,
    Usb,
    Wait,
    Writeback,
)
from gadgetd.config.yaml_tree import Mapping, Node, Scalar, Sequence, hint, join, shown
from gadgetd.disks.disk import Kind
from gadgetd.errors import ConfigError
from gadgetd.frozen import Frozen

_PIB = 1 << 50


def _class_name(device_class: str) -> Text:
    return Text(128, f"a name as in /sys/class/{device_class}", r"[!-\-0-~][!-.0-~]*")


class Option(Frozen):
    """One key with one value."""

    key: str
    value: Value
    description: str
    field: str = ""
    """What settings.py calls it, if not as the file does."""

    @property
    def attribute(self) -> str:
        """The name of the field in settings.py."""
        return self.field or self.key


class Section(Frozen):
    """A key whose value is a mapping of options or, if `listed`, a list of such mappings."""

    key: str
    type: type[Any]
    description: str
    options: tuple[Option, ...]
    listed: bool = False


_DISK_SIZE = Size(0, _PIB)
MATCH = (
    Option("name", Glob('"nvme*"', kernel_name=True), "Kernel name of the disk, as a pattern."),
    Option("kind", Several(Choice("a kind", tuple(Kind))), "How it is attached.", field="kinds"),
    Option("model", Glob('"Samsung*"'), "Model name, as a pattern; `gadgetd scan` shows it."),
    Option("serial", Glob('"S4EV*"'), "Serial number, as a pattern."),
    Option("min_size", _DISK_SIZE, "Smallest size, itself included.", field="min_size_bytes"),
    Option("max_size", _DISK_SIZE, "Largest size, itself included.", field="max_size_bytes"),
)
"""What a rule can ask of a disk. A rule asks at least one of these; a disk must satisfy all."""

_RULE = (
    Option("read_only", Flag(), "The host cannot write."),
    Option("label", Text(16), "Name that the host shows instead of kind and kernel name."),
    Option(
        "on_ejected",
        Choice("possible for one disk", (OnEjected.STAY, OnEjected.REINSERT)),
        "As the option of the same name, for these disks only.",
    ),
)

_USB = (
    Option(
        "udc",
        Named((AUTO,), _class_name("udc")),
        "USB device controller. `auto` is the first that is free.",
    ),
    Option("vendor_id", UsbNumber(), "idVendor. The default is Broadcom's, as the boot ROM has."),
    Option("product_id", UsbNumber(), "idProduct."),
    Option("device_version", UsbNumber(bcd=True), "bcdDevice: 0x0100 is version 1.00."),
    Option("manufacturer", Text(126), "String that the host shows."),
    Option("product", Text(126), "String that the host shows."),
    Option("serial", Named((AUTO,), Text(126)), "iSerial. `auto` is the board's serial number."),
    Option("max_power_ma", Whole(2, 500), "Current the board may draw from the host, in mA."),
    Option(
        "functions",
        Named((AUTO,), Whole(1, 15)),
        "mass_storage functions that disks are spread over, at most. `auto` is one for each disk,"
        " as far as the controller's endpoints go.",
    ),
    Option("acm", Flag(), "Adds a USB serial port with a root login. Disks alone without it."),
)


def _console(which: str) -> Option:
    node = Text(128, "a device such as /dev/tty1", "/dev(/[A-Za-z0-9_:-][A-Za-z0-9_:.-]*)+")
    return Option(which.lower(), Named((AUTO, NONE), node), f"Where the {which} status goes.")


_CONSOLES = (
    _console("HDMI"),
    _console("UART"),
    Option(
        "uart_lines",
        Choice("a form of lines", tuple(UartLines)),
        "What each event is said as there: for a person (`text`), for a program (`json`), or both.",
    ),
)
_WAIT = (
    Option("disks_s", Seconds(3600), "For disks on their way, such as an NVMe disk starting up."),
    Option("mmc_s", Seconds(3600), "For an eMMC or SD card that its host controller is probing."),
    Option("udc_s", Seconds(3600), "For a USB device controller before saying there is none."),
)
_DIRTY = Size(64 << 10, 1 << 30)
_WRITEBACK = (
    Option("dirty_bytes", _DIRTY, "Unwritten data at which the host is made to wait."),
    Option("dirty_background_bytes", _DIRTY, "Where writing begins. Less than `dirty_bytes`."),
)

TABLE: tuple[Option | Section, ...] = (
    Section(
        "disks",
        DiskRule,
        "Which disks are exported: the first rule that matches decides. Replaces the default.",
        MATCH + _RULE,
        listed=True,
    ),
    Section("exclude", DiskMatch, "Which are not, whatever `disks` says.", MATCH, listed=True),
    Option(
        BOARDS,
        Several(Glob('"*a1b2c3d4"')),
        "Serial numbers, as patterns, of the boards that export anything; others export nothing.",
    ),
    Section("usb", Usb, "How the board presents itself to the host.", _USB),
    Option("slots", Whole(0, 8), "Empty removable LUNs kept for disks that arrive later."),
    Option(
        "on_ejected",
        Choice("possible", tuple(OnEjected)),
        "What follows when the host has ejected a disk (`stay`, `reinsert`) or all of them.",
    ),
    Option("reinsert_after_s", Seconds(3600), "Delay of `reinsert`, in seconds."),
    Option(
        "led",
        Named((AUTO, NONE), _class_name("leds")),
        "LED that shows the state. `auto` is ACT or led0.",
    ),
    Section("consoles", Consoles, "Where the status is shown.", _CONSOLES),
    Section("wait", Wait, "Upper limits in seconds; nothing waits longer than needed.", _WAIT),
    Section("writeback", Writeback, "Bounds on unwritten data, for slow media.", _WRITEBACK),
)


def read(root: Node | None, file: Path) -> Config:
    """The configuration in a tree of nodes; the defaults if it is empty.

    Raises the first ConfigError, which has all others with it.
    """
    if root is None or (isinstance(root, Scalar) and not root.quoted and not root.text):
        return Config(source=file)
    walk = _Walk(file)
    values = walk.mapping(root, "", TABLE)
    if walk.errors:
        first, *others = walk.errors
        first.also = tuple(others)
        raise first
    return Config(source=file, **values)


class _Walk:
    """The walk over one file. With `errors`, what it returns is of no use."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.errors: list[ConfigError] = []

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Note an error and go on behind it: whoever corrects a file wants to know of all."""
        try:
            yield
        except ConfigError as error:
            self.errors.append(error)

    def mapping(self, node: Node, path: str, table: tuple[Option | Section, ...]) -> dict[str, Any]:
        """The values of a mapping, by field of settings.py. Raises ConfigError if it is none."""
        rows = {row.key: row for row in table}
        if not isinstance(node, Mapping):
            raise self._wrong(node, path, f"a mapping of {', '.join(rows)}")
        values: dict[str, Any] = {}
        for text, (key, value) in node.entries.items():
            row, inner = rows.get(text), join(path, text)
            with self._going_on():
                if row is None:
                    raise self._unknown(key, inner, rows)
                if isinstance(row, Option):
                    values[row.attribute] = self._option(value, inner, row)
                elif row.listed:
                    values[row.key] = tuple(self._rules(value, inner, row))
                else:
                    values[row.key] = self._section(value, inner, row)
        return values

    def _option(self, node: Node, path: str, option: Option) -> object:
        kind = option.value
        if isinstance(kind, Several) and isinstance(node, Sequence):
            if not node.items:
                raise self._error(node, path, "the list is empty", kind.expected)
            words: list[object] = []
            for at, item in enumerate(node.items):
                inner = f"{path}[{at}]"
                with self._going_on():
                    word = self._value(item, inner, kind.item)
                    if word in words:
                        raise self._error(item, inner, f"{word} is there twice")
                    words.append(word)
            return tuple(words)
        return self._value(node, path, kind)

    def _value(self, node: Node, path: str, value: Value) -> object:
        if not isinstance(node, Scalar):
            raise self._wrong(node, path, value.expected)
        try:
            return value.read(node)
        except Refused as refusal:
            raise self._error(node, path, str(refusal), value.expected) from refusal

    def _section(self, node: Node, path: str, section: Section) -> object:
        errors = len(self.errors)
        values = self.mapping(node, path, section.options)
        result = section.type(**values)
        if isinstance(result, Writeback) and len(self.errors) == errors:
            self._check_writeback(node, path, result)
        return result

    def _rules(self, node: Node, path: str, section: Section) -> list[DiskRule | DiskMatch]:
        if not isinstance(node, Sequence):
            raise self._wrong(node, path, 'a list of rules, each such as - name: "nvme*"')
        rules: list[DiskRule | DiskMatch] = []
        for at, item in enumerate(node.items):
            with self._going_on():
                rules.append(self._rule(item, f"{path}[{at}]", section))
        return rules

    def _rule(self, item: Node, path: str, section: Section) -> DiskRule | DiskMatch:
        errors = len(self.errors)
        values = self.mapping(item, path, section.options)
        asked = {
            row.attribute: values.pop(row.attribute) for row in MATCH if row.attribute in values
        }
        # One that was to ask something, and was written wrongly, is not called unfinished as well.
        if not asked and len(self.errors) == errors:
            problem = "the rule matches every disk"
            wanted = f'one of {", ".join(row.key for row in MATCH)}; name: "*" is every disk'
            raise self._error(item, path, problem, wanted)
        match = DiskMatch(**asked, line=item.line)
        self._check_sizes(item, path, match)
        return match if section.type is DiskMatch else DiskRule(match, **values)

    def _check_sizes(self, node: Node, path: str, match: DiskMatch) -> None:
        low, high = match.min_size_bytes, match.max_size_bytes
        if low is not None and high is not None and low > high:
            where = node.entries["max_size"][1] if isinstance(node, Mapping) else node
            raise self._error(where, f"{path}.max_size", "less than min_size", "at least min_size")

    def _check_writeback(self, node: Node, path: str, limits: Writeback) -> None:
        if limits.dirty_background_bytes < limits.dirty_bytes or not isinstance(node, Mapping):
            return
        given, relation, other = "dirty_background_bytes", "less", "dirty_bytes"
        if given not in node.entries:
            given, relation, other = other, "more", given
        size = _DIRTY.yaml(getattr(limits, other))
        default = "" if other in node.entries else ", its default"
        wanted = f"{relation} than {other} ({size}{default})"
        raise self._error(node.entries[given][1], f"{path}.{given}", "the bounds cross", wanted)

    def _unknown(self, key: Scalar, path: str, rows: MappingType[str, object]) -> ConfigError:
        from difflib import get_close_matches  # slow to import, and only an error needs it

        near = get_close_matches(key.text.lower()[:40], rows, n=1)
        problem = f"unknown key (did you mean {near[0]}?)" if near else "unknown key"
        return self._error(key, path, problem, f"one of {', '.join(rows)}")

    def _wrong(self, node: Node, path: str, expected: str) -> ConfigError:
        """The error for a mapping, list or value where one of the others belongs."""
        if isinstance(node, Scalar):
            empty = node.meaning == "null" and not node.text
            problem = "there is no value" if empty else f"{shown(node.text)} is a single value"
        else:
            problem = "this is a list" if isinstance(node, Sequence) else "this is a mapping"
        return self._error(node, path, problem, expected)

    def _error(self, node: Node, path: str, problem: str, expected: str = "") -> ConfigError:
        return ConfigError(
            problem,
            file=self._file,
            line=node.line,
            column=node.column,
            key=path,
            expected=expected,
            hint=hint(self._file),
        )
