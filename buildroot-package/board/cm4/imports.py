"""Which Python modules the board needs: everything that gadgetd and the debug shell can import.

Imports are read out of the byte code and followed. One that always runs is always followed; one
in a function or with an `except` around it is followed unless NOT_FOLLOWED says why not. So a
module that a new Python version imports without a condition is there, whatever the lists say.
"""

import dis
import inspect
import marshal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

OURS = ("gadgetd", "pyudev", "yaml")
"""Packages whose every import has to be found."""

SHELL = (
    *("pdb", "traceback", "code", "dis", "timeit"),  # look into a process
    *("json", "struct", "binascii", "base64", "hashlib", "zlib"),  # look into data
    *("socket", "select", "mmap", "fcntl", "termios", "ctypes"),  # talk to the kernel
    *("os", "shutil", "glob", "tempfile", "subprocess", "pathlib"),  # files and programs
    *("re", "textwrap", "pprint", "argparse", "shlex", "string"),
    *("time", "datetime", "random", "math"),
    *("collections", "itertools", "functools", "operator", "contextlib", "enum", "dataclasses"),
)
"""What a person at the debug shell may count on."""

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
    "asyncio": "offered to asynchronous programs, of which there are none",
    "bz2": "for archives; BusyBox has them",
    "compression": "likewise",
    "ctypes.macholib": "macOS",
    "ctypes.wintypes": "Windows",
    "curses": "no terminal database on the board",
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
    "pydoc": "pdb's help on modules; it would bring a web server",
    "pyudev._qt_base": "no window system",
    "pyudev.glib": "no window system",
    "readline": "not built: the shell edits lines",
    "ssl": "no network",
    "statistics": "random's test of itself",
    "sysconfig": "for building extensions",
    "tarfile": "BusyBox has tar",
    "tkinter": "no window system",
    "unittest": "for tests",
    "urllib": "no network",
    "webbrowser": "no",
    "xml": "nothing reads it",
    "zipfile": "BusyBox has unzip",
}
"""Modules that a conditional import names and the board does without, and why."""


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
    unseen = tuple(name for name in UNSEEN if name in modules)
    return wanted(modules, (*ours, *SHELL, *unseen))


def wanted(modules: dict[str, Path], roots: tuple[str, ...]) -> set[str]:
    """The modules that `roots` and what they import need, of those that there are.

    Raises LookupError for a module of OURS, or a root, that cannot be found.
    """
    queue = [(name, "the list") for name in roots]
    seen: set[str] = set()
    lost: set[str] = set()
    while queue:
        name, asker = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in modules:
            if name in ALIASES:
                queue.append((ALIASES[name], name))
            elif name not in sys.builtin_module_names:
                lost.add(f"{name} (for {asker})")
            continue
        package = name.rpartition(".")[0]
        if package:
            queue.append((package, name))
        if modules[name].suffix == ".so":
            continue
        for found in imports(name, modules):
            if not found.always and excluded(found.name):
                continue
            if found.name in modules or (found.always and name.split(".")[0] in OURS):
                queue.append((found.name, name))
    if lost:
        raise LookupError(
            f"Python modules that are needed and not there: {', '.join(sorted(lost))}"
        )
    return seen & set(modules)


def excluded(name: str) -> bool:
    """Whether NOT_FOLLOWED has the module or a package that it is in."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in NOT_FOLLOWED for end in range(1, len(parts) + 1))


def imports(name: str, modules: dict[str, Path]) -> Iterator[Import]:
    """What the import statements of one module name."""
    path = modules[name]
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for target, always in _statements(_code(path), package, always=True):
        yield Import(target, always)


def _code(path: Path) -> CodeType:
    """A module's byte code. Source: importlib's .pyc has a header of 16 bytes (PEP 552)."""
    if path.suffix == ".pyc":
        code = marshal.loads(path.read_bytes()[16:])
    else:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    assert isinstance(code, CodeType)
    return code


def _statements(code: CodeType, package: str, *, always: bool) -> Iterator[tuple[str, bool]]:
    """Every name that the code and what is defined in it may import, submodules included."""
    guarded = [range(e.start, e.end) for e in dis._parse_exception_table(code)]  # type: ignore[attr-defined]
    before: list[object] = [0, None]
    script = False
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            level, listed = before
            runs = always and not script and not any(step.offset in guard for guard in guarded)
            base = _absolute(str(step.argval or ""), int(str(level)), package)
            if base:
                yield base, runs
            for item in listed if isinstance(listed, tuple) else ():
                yield f"{base}.{item}", False
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
