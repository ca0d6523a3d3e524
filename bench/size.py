"""Size of what rpiboot sends to a board, if `make image` has built it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.row import Judged, Kind, Row, Target
from bench.sheet import Sheet
from emulator import cache
from emulator.options import MIB

AT_MOST = Target(10, Judged.VALUE)
"""MiB."""
PYTHON = "usr/lib/python3"


def measure(sheet: Sheet) -> None:
    """Read the sizes that the image's build has left."""
    output = Path(os.environ.get("IMAGE_OUTPUT") or cache.directory() / "image/output")
    report = output / "images/gadgetd-sizes.json"
    if not report.exists():
        sheet.say("no image has been built: run make image")
        return
    for row in rows(json.loads(report.read_text())):
        sheet.add(row)


def rows(sizes: Mapping[str, Any]) -> list[Row]:
    """The rows for what the image's report says, in bytes."""
    rootfs: Mapping[str, int] = sizes["rootfs"]
    python = sum(size for name, size in rootfs.items() if name.startswith(PYTHON))
    found = [Row("size: boot.img", "MiB", (sizes["boot.img"] / MIB,), target=AT_MOST)]
    for name, size in (
        ("root file system, uncompressed", sum(rootfs.values())),
        ("its Python part", python),
    ):
        found.append(Row(f"size: {name}", "MiB", (size / MIB,), kind=Kind.DETAIL))
    return found
