"""Runs gadgetd up to the bind and says how long each step took. Prints JSON: [[name, ms], ...].

Everything is imported first, so that imports are one step; -X importtime tells them apart. Imports
nothing at its top that gadgetd might not.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BEGIN = time.monotonic()
sys.path.append("/usr/lib/python3/dist-packages")

STEPS = (
    ("main", "_lock", "take the lock"),
    ("main", "read_board", "read model and serial number"),
    ("config.load.ConfigFile", "read", "look for a configuration"),
    ("daemon", "limit", "bound unwritten data"),
    ("export.exporter.Exporter", "prepare", "mount configfs, look for leftovers"),
    ("export.exporter.Exporter", "identities", "what of ours comes back over USB"),
    ("blockscan.BlockScan", "pending", "look for disks on their way"),
    ("blockscan.BlockScan", "disks", "scan the disks"),
    ("export.drives.Drives", "hold_disks", "hold the disks"),
    ("export.exporter.Exporter", "_wanted", "plan"),
    ("configfs.ConfigFs", "read_back", "read the gadget back"),
    ("configfs.ConfigFs", "build", "write configfs"),
    ("configfs.ConfigFs", "bind", "bind"),
)
"""A module or a class of gadgetd, its function, and what that does."""
LAST = "bind"
took: dict[str, float] = {}
nested = [0.0]
"""Seconds of steps inside the one that runs."""


def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its own time (without that of steps inside it) added up; ends at LAST."""

    def call(*arguments: Any, **named: Any) -> Any:
        begin = time.monotonic()
        nested.append(0.0)
        try:
            return function(*arguments, **named)
        finally:
            whole = time.monotonic() - begin
            took[name] = took.get(name, 0.0) + whole - nested.pop()
            nested[-1] += whole
            if name == LAST:
                tell()
                configfs, gadget, *_ = arguments
                configfs.unbind(gadget)
                configfs.teardown(gadget)
                os._exit(0)

    return call


def tell() -> None:
    """Print what has been found."""
    import json

    whole = time.monotonic() - BEGIN
    took["the rest"] = whole - sum(took.values())
    print(json.dumps([[name, round(seconds * 1000, 2)] for name, seconds in took.items()]))
    sys.stdout.flush()


def main() -> None:
    """Import, wrap the steps, run."""
    __import__("gadgetd.cli")
    __import__("gadgetd.main")
    took["imports"] = time.monotonic() - BEGIN
    for place, attribute, name in STEPS:
        owner = sys.modules["gadgetd"]
        for part in place.split("."):
            owner = getattr(owner, part)
        setattr(owner, attribute, watched(name, getattr(owner, attribute)))
    sys.exit(sys.modules["gadgetd.cli"].main(["run"]))


if __name__ == "__main__":
    main()
