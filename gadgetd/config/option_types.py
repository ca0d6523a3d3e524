"""What a single value of gadgetd.yaml can be: how it is read, described, and checked by an editor.

Strict on purpose. YAML readers disagree on `yes`, `0104`, `1_000`, `1e3` and `on`; whatever two of
them could take differently is refused with a sentence that says how to write it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from gadgetd.config.yaml_tree import Scalar, shown

Schema = dict[str, object]
"""A piece of JSON Schema, draft 2020-12."""
_Number = TypeVar("_Number", int, float)

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,20})")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}")
_DECIMAL = re.compile(r"[-+]?(?=\.?[0-9])(0|[1-9][0-9]{0,9})?(\.[0-9]{0,9})?")
_SIZE = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? ?(?:([KMGT])(I)?)?B", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_NOUNS = {"bool": "a boolean", "int": "a number", "float": "a number", "timestamp": "a date"}


class Refused(Exception):  # noqa: N818 - caught by options.py, which makes a ConfigError of it
    """The value is not right; the text says why."""


class Value:
    """A kind of value."""

    def __init__(self, expected: str, schema: Schema) -> None:
        self.expected = expected
        """In words, what is accepted: it completes the sentence "expected ..."."""
        self.schema = schema
        """As JSON Schema. It may accept more than `read` does, never less."""

    def read(self, given: Scalar) -> object:
        """The value for settings.py. Raises Refused."""
        raise NotImplementedError

    def yaml(self, value: object) -> str:
        """The value as a person writes it in YAML."""
        return str(value)

    def json(self, value: object) -> object:
        """The value as JSON, for a default in the schema."""
        return value


class Flag(Value):
    """true or false, as YAML 1.2 has them."""

    def __init__(self) -> None:
        super().__init__("true or false", {"type": "boolean"})

    def read(self, given: Scalar) -> bool:
        if given.quoted or given.text not in ("true", "false"):
            raise Refused(_unsuitable(given, "bool"))
        return given.text == "true"

    def yaml(self, value: object) -> str:
        return "true" if value else "false"


class Whole(Value):
    """A whole number."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        number: Schema = {"type": "integer", "minimum": low, "maximum": high}
        super().__init__(f"a whole number from {low} to {high}", number)

    def read(self, given: Scalar) -> int:
        return _limited(_whole(given), self.low, self.high, given)


class UsbNumber(Value):
    """A 16-bit number of the device descriptor.

    `bcd`: decimal digits only, as is_valid_bcd of drivers/usb/gadget/configfs.c demands.
    """

    def __init__(self, bcd: bool = False) -> None:
        self.bcd = bcd
        digit, highest = ("[0-9]", 0x9999) if bcd else ("[0-9a-fA-F]", 0xFFFF)
        number: Schema = {"type": "integer", "minimum": 0, "maximum": highest}
        text: Schema = {"type": "string", "pattern": f"^0x{digit}{{1,4}}$"}
        expected = f"0x0000 to 0x{highest:04x}{' with digits 0 to 9 only' * bcd}"
        super().__init__(expected, {"anyOf": [number, text]})

    def read(self, given: Scalar) -> int:
        if given.quoted and re.fullmatch("0x[0-9a-fA-F]{1,4}", given.text):
            number = int(given.text, 16)
        elif re.fullmatch("[0-9a-fA-F]{1,4}", given.text) and not _WHOLE.fullmatch(given.text):
            raise Refused(f"{shown(given.text)} lacks its 0x")
        else:
            number = _limited(_whole(given), 0, 0xFFFF, given)
        if self.bcd and not f"{number:x}".isdecimal():
            raise Refused(f"{shown(given.text)} is 0x{number:04x}, which has a digit over 9")
        return number

    def yaml(self, value: object) -> str:
        return f"0x{value:04x}"


class Seconds(Value):
    """A time in seconds, whole or with decimals."""

    def __init__(self, high: int) -> None:
        self.high = high
        number: Schema = {"type": "number", "minimum": 0, "maximum": high}
        super().__init__(f"a number of seconds from 0 to {high}", number)

    def read(self, given: Scalar) -> float:
        if given.quoted or not _DECIMAL.fullmatch(given.text):
            raise Refused(_unsuitable(given, "int", "float"))
        return _limited(float(given.text), 0, self.high, given)

    def yaml(self, value: object) -> str:
        return f"{value:g}"


