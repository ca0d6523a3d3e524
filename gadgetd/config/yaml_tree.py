"""YAML text to a tree of nodes that know their line and column. Knows no option of gadgetd.

What YAML allows beyond mappings, lists and plain values is refused, so that a file means the same
to gadgetd, to an editor and to the person who wrote it: anchors, aliases, merge keys, tags, and a
second document. PyYAML is read event by event, because its own tree builders recurse: a file of
brackets would end them. Imported only when there is a file to read, as PyYAML is slow to import.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from pathlib import Path

import yaml

from gadgetd.errors import ConfigError
from gadgetd.frozen import Frozen

DEPTH_LIMIT = 8
"""Lists and mappings within each other. gadgetd.yaml needs four."""

_SHOWN = 40
"""Characters of a value that an error repeats."""

_TAGGED = (yaml.ScalarEvent, yaml.CollectionStartEvent)

# YAML 1.1, section 4.1.1: what a stream may hold. Surrogates are outside.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # YAML 1.1, section 4.1.4
# What PyYAML (YAML 1.1) takes for text but editors (YAML 1.2, section 10.3.2) take for a number.
_NUMBER_1_2 = re.compile(r"0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"

# The parser's words (libyaml's, PyYAML's) and ours. The first that fits is taken.
_IN_OUR_WORDS = (
    ("while scanning an alias", "a '*' begins an alias: put the pattern in quotes"),
    ("while scanning an anchor", "an '&' begins an anchor: put the text in quotes"),
    ("mapping values are not allowed", "a ':' out of place: check the indentation, or use quotes"),
    ("sequence entries are not allowed", "a '-' out of place: begin the list on a line of its own"),
    ("tab character", "a tab cannot indent: use spaces"),
    ("while scanning a quoted scalar", "a quote is not closed"),
    ("while parsing a quoted scalar", "an escape after '\\' is wrong: use single quotes"),
    ("while scanning a double-quoted scalar", "an escape after '\\' is wrong: use single quotes"),
    ("while parsing a flow", "a bracket or brace is not closed, or a comma is missing"),
    ("while scanning a simple key", "a ':' is missing after a key"),
    ("while parsing a block", "wrong indentation, or more text after a value: use quotes"),
    ("<document start>", "text after the end of the document"),
    ("directive", "a '%' begins a directive: put the text in quotes"),
)


class Scalar(Frozen):
    """A value as it was written. `line` and `column` count from 1."""

    line: int
    column: int
    text: str
    quoted: bool
    """In quotes or a block scalar: text, whatever it looks like."""
    meaning: str
    """What YAML makes of it: str, int, float, bool, null, timestamp, merge, value."""


class Sequence(Frozen):
    """A list."""

    line: int
    column: int
    items: list[Node]


class Mapping(Frozen):
    """A mapping, as key and value pairs in the order of the file. No key is there twice."""

    line: int
    column: int
    entries: dict[str, tuple[Scalar, Node]]


Node = Scalar | Sequence | Mapping
_Resolve = Callable[[type[yaml.Node], str, tuple[bool, bool]], str | None]


def shown(text: str) -> str:
    """The text as an error repeats it: quoted, on one line, not too long, never unprintable."""
    whole = repr(text)
    return whole if len(whole) <= _SHOWN else f"{whole[: _SHOWN - 4]}...{whole[0]}"


def join(path: str, key: str) -> str:
    """The path of a key inside the mapping at `path`, as errors show it: `usb.serial`."""
    step = key if re.fullmatch(r"\w{1,40}", key, re.ASCII) else shown(key)
    return f"{path}.{step}" if path else step


def hint(file: Path) -> str:
    """What to do about an error in the file."""
    return f"correct it; to try it: gadgetd check {file}"


def decode(data: bytes | str, file: Path) -> str:
    """The file's text, without a byte-order mark. Raises ConfigError where it is not plain text."""
    if isinstance(data, bytes):
        data = data.removeprefix(BOM_UTF8)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            before = data[: error.start].decode()
            utf16 = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
            problem = "the file is UTF-16" if utf16 else f"byte 0x{data[error.start]:02x}"
            raise _failure(file, before, problem, "text in UTF-8") from error
    else:
        text = data.removeprefix("\ufeff")
    bad = _UNPRINTABLE.search(text)
    if bad:
        code = ord(bad.group())
        problem = "a NUL byte: the file is damaged" if code == 0 else f"character U+{code:04X}"
        raise _failure(file, text[: bad.start()], problem, "printable text in UTF-8")
    return text


def compose(text: str, file: Path) -> Node | None:
    """The tree of the one document in `text`; None if there is nothing but comments.

    Raises ConfigError, and nothing else, for everything that does not parse or is refused.
    """
    lines = _LINE_BREAK.split(text)
    builder = _Builder(file, lines)
    loader = None
    try:
        # PyYAML may have been built without libyaml.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        while loader.check_event():
            builder.take(loader.get_event(), loader.resolve)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        raise _translated(error, lines, file) from error
    except Exception as error:
        # Not only YAMLError comes out: OverflowError for "\U99999999" from the Python scanner,
        # ValueError for a %YAML directive of thousands of digits. A daemon at boot survives all.
        said = " ".join(str(error).split())[:_SHOWN]
        raise ConfigError(
            f"the YAML does not parse ({type(error).__name__}: {said})",
            file=file,
            line=getattr(loader, "line", -1) + 1,  # only the Python loader tells
            column=getattr(loader, "column", -1) + 1,
            hint=hint(file),
        ) from error
    return builder.root


