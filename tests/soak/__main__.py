"""Runs the tests that choose by a seed, each round with another one, until the time is over.

Exit status: 0 all passed, 1 some did not; what failed is printed, with the command that does it
again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FILES = (
    "test_each_step_refused",
    "test_hostile_input",
    "test_safe_to_unplug",
    "control/test_server",
    "config/test_settings",
    "bootimg/test_fat",
    "bootimg/test_inspect",
    "export/test_exporter",
)
_PASSED = re.compile(r"(\d+) passed")


def main() -> int:
    """Run the rounds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: 30")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    parser.add_argument("--only", default="", metavar="PART", help="of a file's name")
    options = parser.parse_args()
    files = [file for file in FILES if options.only in file]
    if not files:
        parser.error(f"--only {options.only}: there are {', '.join(FILES)}")
    end = time.monotonic() + options.minutes * 60
    passed = dict.fromkeys(files, 0)
    failed: list[str] = []
    print(f"{options.minutes:g} minutes, first seed {options.seed}", flush=True)
    seed = options.seed
    for seed in count(options.seed):
        for file in files:
            if time.monotonic() >= end:
                break
            begin = time.monotonic()
            good, tests, said = _run(file, seed)
            passed[file] += tests
            took_s = time.monotonic() - begin
            word = "passed" if good else "FAILED"
            print(f"seed {seed}  {file}: {tests} {word} in {took_s:.0f} s", flush=True)
            if not good:
                failed.append(f"make soak ARGS='--seed {seed} --only {file} --minutes 1'")
                print(said, flush=True)
        else:
            continue
        break
    width = max(map(len, files))
    print(f"\n{'file':{width}}  tests passed")
    for file, tests in passed.items():
        print(f"{file:{width}}  {tests:12}")
    print(f"{seed - options.seed} whole rounds; {len(failed)} failed")
    print("\n".join(failed))
    return 1 if failed else 0


def _run(file: str, seed: int) -> tuple[bool, int, str]:
    """One file with one seed: whether all passed, how many did, and what was said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--hypothesis-seed={seed}", f"tests/unit/{file}.py"],
        cwd=CHECKOUT,
        env={**os.environ, "GADGETD_SEED": str(seed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    match = _PASSED.search(done.stdout)
    return done.returncode == 0, int(match[1]) if match else 0, done.stdout


if __name__ == "__main__":
    sys.exit(main())
