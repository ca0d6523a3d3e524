"""The one directory, outside the checkout, that the emulator writes to; and progress on stderr."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from emulator.errors import EmulatorError

CHECKOUT = Path(__file__).resolve().parent.parent


def directory(*parts: str) -> Path:
    """The cache ($GADGETD_CACHE, or gadgetd in the user's cache), or a directory in it, made."""
    fallback = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    top = Path(os.environ.get("GADGETD_CACHE") or Path(fallback) / "gadgetd")
    path = top.absolute().joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(sentence: str) -> None:
    """Progress, for a person: on stderr, so that stdout stays the board's."""
    print(f"  {sentence}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(sentence: str) -> Iterator[None]:
    """Say what begins and, when it has ended well, how many seconds it took."""
    say(f"{sentence} …")
    start = time.monotonic()
    yield
    say(f"{sentence}: {time.monotonic() - start:.1f} s")


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the cache's lock `name`: two builds at once take turns, whoever started them."""
    with (directory() / f"{name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process works on the {name}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def output_of(
    command: Sequence[str | Path],
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    what: str,
) -> str:
    """Run a command to its end and return its stdout.

    Raises EmulatorError, with the last lines the command said, if it fails or is not there.
    """
    arguments = [str(argument) for argument in command]
    try:
        done = subprocess.run(
            arguments,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise EmulatorError(
            f"cannot {what}: {arguments[0]} is not installed", hint="run: make setup"
        ) from error
    if done.returncode != 0:
        last = "\n    ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-8:])
        raise EmulatorError(f"cannot {what}: {arguments[0]} says\n    {last}")
    return done.stdout


def run_directory() -> Path:
    """A new directory for one machine; those of processes that were killed are removed."""
    remove_left_runs()
    with lock("run"):
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=directory("run")))


def remove_left_runs() -> None:
    """Remove what machines left whose processes were killed."""
    with lock("run"):
        for left in directory("run").iterdir():
            if not Path("/proc", left.name.partition("-")[0]).exists():
                shutil.rmtree(left, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that nobody, not even after a crash, sees a part of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_bytes(data)
    draft.replace(path)
