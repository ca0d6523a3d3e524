"""What a person at the board's shell may count on, tried with the Python that the image has.

post-build.sh gives this to the target's interpreter, by qemu-user, as the last step of a build. It
ends with status 1 and a line for each thing that does not work.
"""

import contextlib
import importlib
import io
import pkgutil
import sys

SHELL = (
    *("pdb", "pydoc", "traceback", "code", "dis", "timeit"),  # look into a process
    *("json", "json.tool", "struct", "binascii", "base64", "hashlib", "zlib"),  # look into data
    *("socket", "select", "mmap", "fcntl", "termios", "ctypes"),  # talk to the kernel
    *("os", "shutil", "glob", "tempfile", "subprocess", "pathlib"),  # files and programs
    *("re", "textwrap", "pprint", "argparse", "shlex", "string"),
    *("time", "datetime", "random", "math"),
    *("collections", "itertools", "functools", "operator", "contextlib", "enum", "dataclasses"),
)
"""The modules. imports.py keeps them and what they import."""

OURS = ("gadgetd", "pyudev", "yaml")


def main() -> int:
    """Try everything; 1 if something does not work."""
    broken = [line for name in (*SHELL, *OURS, *daemon()) for line in attempt(name)]
    broken += [*helps(), *errno_of_libudev()]
    for line in broken:
        print(f"promises: ERROR: {line}", file=sys.stderr)
    if not broken:
        version = sys.version.split()[0]
        print(f"promises kept by Python {version}: {len(SHELL)} modules, gadgetd, help()")
    return bool(broken)


def daemon() -> list[str]:
    """The names of gadgetd's modules; none if it cannot be imported, which attempt() then says."""
    try:
        import gadgetd
    except Exception:
        return []
    found = pkgutil.walk_packages(gadgetd.__path__, "gadgetd.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def attempt(name: str) -> list[str]:
    """Import a module; what is wrong with it."""
    try:
        importlib.import_module(name)
    except Exception as error:
        return [f"import {name}: {type(error).__name__}: {error}"]
    return []


def helps() -> list[str]:
    """Ask help() about a function; what is wrong with it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            help(len)
    except Exception as error:
        return [f"help(): {type(error).__name__}: {error}"]
    return [] if "len" in said.getvalue() else ["help() says nothing"]


def errno_of_libudev() -> list[str]:
    """Look whether pyudev can tell a failed call of libudev's; what is wrong with it."""
    try:
        import _ctypes

        import pyudev

        flags = pyudev.Context()._libudev._FuncPtr._flags_
    except Exception as error:
        return [f"libudev: {type(error).__name__}: {error}"]
    return [] if flags & _ctypes.FUNCFLAG_USE_ERRNO else ["libudev is loaded without use_errno"]


if __name__ == "__main__":
    sys.exit(main())