class _Builder:
    """Events in, tree out. Holds the open lists and mappings, innermost last."""

    def __init__(self, file: Path, lines: list[str]) -> None:
        self.root: Node | None = None
        self._file = file
        self._lines = lines
        self._documents = 0
        self._open: list[Sequence | Mapping] = []
        # The key that waits for its value in the innermost mapping.
        self._key: Scalar | None = None

    def take(self, event: yaml.Event, resolve: _Resolve) -> None:
        line, column = _place(event.start_mark, self._lines)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._refused(line, column, "a second document begins", "one document")
        elif isinstance(event, yaml.AliasEvent):
            problem = f"*{str(event.anchor)[:_SHOWN]} is an alias, which is not supported"
            wanted = "the value written out, or quotes around a pattern that begins with *"
            raise self._refused(line, column, problem, wanted, self._path())
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line, column, resolve)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _node(self, event: yaml.NodeEvent, line: int, column: int, resolve: _Resolve) -> None:
        if event.anchor is not None:
            problem = f"&{event.anchor[:_SHOWN]} is an anchor, which is not supported"
            raise self._refused(line, column, problem, "the value alone", self._path())
        if isinstance(event, _TAGGED) and event.tag is not None:
            tag = shown(event.tag.replace(_TAG, "!!"))
            problem = f"the tag {tag} is not supported"
            raise self._refused(line, column, problem, "the value alone", self._path())
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0]
            meaning = _meaning(event, resolve) if plain else "str"
            node = Scalar(line, column, event.value, not plain, meaning)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence(line, column, [])
        else:
            node = Mapping(line, column, {})
        if len(self._open) == DEPTH_LIMIT and not isinstance(node, Scalar):
            problem = f"nested deeper than {DEPTH_LIMIT} levels"
            raise self._refused(line, column, problem, "", self._path())
        self._attach(node)
        if not isinstance(node, Scalar):
            self._open.append(node)

    def _attach(self, node: Node) -> None:
        parent = self._open[-1] if self._open else None
        if parent is None:
            self.root = node
        elif isinstance(parent, Sequence):
            parent.items.append(node)
        elif self._key is not None:
            parent.entries[self._key.text] = (self._key, node)
            self._key = None
        else:
            self._take_key(parent, node)

    def _take_key(self, parent: Mapping, node: Node) -> None:
        where = node.line, node.column
        if not isinstance(node, Scalar):
            problem = "a list or mapping stands where a key should"
            raise self._refused(*where, problem, "a name", self._path())
        if node.meaning == "merge":
            problem = "<< is a merge key, which is not supported"
            raise self._refused(*where, problem, "the keys written out", self._path())
        if node.text in parent.entries:
            first = parent.entries[node.text][0].line
            problem = f"the key is there twice, first in line {first}"
            path = join(self._path(), node.text)
            raise self._refused(*where, problem, "each key once", path)
        self._key = node

    def _path(self) -> str:
        """Where the walk is: the innermost key or list index that is open."""
        path = ""
        for depth, node in enumerate(self._open):
            innermost = depth == len(self._open) - 1
            if isinstance(node, Sequence):
                path += f"[{len(node.items) - (not innermost)}]"
            elif not innermost:
                path = join(path, next(reversed(node.entries)))
            elif self._key is not None:
                path = join(path, self._key.text)
        return path

    def _refused(
        self, line: int, column: int, problem: str, expected: str, key: str = ""
    ) -> ConfigError:
        return ConfigError(
            problem,
            file=self._file,
            line=line,
            column=column,
            key=key,
            expected=expected,
            hint=hint(self._file),
        )


def _meaning(event: yaml.ScalarEvent, resolve: _Resolve) -> str:
    """What a plain scalar is: text only if both YAML 1.1 and YAML 1.2 take it for text."""
    meaning = str(resolve(yaml.ScalarNode, event.value, event.implicit)).removeprefix(_TAG)
    if meaning == "str" and _NUMBER_1_2.fullmatch(event.value):
        return "float"
    return meaning


def _place(mark: yaml.Mark | yaml._yaml.Mark | None, lines: list[str]) -> tuple[int, int]:
    """Line and column of a mark, from 1; 0 without one."""
    if mark is None:
        return 0, 0
    if mark.line >= len(lines):  # libyaml puts the end of the stream past the last line
        return len(lines), len(lines[-1]) + 1
    return mark.line + 1, mark.column + 1


def _translated(error: yaml.MarkedYAMLError, lines: list[str], file: Path) -> ConfigError:
    """The parser's complaint: what it most likely is, where, and its own words."""
    line, column = _place(error.problem_mark or error.context_mark, lines)
    character = lines[line - 1][column - 1 : column] if line else ""
    said = ", ".join(str(part) for part in (error.context, error.problem) if part)
    if "cannot start any token" in said:
        if character == "\t" or r"'\t'" in said:
            ours = "a tab cannot indent: use spaces"
        else:  # one of % @ `, except where a byte-order mark in mid-text shifts the column
            sign = character if character in ("%", "@", "`") else "this"
            ours = f"{sign} cannot begin a value: put the text in quotes"
    else:
        ours = next((ours for theirs, ours in _IN_OUR_WORDS if theirs in said), "")
    begun = error.context_mark
    since = f", begun in line {begun.line + 1}" if begun and begun.line + 1 < line else ""
    return ConfigError(
        f"the YAML does not parse{': ' * bool(ours)}{ours} ({said[:80]}{since})",
        file=file,
        line=line,
        column=column,
        hint=hint(file),
    )


def _failure(file: Path, before: str, problem: str, expected: str) -> ConfigError:
    """An error right after the text `before`."""
    lines = _LINE_BREAK.split(before)
    return ConfigError(
        problem,
        file=file,
        line=len(lines),
        column=len(lines[-1]) + 1,
        expected=expected,
        hint="save it anew with a text editor, as UTF-8",
    )
