"""`python -m bench`: measures all figures, or some, and renews docs/benchmarks.md (make bench)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from bench import (
    boot,
    idle,
    late,
    results,
    scale,
    shipped,
    size,
    slow,
    start,
    tables,
    throughput,
    where,
)
from bench.sheet import FULL, QUICK, Sheet
from emulator import EmulatorError, cache

FIGURES: Mapping[str, Callable[[Sheet], None]] = {
    "boot": boot.measure,
    "start": start.measure,
    "where": where.measure,
    "late": late.measure,
    "idle": idle.measure,
    "throughput": throughput.measure,
    "slow": slow.measure,
    "scale": scale.measure,
    "size": size.measure,
}
DOCUMENT = Path("docs/benchmarks.md")
PICTURES = Path("docs/benchmarks")
RESULTS = PICTURES / "results.json"


def main() -> int:
    """Measure; 0 if every figure could be measured, whatever it is."""
    options = _options()
    if options.render:
        _publish(json.loads((cache.CHECKOUT / RESULTS).read_text()))
        return 0
    names = options.only or list(FIGURES)
    publishing = not (options.quick or options.only)
    if publishing:
        from bench import plots  # noqa: F401 - better to fail now than after half an hour
    measures = dict(FIGURES)
    if options.image:
        try:
            shipped.check(options.image)
        except EmulatorError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        measures["image"] = partial(shipped.measure, image=options.image)
        names.append("image")
    sheet = Sheet(QUICK if options.quick else FULL)
    path = cache.directory("bench") / "results.json"
    begin = time.monotonic()
    for number, name in enumerate(names, start=1):
        sheet.figure = name
        sheet.say(f"figure {number} of {len(names)}")
        before = time.monotonic()
        try:
            measures[name](sheet)
        except EmulatorError as error:
            # The others are worth having all the same, and the document says what is missing.
            sheet.failures[name] = error.message.partition("\n")[0]
            sheet.say(f"FAILED: {error}")
        sheet.say(f"took {time.monotonic() - before:.0f} s")
        found = results.collect(sheet, time.monotonic() - begin)
        results.write(found, path)  # after each, so that an interrupted run is not lost
    if not publishing:
        _show(found)
        print(f"\nAll numbers: {path}")
    else:
        results.write(found, cache.CHECKOUT / RESULTS)
        _publish(found)
        _show(found)
        print(f"\nAll numbers: {RESULTS}; the document: {DOCUMENT}")
    return 1 if sheet.failures else 0


def _publish(found: dict[str, Any]) -> None:
    """Renew the document and its pictures."""
    # Only `make bench` installs what draws.
    from bench import plots

    plots.draw(found, cache.CHECKOUT / PICTURES)
    tables.renew(cache.CHECKOUT / DOCUMENT, found)


def _show(found: dict[str, Any]) -> None:
    """Print the table: aligned on a terminal, as Markdown into a file."""
    summary = f"\n{tables.made(found['made'])}\n\n{tables.figures(results.rows(found))}"
    if sys.stdout.isatty():
        Console().print(Markdown(summary))
    else:
        print(summary)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures gadgetd beside the script that it replaces, on the emulated board."
        " All of it renews docs/benchmarks.md; --quick and --only print the table.",
    )
    parser.add_argument("--quick", action="store_true", help="less often; under five minutes")
    parser.add_argument(
        "--only", action="append", choices=FIGURES, help="this figure alone; may be given again"
    )
    parser.add_argument(
        "--image",
        type=Path,
        metavar="DIR",
        help="also gadgetd as it ships: DIR is the output of `make image` and `make image-test`",
    )
    parser.add_argument(
        "--render", action="store_true", help="the document anew from the last results"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
