"""A Raspberry Pi's own device tree, made to fit QEMU's raspi4b.

What the model has not is taken out; what the firmware puts in on a board is put in. Nothing else
is touched, so the drivers bind to the nodes that they bind to on a board. Each edit has its reason
beside it; all of them were found by starting kernels on QEMU 10.0.
"""

import re
import shutil
from pathlib import Path

from emulator.fdt import Tree

SCREEN = (1280, 720)
SCREEN_AT = 0x3C100000  # where QEMU's own firmware puts the picture of bcm2835-fb
SCREEN_OPTIONS = [
    option
    for name, value in (("xres", SCREEN[0]), ("yres", SCREEN[1]), ("bpp", 32))
    for option in ("-global", f"bcm2835-fb.{name}={value}")
]
EMMC2 = "/emmc2bus/mmc@7e340000"
UART0 = "/soc/serial@7e201000"
FIRMWARE_GPIO = "/soc/firmware/gpio"


def adapt(source: Path, target: Path, *, serial: str) -> None:
    """Write `source`, a bcm2711-*.dtb, to `target` as QEMU's raspi4b can have it.

    `serial` is the board's, which the firmware would add. Raises EmulatorError if it is no such
    tree.
    """
    shutil.copyfile(source, target)
    tree = Tree(target)
    # HDMI's interrupt controller and I2C are not there: an access ends in an abort.
    for node in tree.children("/soc"):
        if re.search(r"@7ef", node):
            tree.disable(f"/soc/{node}")
    # The Wi-Fi's SD host: QEMU has an SD host of another kind there.
    for node in tree.children("/soc"):
        if re.fullmatch(r"mmc(nr)?@7e300000", node):
            tree.disable(f"/soc/{node}")
    tree.disable("/wifi-pwrseq")
    tree.remove(f"{UART0}/bluetooth")
    # QEMU's firmware has no GPIO expander. What hangs on it never comes: the SD card's supplies,
    # the power LED, with which leds-gpio would leave out ACT too, and the antenna's switches.
    tree.delete(EMMC2, "vmmc-supply", "vqmmc-supply")
    for node in tree.children("/leds"):
        if "pwr" in node:
            tree.remove(f"/leds/{node}")
    if any("hog" in node for node in tree.children(FIRMWARE_GPIO)):
        tree.disable(FIRMWARE_GPIO)
    tree.put("-ts", "/", "serial-number", serial)
    _put_screen(tree)


def _put_screen(tree: Tree) -> None:
    """The frame buffer that the firmware has set up, as a simple-framebuffer."""
    node = f"/chosen/framebuffer@{SCREEN_AT:x}"
    width, height = SCREEN
    tree.create(node)
    for name in ("#address-cells", "#size-cells"):
        tree.put("-tu", "/chosen", name, tree.get("/", name))
    tree.put("-tx", "/chosen", "ranges")
    address = ["0"] * (int(tree.get("/", "#address-cells")) - 1) + [f"{SCREEN_AT:x}"]
    tree.put("-ts", node, "compatible", "simple-framebuffer")
    tree.put("-tx", node, "reg", *address, f"{width * height * 4:x}")
    tree.put("-tu", node, "width", str(width))
    tree.put("-tu", node, "height", str(height))
    tree.put("-tu", node, "stride", str(width * 4))
    tree.put("-ts", node, "format", "x8r8g8b8")
