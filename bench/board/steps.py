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

MODULES = """
    cli main blockscan board loop commands control daemon exporter kmsg login panel signals
"""
"""In the order in which gadgetd imports them."""
STEPS = (
    ("main", "_lock", "take the lock"),
    ("blockscan.BlockScan", "__init__", "listen to the kernel's uevents"),
    ("main", "read_board", "read model and serial number"),
    ("daemon", "load", "look for a configuration"),
    ("daemon", "limit", "bound unwritten data"),
    ("exporter.Exporter", "prepare", "mount configfs, look for leftovers"),
    ("exporter.Exporter", "seen_as", "what of ours comes back over USB"),
    ("blockscan.BlockScan", "pending", "look for disks on their way"),
    ("blockscan.BlockScan", "disks", "scan the disks"),
    ("exporter.Exporter", "take", "hold the disks"),
    ("exporter.Exporter", "_wanted", "plan"),
    ("configfs.ConfigFs", "read_back", "read the gadget back"),
    ("configfs.ConfigFs", "build", "write configfs"),
    ("configfs.ConfigFs", "bind", "bind"),
)
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
    names = MODULES.split()
    for name in names:
        __import__(f"gadgetd.{name}")
    modules = {name: sys.modules[f"gadgetd.{name}"] for name in (*names, "configfs")}
    took["imports"] = time.monotonic() - BEGIN
    for place, attribute, name in STEPS:
        module, _, inner = place.partition(".")
        owner = getattr(modules[module], inner) if inner else modules[module]
        if hasattr(owner, attribute):
            setattr(owner, attribute, watched(name, getattr(owner, attribute)))
    sys.exit(modules["cli"].main(["run"]))


if __name__ == "__main__":
    main()
