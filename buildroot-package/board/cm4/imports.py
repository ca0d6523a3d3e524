"""Which Python modules the board needs: everything that gadgetd and the debug shell can import.

Imports are read out of the byte code and followed. One that always runs is always followed, and
has to be there; one in a function, in a branch or with an `except` around it is followed unless
NOT_FOLLOWED says why not. So a module that a new Python version imports without a condition is
there, whatever the lists say, or the build ends. What an extension imports from C is found by the
names in its text: any that is a module's counts as a conditional import.
"""

import dis
import inspect
import marshal
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from promises import SHELL

OURS = ("gadgetd", "pyudev", "yaml")
"""Packages whose every import has to be found."""

UNSEEN = (
    *("encodings", "encodings.utf_8", "encodings.ascii", "encodings.latin_1", "encodings.cp437"),
    *("site", "runpy", "linecache", "rlcompleter", "_strptime", "importlib.machinery"),
    *("_pyrepl.__main__", "_pyrepl.main", "_pyrepl.trace"),  # decide for the plain prompt
)
"""What the interpreter imports by itself, where no import statement tells. Some versions have
less of it."""

ALIASES = {"collections.abc": "_collections_abc", "os.path": "posixpath"}
"""Names without a file of their own: another module puts itself there."""

NOT_FOLLOWED = {
    "_aix_support": "AIX",
    "_android_support": "Android",
    "_apple_support": "macOS",
    "_ios_support": "iOS",
    "_osx_support": "macOS",
    "_py_abc": "stands in for the C version, which is there",
    "_pydatetime": "likewise",
    "_pydecimal": "likewise",
    "_pyio": "likewise",
    "_pyrepl.console": "the coloured prompt; it wants a terminal database",
    "_pyrepl.pager": "likewise",
    "_pyrepl.readline": "likewise",
    "_pyrepl.simple_interact": "likewise",
    "_pyrepl.unix_console": "likewise",
    "_pyrepl.windows_console": "Windows",
    "asyncio": "offered to asynchronous programs, of which there are none; 3.14's pdb has it",
    "asyncio.windows_events": "Windows",
    "asyncio.windows_utils": "Windows",
    "bz2": "for archives; BusyBox has them",
    "compression": "likewise",
    "concurrent.futures.interpreter": "one process",
    "concurrent.futures.process": "one process",
    "ctypes.macholib": "macOS",
    "ctypes.wintypes": "Windows",
    "_curses": "no terminal database on the board",
    "curses": "likewise",
    "doctest": "for tests",
    "email": "no mail",
    "ftplib": "no network",
    "getpass": "there is no password",
    "gettext": "argparse in other languages",
    "http": "no network",
    "fractions": "random's test of itself",
    "importlib.metadata": "nothing asks for versions of packages",
    "importlib.readers": "nothing has data files",
    "importlib.resources": "likewise",
    "locale": "C.UTF-8 is the only one",
    "logging": "gadgetd does not use it",
    "lzma": "for archives; BusyBox has them",
    "multiprocessing": "one process",
    "nturl2path": "Windows",
    "optparse": "argparse is there",
    "pickle": "for copies between processes",
    "pydoc_data": "help on the language's keywords: half a megabyte of text",
    "pyudev._qt_base": "no window system",
    "pyudev.glib": "no window system",
    "readline": "not built: the shell edits lines",
    "ssl": "no network",
    "statistics": "random's test of itself",
    "sysconfig": "for building extensions; pydoc asks it for a path",
    "tarfile": "BusyBox has tar",
    "tkinter": "no window system",
    "unittest": "for tests",
    "urllib": "no network",
    "webbrowser": "no",
    "xml": "nothing reads it",
    "xmlrpc": "no network",
    "zipfile": "BusyBox has unzip",
}
"""Modules that a conditional import names and the board does without, and why."""


BUILD_VARIABLES = "_sysconfigdata"
"""Begins the name of the module that sysconfig imports by a name put together at run time."""

JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
"""Source: the documentation of dis; since 3.13 both are in hasjump, and hasjrel is that list."""


@dataclass(frozen=True)
class Import:
    """One name that an import statement may bring in; `always` if nothing stands before it."""

    name: str
    always: bool


def module_name(path: Path, top: Path) -> str:
    """`json.decoder` of json/decoder.pyc; an extension's name ends before its first dot."""
    parts = list(path.relative_to(top).parts)
    parts[-1] = parts[-1].partition(".")[0]
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def modules_below(top: Path) -> dict[str, Path]:
    """Every module below a directory of the module path, and its file. Byte code comes first."""
    found: dict[str, Path] = {}
    for path in sorted(top.rglob("*")):
        if path.suffix in (".so", ".py", ".pyc") and "__pycache__" not in path.parts:
            found[module_name(path, top)] = path
    return found


def modules_of(library: Path) -> dict[str, Path]:
    """Every module of a Python library: the standard one's, extensions, site-packages."""
    inner = [library / "lib-dynload", library / "site-packages"]
    found = {
        name: path
        for name, path in modules_below(library).items()
        if not any(path.is_relative_to(directory) for directory in inner)
    }
    for directory in inner:
        found |= modules_below(directory)
    return found


