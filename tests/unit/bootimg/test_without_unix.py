"""The PC's tool is for Windows too: none of its modules asks, when imported, for what Unix has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bootimg

TOP = Path(bootimg.__file__).parent
# What Windows lacks of the standard library, as far as anything here could think of it.
WITHOUT = """
import os, signal, sys
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("fork", "geteuid", "mkfifo", "sysconf"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "pthread_sigmask"):
    delattr(signal, name)
"""


def test_each_module_is_imported_without_what_windows_lacks() -> None:
    modules = sorted(f"bootimg.{path.stem}" for path in TOP.glob("*.py"))
    modules.remove("bootimg.__main__")  # It runs when it is imported.
    code = f"{WITHOUT}\nimport {', '.join(modules)}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
