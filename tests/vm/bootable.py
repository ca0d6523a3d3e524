"""A boot.img of stand-ins that boots: Debian's kernel and device trees, the emulator's own root."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

from bootimg import cli
from emulator import base, image
from emulator.cache import CHECKOUT

BOARD = CHECKOUT / "buildroot-package/board/cm4"
# Debian's trees have no names for overlays to refer to, so these name the place.
OVERLAY = """
/dts-v1/;
/plugin/;
/ {{
    fragment@0 {{ target-path = "{place}"; label: __overlay__ {{ {properties} }}; }};
    __overrides__ {{ dr_mode = <&label>, "dr_mode"; }};
}};
"""
OVERLAYS = {
    "dwc2": OVERLAY.format(place="/soc/usb@7e980000", properties='dr_mode = "otg";'),
    "disable-wifi": OVERLAY.format(place="/soc/mmc@7e300000", properties='status = "disabled";'),
}
TREES = {
    "bcm2711-rpi-4-b.dtb": "bcm2711-rpi-4-b.dtb",
    "bcm2711-rpi-cm4.dtb": "bcm2711-rpi-cm4-io.dtb",  # Debian has the IO board's name for it
}


def boot_img(top: Path, pack: Callable[[bytes], bytes]) -> Path:
    """Make a boot.img in `top`, with the project's own config.txt and cmdline.txt.

    `pack` compresses the root, which is called as config.txt has it, whatever that leaves it in.
    """
    ground = base.get()
    source, target = top / "source", top / "boot.img"
    (source / "overlays").mkdir(parents=True)
    root = ground.archive.read_bytes() + image.project_layer(ground).read_bytes()
    for name, data in {
        "config.txt": (BOARD / "config.txt").read_bytes(),
        "cmdline.txt": (BOARD / "cmdline.txt").read_bytes(),
        "Image.gz": gzip.compress(ground.kernel.read_bytes(), 1),
        "rootfs.cpio.zst": pack(root),
        "start4.elf": b"stand-in",
        "fixup4.dat": b"stand-in",
        **{name: (ground.device_trees / tree).read_bytes() for name, tree in TREES.items()},
        **{f"overlays/{name}.dtbo": _compiled(text) for name, text in OVERLAYS.items()},
    }.items():
        (source / name).write_bytes(data)
    assert cli.main(["create", str(source), "-o", str(target)]) == 0
    return target


def _compiled(text: str) -> bytes:
    dtc = ["dtc", "-@", "-q", "-I", "dts", "-O", "dtb"]
    return subprocess.run(dtc, input=text.encode(), capture_output=True, check=True).stdout
