"""Changes the code in one place at a time, and looks whether a unit test fails.

It goes on where it was ended, part by part; a part whose code or tests have changed begins anew.
A change that no test notices is either in reasons.txt, with why it makes no difference, or printed.
Exit status: 0 all of those are named, 1 some are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.mutants.parts import PARTS, SHARED, files_of

CHECKOUT = Path(__file__).parents[2]
REASONS = Path(__file__).with_name("reasons.txt")
COPIED = ("gadgetd", "tests", "bootimg", "emulator", "docs", "rootfs-overlay", "pyproject.toml")
SETTINGS = """\
[mutmut]
source_paths=gadgetd
only_mutate=gadgetd/{part}.py
also_copy=
    bootimg
    emulator
    docs
    rootfs-overlay
pytest_add_cli_args=
    -n0
    -pno:cacheprovider
    --hypothesis-profile=mutants
    -knot at_any_call and not costs_no_import
pytest_add_cli_args_test_selection=
    {tests}
use_git_change_detection=false
timeout_multiplier=2
timeout_constant=15
"""
"""Those that end or refuse each call of a scene in turn are left out: they take half a minute. And
the one that looks at what is imported: mutmut's changed modules import more."""
SURVIVED, NO_TEST = 0, 33
"""What mutmut writes down of a mutant. Source: its stats.py, status_by_exit_code."""


class Survivor(NamedTuple):
    """A change that no test noticed."""

    name: str
    change: str
    """In one line: where, the lines that were taken out, and those that came in their place."""


class Result(NamedTuple):
    """What came of a part."""

    mutants: int
    left: int
    """Not tried yet."""
    survivors: tuple[Survivor, ...]


def workspace(part: str) -> Path:
    """Where a part's copy of the checkout is, made anew if its code has changed.

    If its tests have, only what they did not notice before is tried again: tests are added.
    """
    home = Path(os.environ["GADGETD_CACHE"]) / "mutants" / part.replace("/", "-")
    if not is_current(home / "code", f"gadgetd/{part}.py"):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        is_current(home / "code", f"gadgetd/{part}.py")
    if not is_current(home / "tests-key", *files_of(part), *SHARED):
        for name in COPIED:
            path, ignored = CHECKOUT / name, shutil.ignore_patterns("__pycache__", ".*")
            if path.is_dir():
                shutil.copytree(path, home / name, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(path, home / name)
        forget_survivors(home, part)
    tests = "\n    ".join(files_of(part))
    (home / "setup.cfg").write_text(SETTINGS.format(part=part, tests=tests))
    return home


def is_current(key: Path, *names: str) -> bool:
    """Whether a key is that of these files; if not, and there is a place for it, it is now."""
    digest = hashlib.sha256(b"".join((CHECKOUT / name).read_bytes() for name in names)).hexdigest()
    if key.exists() and key.read_text() == digest:
        return True
    if key.parent.exists():
        key.write_text(digest)
    return False


def forget_survivors(home: Path, part: str) -> None:
    """Have mutmut try again what no test noticed, with what it now finds of the tests."""
    meta = home / "mutants" / "gadgetd" / f"{part}.py.meta"
    if meta.exists():
        known = json.loads(meta.read_text())
        codes = known["exit_code_by_key"]
        known["exit_code_by_key"] = {
            name: None if code in (SURVIVED, NO_TEST) else code for name, code in codes.items()
        }
        meta.write_text(json.dumps(known))
        (home / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)


def mutmut(home: Path, *arguments: str) -> str:
    """Run it there and give what it says. RuntimeError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=home,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        said = re.sub(r"[^\n]*\r", "", done.stdout)[-3000:]
        raise RuntimeError(f"mutmut {' '.join(arguments)} in {home}:\n{said}")
    return done.stdout


def result(part: str, home: Path) -> Result:
    """What is known of a part so far."""
    meta = home / "mutants" / "gadgetd" / f"{part}.py.meta"
    codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
    lived = sorted(name for name, code in codes.items() if code in (SURVIVED, NO_TEST))
    survivors = tuple(Survivor(name, change(mutmut(home, "show", name))) for name in lived)
    return Result(len(codes), sum(code is None for code in codes.values()), survivors)


def change(shown: str) -> str:
    """A mutant's difference in one line, which another change elsewhere does not alter."""
    lines = shown.splitlines()
    where = next(
        (line.split(".x", 1)[1].split("__mutmut")[0] for line in lines if ".x" in line), ""
    )
    out = [line[1:].strip() for line in lines if line[:1] == "-" and line[:3] != "---"]
    new = [line[1:].strip() for line in lines if line[:1] == "+" and line[:3] != "+++"]
    return f"{where.strip('_ǁ').replace('ǁ', '.')}: {' '.join(out)} => {' '.join(new)}"


def reasons() -> Iterator[tuple[re.Pattern[str], str]]:
    """Why a change makes no difference: lines as they are printed, the reason, a blank line.

    `…` in a line stands for anything. The reason begins with a `-`.
    """
    for entry in REASONS.read_text().split("\n\n"):
        lines = [line for line in entry.splitlines() if line and line[0] != "#"]
        why = " ".join(line.removeprefix("-").strip() for line in lines if line[0] == "-")
        for line in lines:
            if line[0] != "-":
                yield re.compile(".*".join(map(re.escape, line.split("…")))), why


def unexplained(part: str, found: Result) -> Iterator[Survivor]:
    """Those that no reason is known for."""
    known = [pattern for pattern, why in reasons() if why]
    for survivor in found.survivors:
        if not any(pattern.fullmatch(f"{part} {survivor.change}") for pattern in known):
            yield survivor


def row(part: str, found: Result) -> str:
    """A line of the table in docs/reliability.md."""
    tried = found.mutants - found.left
    killed = tried - len(found.survivors)
    named = len(found.survivors) - len(list(unexplained(part, found)))
    share = f"{100 * killed / tried:.0f} %" if tried else ""
    return f"| `{part}` | {tried} | {killed} | {share} | {named} | {len(found.survivors) - named} |"


def main() -> int:
    """Run the parts that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make mutants ARGS=", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--report", action="store_true", help="run nothing, say what is known")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"{part}: there are {', '.join(PARTS)}")
    rows, wrong = [], 0
    for part in options.parts or PARTS:
        home = workspace(part)
        if not options.report:
            print(f"{part}: changing it", flush=True)
            mutmut(home, "run", "--max-children", "1")
        elif not (home / "mutants").exists():
            continue
        found = result(part, home)
        for survivor in unexplained(part, found):
            print(f"{part} {survivor.change}", flush=True)
            wrong += 1
        rows.append(row(part, found))
        print(rows[-1], flush=True)
    print("\n| Module | Changes | Noticed | | Of the others, named | Not named |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
