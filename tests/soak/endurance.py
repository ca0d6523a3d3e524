"""Plays each thing that may happen to a board very often, in the fake: `make endurance`.

Prints a table of what was left of it, and draws it in docs/endurance.svg. The tests are those of
tests/unit/test_endurance.py, whose limits hold.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import plots
from tests.soak import SAMPLES, Sample, read_samples

CHECKOUT = Path(__file__).parents[2]
PICTURE = CHECKOUT / "docs" / "endurance.svg"
TEST = "tests/unit/test_endurance.py::test_nothing_is_left_of_a_round"
ROUNDS = {"plug": 5000, "hot_plug": 1000, "reload": 1000, "eject": 1000, "restart": 1000}
HEAD = """\
| What | Times | Simulated | Descriptors | Blocks of Python's memory | Resident, MiB | Lines kept |
|---|---|---|---|---|---|---|"""


def main() -> int:
    """Play, print and draw; returns the exit status, 1 if a test failed."""
    parser = argparse.ArgumentParser(prog="make endurance ARGS=", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the times; default: 1")
    options = parser.parse_args()
    begin, failed = time.monotonic(), 0
    found: dict[str, Sequence[Sample]] = {}
    for what, times in ROUNDS.items():
        file = Path(tempfile.mkdtemp(prefix="endurance-")) / "samples"
        rounds = max(1, int(times * options.share))
        print(f"{what}: {rounds} times", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--tb=short", f"{TEST}[{what}]"],
            cwd=CHECKOUT,
            env={**os.environ, "GADGETD_ROUNDS": str(rounds), SAMPLES: str(file)},
            check=False,
        )
        failed += done.returncode != 0
        found[what.replace("_", " ")] = read_samples(file)
    print(f"\n{(time.monotonic() - begin) / 60:.0f} minutes\n\n{HEAD}")
    for what, samples in found.items():
        print(row(what, samples))
    plots.endurance(pictured(found), PICTURE)
    return int(failed > 0)


def row(what: str, samples: Sequence[Sample]) -> str:
    """What there was at the first sample, and at the last; of blocks also the most."""
    first, last = samples[0], samples[-1]
    hours = (last.clock_s - first.clock_s) / 3600
    most = max(sample.blocks for sample in samples) - first.blocks
    return (
        f"| {what} | {last.rounds} | {hours:.1f} h"
        f" | {first.descriptors} → {last.descriptors}"
        f" | {first.blocks} {last.blocks - first.blocks:+d}, at most {most:+d}"
        f" | {first.resident_kib / 1024:.1f} → {last.resident_kib / 1024:.1f}"
        f" | {first.lines} → {last.lines} |"
    )


def pictured(found: Mapping[str, Sequence[Sample]]) -> dict[str, list[tuple[int, int, int]]]:
    """Rounds, descriptors and blocks more than at first."""
    return {
        what: [(each.rounds, each.descriptors, each.blocks - samples[0].blocks) for each in samples]
        for what, samples in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
