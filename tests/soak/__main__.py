"""Runs the tests that choose by a seed, each round with another one, until the time is over.

Those that boot machines go on beside those that do not. A file that has begun is let end.
Exit status: 0 all passed, 1 some did not; what failed is printed, with the command that does it
again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.soak import COUNTS

CHECKOUT = Path(__file__).parents[2]
FILES = (
    "unit/test_each_step_refused",
    "unit/test_hostile_input",
    "unit/test_safe_to_unplug",
    "unit/control/test_server",
    "unit/config/test_settings",
    "unit/bootimg/test_fat",
    "unit/bootimg/test_inspect",
    "unit/export/test_exporter",
    "unit/test_endurance",
    "soak/fuzz",
    "vm/test_pc_killed",
)
CUTS = 5
"""How often a round takes the board's power, and the cable, while the PC writes."""
ROUNDS = 200
"""How often a round plugs, reloads and so on in the fake."""
FUZZ_S = 60
"""How long a round tries bytes as a configuration."""
_PASSED = re.compile(r"(\d+) passed")


@dataclass
class Lane:
    """Files that are run one after the other, with seed after seed."""

    files: Sequence[str]
    rounds: int = 0
    """That have come to their end."""
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    """The commands that do again what has failed."""

    def run(self, seed: int, end: float, counts: Path) -> None:
        """Begin with this seed and go on until `end`, of time.monotonic."""
        for each in count(seed):
            for file in self.files:
                if time.monotonic() >= end:
                    return
                begin = time.monotonic()
                good, tests, said = _run(file, each, counts)
                self.passed += tests
                took_s = time.monotonic() - begin
                word = "passed" if good else "FAILED"
                print(f"seed {each}  {file}: {tests} {word} in {took_s:.0f} s", flush=True)
                if not good:
                    again = f"--seed {each} --only {file} --minutes 0.1"
                    self.failed.append(f"make soak ARGS='{again}'")
                    print(said, flush=True)
            self.rounds += 1


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
    begun = time.monotonic()
    end = begun + options.minutes * 60
    print(f"{options.minutes:g} minutes, first seed {options.seed}", flush=True)
    counts = Path(tempfile.mkdtemp(prefix="soak-")) / "counts"
    counts.touch()
    kinds = ([f for f in files if not _boots(f)], [f for f in files if _boots(f)])
    lanes = [Lane(kind) for kind in kinds if kind]
    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(lane.run, options.seed, end, counts) for lane in lanes]:
            done.result()
    minutes = (time.monotonic() - begun) / 60
    failed = [command for lane in lanes for command in lane.failed]
    done_so_often = _counted(counts)
    done_so_often["tests passed"] = sum(lane.passed for lane in lanes)
    print(f"\n{minutes:.0f} minutes, first seed {options.seed}\n\n| Done | How often |\n|---|---|")
    for what, number in sorted(done_so_often.items()):
        print(f"| {what} | {number} |")
    print(f"| files with a test that failed | {len(failed)} |\n")
    for lane in lanes:
        print(f"{lane.rounds} whole rounds of {', '.join(lane.files)}")
    print("\n".join(failed))
    return 1 if failed else 0


def _boots(file: str) -> bool:
    """Whether its tests boot machines."""
    return file.startswith("vm/")


def _counted(file: Path) -> Counter[str]:
    """What the tests have counted, added up."""
    found: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        number, _, what = line.partition(" ")
        found[what] += int(number)
    return found


def _run(file: str, seed: int, counts: Path) -> tuple[bool, int, str]:
    """One file with one seed: whether all passed, how many did, and what was said."""
    command = [sys.executable, "-m", "pytest", "-q", f"--hypothesis-seed={seed}"]
    command.append(f"tests/{file}.py")
    if file == "soak/fuzz":
        command = [sys.executable, "-m", "tests.soak.fuzz", str(seed), str(FUZZ_S)]
    if _boots(file):
        command += ["-n", "0", "--kills", str(CUTS), "-k", "board_is_killed or cable_is_pulled"]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env={
            **os.environ,
            "GADGETD_SEED": str(seed),
            "GADGETD_ROUNDS": str(ROUNDS),
            COUNTS: str(counts),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    match = _PASSED.search(done.stdout)
    return done.returncode == 0, int(match[1]) if match else 0, done.stdout


if __name__ == "__main__":
    sys.exit(main())