class Size(Value):
    """A size in bytes: a number, or text with a unit (KB is 1000 bytes, KiB 1024)."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        unit = "([KkMmGgTt][Ii]?)?[Bb]"
        text: Schema = {"type": "string", "pattern": rf"^[0-9]+(\.[0-9]+)? ?{unit}$"}
        number: Schema = {"type": "integer", "minimum": low, "maximum": high}
        expected = f"a size from {self.yaml(low)} to {self.yaml(high)}, as 8MiB or 64GB"
        super().__init__(expected, {"anyOf": [text, number]})

    def read(self, given: Scalar) -> int:
        if given.meaning == "str":
            match = _SIZE.fullmatch(given.text)
            if match is None:
                raise Refused(f"{shown(given.text)} is not a size")
            whole, decimals, letter, infix = (part or "" for part in match.groups())
            scale = (1024 if infix else 1000) ** _POWERS[letter.upper()]
            # Integers throughout: as a float, 1.1TB would not be a whole number of bytes.
            size_bytes: int = int(whole + decimals) * scale // 10 ** len(decimals)
        elif given.meaning == "float":
            raise Refused(f"{shown(given.text)} has no unit")
        else:
            size_bytes = _whole(given)
        return _limited(size_bytes, self.low, self.high, given)

    def yaml(self, value: object) -> str:
        if not isinstance(value, int):
            raise TypeError(value)
        for base, infix in ((1024, "i"), (1000, "")):
            for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
                if value and value % base**power == 0:
                    return f"{value // base**power}{letter}{infix}B"
        return str(value)

    def json(self, value: object) -> object:
        return self.yaml(value)


class Text(Value):
    """Printable ASCII without a space at either end.

    `pattern`, a regular expression that Python and ECMAScript read alike, narrows it to what
    `noun` says.
    """

    def __init__(self, longest: int, noun: str = "", pattern: str = "") -> None:
        self.longest, self.pattern = longest, pattern
        whole = f"^{pattern or '[!-~]([ -~]*[!-~])?'}$"
        text: Schema = {"type": "string", "maxLength": longest, "pattern": whole}
        super().__init__(noun or f"1 to {longest} printable ASCII characters", text)

    def read(self, given: Scalar) -> str:
        text = given.text
        if given.meaning == "null":
            raise Refused(_unsuitable(given))
        if given.meaning != "str":
            raise Refused(f"{_unsuitable(given)} to YAML: put it in quotes if it is meant as text")
        foreign = next((letter for letter in text if not " " <= letter <= "~"), "")
        if foreign:
            raise Refused(f"{shown(text)} holds {foreign!a}, which is not printable ASCII")
        if not text:
            raise Refused("the text is empty")
        if len(text) > self.longest:
            raise Refused(f"{shown(text)} has {len(text)} characters, more than {self.longest}")
        if text != text.strip(" "):
            raise Refused(f"{shown(text)} begins or ends with a space")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise Refused(f"{shown(text)} has the wrong form")
        return text

    def yaml(self, value: object) -> str:
        return f'"{value}"'


class Glob(Value):
    """A pattern as in Python's `fnmatch`: `*`, `?`, `[abc]`, `[a-c]`, `[!abc]`; case matters.

    One that can match nothing is refused: in `exclude` it would let a disk slip out. `kernel_name`
    is for kernel names, which hold no slash: `/dev/sda` is not one.
    """

    def __init__(self, example: str, kernel_name: bool = False) -> None:
        self.kernel_name = kernel_name
        letter, end = ("[ -.0-~]", "[!-.0-~]") if kernel_name else ("[ -~]", "[!-~]")
        self._text = Text(longest=128, pattern=f"{end}({letter}*{end})?")
        super().__init__(f"a pattern such as {example}", self._text.schema)

    def read(self, given: Scalar) -> str:
        if self.kernel_name and given.meaning == "str" and "/" in given.text:
            raise Refused(f"{shown(given.text)} holds a '/', but kernel names such as sda do not")
        text = self._text.read(given)
        start = text.find("[")
        while start >= 0:
            # A ']' that comes first, or right after '!', is one of the characters: so fnmatch.
            first = start + 2 if text.startswith("[!", start) else start + 1
            end = text.find("]", first + 1)
            if end < 0:
                raise Refused(f"{shown(text)} has a '[' without its ']'")
            _check_ranges(text, text[first:end])
            start = text.find("[", end)
        fnmatchcase("", text)  # compiles it: whatever else is wrong shows here, not at a hot-plug
        return text

    def yaml(self, value: object) -> str:
        return f'"{value}"'


class Choice(Value):
    """One of a few words."""

    def __init__(self, noun: str, words: tuple[StrEnum, ...]) -> None:
        self.noun, self.words = noun, words
        super().__init__(f"one of {', '.join(words)}", {"enum": [str(word) for word in words]})

    def read(self, given: Scalar) -> StrEnum:
        if given.meaning != "str":
            raise Refused(_unsuitable(given))
        for word in self.words:
            if given.text == word:
                return word
        from difflib import get_close_matches  # slow to import, and only an error needs it

        near = get_close_matches(given.text.lower()[:40], self.words, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise Refused(f"{shown(given.text)} is not {self.noun}{meant}")


class Several(Value):
    """A value or a list of them. The list is taken apart by options.py, one scalar at a time."""

    def __init__(self, item: Choice | Glob) -> None:
        self.item = item
        array: Schema = {"type": "array", "items": item.schema, "minItems": 1, "uniqueItems": True}
        super().__init__(f"{item.expected}, or a list of them", {"anyOf": [item.schema, array]})

    def read(self, given: Scalar) -> tuple[str, ...]:
        return (self.item.read(given),)

    def json(self, value: object) -> object:
        return list(value) if isinstance(value, tuple) else value

    def yaml(self, value: object) -> str:
        if not isinstance(value, tuple):
            raise TypeError(value)
        items = ", ".join(self.item.yaml(item) for item in value)
        return items if len(value) == 1 else f"[{items}]"


class Named(Value):
    """One of a few special words, or else another value."""

    def __init__(self, words: tuple[str, ...], other: Value) -> None:
        self.words, self.other = words, other
        expected = f"{', '.join(words)} or {other.expected}"
        super().__init__(expected, {"anyOf": [{"enum": list(words)}, other.schema]})

    def read(self, given: Scalar) -> object:
        if given.meaning == "bool":
            raise Refused(_unsuitable(given))
        word = given.text.lower()
        if word in self.words:
            if word != given.text:
                raise Refused(f"{shown(given.text)} is written {word}")
            return word
        return self.other.read(given)


def _unsuitable(given: Scalar, *wanted: str) -> str:
    """What the value is, for a place where something else belongs; `wanted` are meanings."""
    if given.meaning in wanted and not given.quoted:
        return f"{shown(given.text)} is not written plainly"
    if given.meaning == "null":
        return f"{shown(given.text)} is no value" if given.text else "there is no value"
    if given.quoted and given.text:
        return f"{shown(given.text)} is text, being in quotes"
    return f"{shown(given.text)} is {_NOUNS.get(given.meaning, 'text')}"


def _whole(given: Scalar) -> int:
    """A whole number, written as all YAML readers understand it. Raises Refused."""
    if not given.quoted:
        if _WHOLE.fullmatch(given.text):
            return int(given.text)
        if _HEX.fullmatch(given.text):
            return int(given.text, 16)
    if given.meaning == "int":
        raise Refused(f"{shown(given.text)} is not plain: no leading 0, underscore or colon")
    if given.meaning == "float":
        raise Refused(f"{shown(given.text)} is not a whole number")
    raise Refused(_unsuitable(given))


def _limited(number: _Number, low: int, high: int, given: Scalar) -> _Number:
    if not low <= number <= high:
        raise Refused(f"{shown(given.text)} is too {'small' if number < low else 'large'}")
    return number


def _check_ranges(text: str, letters: str) -> None:
    for left, dash, right in zip(letters, letters[1:], letters[2:], strict=False):
        if dash == "-" and left > right:
            raise Refused(f"{shown(text)} has the range {left}-{right} backwards")
