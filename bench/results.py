"""The results as JSON: the numbers, and what they were measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.row import Row
from bench.sheet import Sheet
from emulator import cache, packages
from gadgetd import __version__


def collect(sheet: Sheet, took_s: float) -> dict[str, Any]:
    """Everything that a run has found, ready for JSON."""
    return {
        "made": {
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "minutes": round(took_s / 60, 1),
            "load": round(os.getloadavg()[2], 2),
            **_versions(),
        },
        "rows": [row.to_json() for row in sheet.rows],
        "pictures": sheet.pictures,
        "failures": sheet.failures,
    }


def rows(results: dict[str, Any]) -> list[Row]:
    """The rows that `collect` has put away."""
    return [Row.from_json(plain) for plain in results["rows"]]


def write(results: dict[str, Any], path: Path) -> None:
    """Write the JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def _versions() -> dict[str, str]:
    """What was measured, and on what."""
    emulated = {deb.name.split("_")[0]: deb.name.split("_")[1] for deb in packages.fetch()}
    kernel = next(version for name, version in emulated.items() if name.startswith("linux-image"))
    return {
        "gadgetd": __version__,
        "commit": _said("git", "-C", str(cache.CHECKOUT), "describe", "--always", "--dirty"),
        "kernel": f"Linux {kernel} (Debian, arm64)",
        "python": emulated["python3.11-minimal"],
        "pyudev": emulated["python3-pyudev"],
        "qemu": _said("qemu-system-aarch64", "--version").splitlines()[0],
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.release(),
    }


def _said(*command: str) -> str:
    """What a command says; "unknown" if it is not there or fails (no git, no checkout of git)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    """The machine's processor, as the kernel calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