def for_the_board(modules: dict[str, Path]) -> set[str]:
    """All that gadgetd, the debug shell and the interpreter itself need.

    Raises LookupError if something of that is not there.
    """
    ours = tuple(name for name in modules if name.split(".")[0] == "gadgetd")
    if not ours:
        raise LookupError("there is no gadgetd")
    unseen = tuple(name for name in modules if name in UNSEEN or name.startswith(BUILD_VARIABLES))
    return wanted(modules, (*ours, *SHELL, *unseen))


def wanted(modules: dict[str, Path], roots: tuple[str, ...]) -> set[str]:
    """The modules that `roots` and what they import need, of those that there are.

    Raises LookupError for a module that is not there and that a root, or what a root always
    imports, imports without a condition: nothing at run time could catch that.
    """
    lost: set[str] = set()
    certain = _closure(modules, roots, lost, conditional=False)
    if lost:
        raise LookupError(
            f"Python modules that are needed and not there: {', '.join(sorted(lost))}"
        )
    return _closure(modules, tuple(certain), set(), conditional=True) & set(modules)


def _closure(
    modules: dict[str, Path], roots: tuple[str, ...], lost: set[str], *, conditional: bool
) -> set[str]:
    """All that `roots` import, with or without what they import `conditional`ly.

    What cannot be found goes to `lost`, with who asked for it.
    """
    queue = [(name, "the list") for name in sorted(roots)]
    seen: set[str] = set()
    while queue:
        name, asker = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in modules:
            if name in ALIASES:
                queue.append((ALIASES[name], name))
            elif name not in (*sys.builtin_module_names, "__main__"):
                lost.add(f"{name} (for {asker})")
            continue
        package = name.rpartition(".")[0]
        if package:
            queue.append((package, name))
        queue += [
            (found.name, name)
            for found in imports(name, modules)
            if found.always or (conditional and not excluded(found.name, name))
        ]
    return seen


def excluded(name: str, asker: str = "") -> bool:
    """Whether NOT_FOLLOWED has the module or a package that it is in.

    A package that is there after all imports its own parts in branches as well, so what it is
    listed for does not hold for a module inside it.
    """
    parts = name.split(".")
    packages = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return any(
        package in NOT_FOLLOWED and not f"{asker}.".startswith(f"{package}.")
        for package in packages
    )


def imports(name: str, modules: dict[str, Path]) -> Iterator[Import]:
    """What the import statements of one module name; of an extension, what its text names."""
    path = modules[name]
    if path.suffix == ".so":
        yield from (Import(found, False) for found in _named(path, modules) if found != name)
        return
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for target, always, item in _statements(_code(path), package, always=True):
        # `from . import a` imports the module a if there is one, else it is a name in the package.
        if not item or target in modules:
            yield Import(target, always)


def _named(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules whose names stand in an extension, each between two zero bytes.

    PyImport_ImportModule() and its like take the name so; some strings that mean something else
    look the same, and cost a module that is not needed.
    """
    texts = re.findall(rb"(?<=\0)[A-Za-z_][\w.]*(?=\0)", path.read_bytes())
    return {text.decode() for text in texts} & set(modules)


def _code(path: Path) -> CodeType:
    """A module's byte code. Source: importlib's .pyc has a header of 16 bytes (PEP 552)."""
    if path.suffix == ".pyc":
        code = marshal.loads(path.read_bytes()[16:])
    else:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    assert isinstance(code, CodeType)
    return code


def _statements(code: CodeType, package: str, *, always: bool) -> Iterator[tuple[str, bool, bool]]:
    """Every name that the code and what is defined in it may import.

    With each: whether it always runs, and whether it is an item of a `from` import.
    """
    guarded = [range(e.start, e.end) for e in dis._parse_exception_table(code)]  # type: ignore[attr-defined]
    steps = list(dis.get_instructions(code))
    # What a jump can leap over does not always run.
    guarded += [
        range(step.offset + 1, step.argval)
        for step in steps
        if step.opcode in JUMPS and step.argval > step.offset
    ]
    before: list[object] = [0, None]
    script = False
    for step in steps:
        if step.opname == "IMPORT_NAME":
            level, listed = before
            runs = always and not script and not any(step.offset in guard for guard in guarded)
            base = _absolute(str(step.argval or ""), int(str(level)), package)
            if base:
                yield base, runs, False
            for item in listed if isinstance(listed, tuple) else ():
                yield f"{base}.{item}", runs, True
        script |= step.argval == "__main__"  # `if __name__ == …` ends a module
        if step.opname not in ("CACHE", "EXTENDED_ARG"):
            before = [before[1], step.argval]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            # A class body runs where it stands; a function runs when it is called.
            inside = always and not constant.co_flags & inspect.CO_OPTIMIZED
            yield from _statements(constant, package, always=inside)


def _absolute(name: str, level: int, package: str) -> str:
    """The full name of what `from ...name import` means in a package."""
    if level == 0:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name])])
