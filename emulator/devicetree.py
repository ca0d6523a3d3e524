"""The emulated board's device tree: QEMU's own, with a Compute Module's name, serial, LED."""

import re
from pathlib import Path

from emulator import cache

LED_LINE = 5  # of the machine's pl061; line 3 is its power button
COMPATIBLE = {
    "4": ("raspberrypi,4-compute-module", "brcm,bcm2711"),
    "3": ("raspberrypi,3-compute-module", "brcm,bcm2837"),
}


def write(target: Path, qemu: list[str], *, model: str, serial: str, led: str | None) -> None:
    """Write the device tree for the machine that the `qemu` command line describes.

    `led` is the ACT LED's name, or None for a board without one. Raises EmulatorError if QEMU or
    fdtput fails.
    """
    dump = [*qemu[:1], *_with_dump(qemu[1:], target)]
    cache.output_of(dump, what="have QEMU write its device tree")
    generation = re.search(r"Compute Module (\d)", model)
    compatible = COMPATIBLE.get(generation[1] if generation else "", ())
    _put(target, "-ts", "/", "model", model)
    _put(target, "-ts", "/", "compatible", *compatible, "linux,dummy-virt")
    _put(target, "-ts", "/", "serial-number", serial)
    if led is None:
        return
    gpio = cache.output_of(["fdtget", "-l", target, "/"], what="list the device tree").split()
    (pl061,) = (node for node in gpio if node.startswith("pl061@"))
    phandle = cache.output_of(
        ["fdtget", "-tx", target, f"/{pl061}", "phandle"], what="find the GPIO controller"
    ).strip()
    cache.output_of(["fdtput", "-cp", target, "/leds/led-act"], what="add the LED's node")
    _put(target, "-ts", "/leds", "compatible", "gpio-leds")
    _put(target, "-ts", "/leds/led-act", "label", led)
    _put(target, "-ts", "/leds/led-act", "linux,default-trigger", "mmc0")
    _put(target, "-tx", "/leds/led-act", "gpios", phandle, f"{LED_LINE:x}", "0")


def _with_dump(arguments: list[str], target: Path) -> list[str]:
    """The command line with the machine option that makes QEMU write the tree and end."""
    changed = list(arguments)
    place = changed.index("-M") + 1
    changed[place] += f",dumpdtb={target}"
    return changed


def _put(tree: Path, kind: str, node: str, name: str, *values: str) -> None:
    """Set one property."""
    cache.output_of(
        ["fdtput", kind, tree, node, name, *values], what=f"set {name} in the device tree"
    )
