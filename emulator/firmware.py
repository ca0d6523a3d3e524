"""The firmware's job, played by us: what a board loads from a boot.img and hands to the kernel.

A kernel, an initramfs, a device tree with its overlays applied, a command line: all that the image
decides. What is not played ends in an error, and so does a name in config.txt that is not in the
image; the firmware itself would boot something else, or nothing, and say so on no line.

Sources: Raspberry Pi's documentation, config_txt/boot.adoc and configuration/device-tree.adoc
(parameters of overlays: a phandle, and the property that it is for).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bootimg import compression, fat, firmware
from bootimg.errors import BootimgError
from emulator import cache
from emulator.errors import EmulatorError
from emulator.fdt import Tree

OVERRIDES = "/__overrides__"
# What serial0 is, by the end of the node that the alias leads to.
UARTS = {
    "serial@7e201000": "ttyAMA0",
    "serial@7e215040": "ttyS0",
    "serial@7d001000": "ttyAMA10",  # of BCM2712
}
NOT_PLAYED = ("dtparam", "os_prefix", "overlay_prefix", "include", "device_tree_address")


@dataclass(frozen=True)
class Loaded:
    """What the kernel is started with: three files, and its command line."""

    kernel: Path
    initramfs: Path
    device_tree: Path
    cmdline: str


def load(boot_img: Path, model: str, directory: Path) -> Loaded:
    """Take a boot.img apart as the firmware of a board does; the parts go to `directory`.

    `model` is one of bootimg.firmware.MODELS. Raises EmulatorError, in words, if the board would
    not boot what config.txt asks for.
    """
    try:
        image = fat.read(boot_img.read_bytes(), boot_img.name)
        return _Loader(image, firmware.MODELS[model], directory).load()
    except BootimgError as error:
        raise EmulatorError(error.message, hint=error.hint) from error


class _Loader:
    """One image on one board."""

    def __init__(self, image: fat.Fat, model: firmware.Model, directory: Path) -> None:
        self._image = image
        self._model = model
        self._directory = directory
        self._plan = firmware.plan(self._content(firmware.CONFIG), model)

    def load(self) -> Loaded:
        """The work of `load`."""
        plan = self._plan
        wrong = [each.text for each in firmware.problems(self._image, plan) if _is_error(each)]
        wrong += [
            f"config.txt: {key} is not played here" for key in NOT_PLAYED if key in plan.settings
        ]
        if wrong:
            raise EmulatorError(f"{self._image.name} would not boot: {'; '.join(wrong)}")
        kernel = self._content(firmware.kernel_name(self._image, plan))
        if compression.of(kernel):
            kernel, _ = compression.unfold(kernel, 0, compression.MAX_BYTES, plan.kernel)
        tree = self._device_tree()
        return Loaded(
            self._write("kernel", kernel),
            self._write("initramfs", b"".join(map(self._content, plan.initramfs))),
            tree.path,
            self._cmdline(tree),
        )

    def _device_tree(self) -> Tree:
        """The board's tree with every overlay over it, in their order."""
        name = self._plan.settings.get("device_tree", self._model.device_tree)
        tree = Tree(self._write("board.dtb", self._content(name)))
        for number, overlay in enumerate(self._plan.overlays):
            # An overlay named twice gets its parameters twice; ours are named once.
            parameters = [p for each, p in self._plan.overlay_parameters if each == overlay]
            data = self._content(f"overlays/{overlay}.dtbo")
            changed = Tree(self._write(f"{number}-{overlay}.dtbo", data))
            for parameter in parameters:
                override(changed, overlay, parameter)
            # fdtoverlay 1.6 stumbles over a label of the overlay's own __overlay__ node. Nobody
            # refers to it: an overlay that did would not be applied.
            changed.remove("/__symbols__")
            merged = self._directory / f"board-{number}.dtb"
            cache.output_of(
                ["fdtoverlay", "-i", tree.path, "-o", merged, changed.path],
                what=f"apply the overlay {overlay} to {name}",
            )
            tree = Tree(merged)
        return tree

    def _cmdline(self, tree: Tree) -> str:
        """The tree's own bootargs, then cmdline.txt's first line; serial0 by its real name."""
        own = tree.get("/chosen", "bootargs") if "bootargs" in tree.names("/chosen") else ""
        text = self._content(self._plan.cmdline).decode("utf-8", "replace").strip()
        words = f"{own} {text.splitlines()[0] if text else ''}".split()
        if any(word.startswith("console=serial0") for word in words):
            node = tree.get("/aliases", "serial0").rpartition("/")[2]
            if node not in UARTS:
                raise EmulatorError(f"serial0 is {node} in the tree: its name is not known here")
            words = [word.replace("=serial0", f"={UARTS[node]}") for word in words]
        return " ".join(words)

    def _content(self, name: str) -> bytes:
        file = self._image.find(name) if name else None
        if file is None:
            raise EmulatorError(f"{self._image.name} would not boot: {name} is not in the image")
        return self._image.read(file)

    def _write(self, name: str, data: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(data)
        return path


def override(overlay: Tree, name: str, parameter: str) -> None:
    """Set a parameter (`name=value`) of an overlay, in its file, as the firmware does.

    Strings and 32-bit numbers are; other kinds raise EmulatorError, as does one that it has not.
    """
    key, _, value = parameter.partition("=")
    if not overlay.has(OVERRIDES) or key not in overlay.names(OVERRIDES):
        raise EmulatorError(f"dtoverlay={name}: the overlay has no parameter {key}")
    for phandle, target in _targets(overlay.bytes(OVERRIDES, key)):
        node = _by_phandle(overlay, phandle)
        property_name, colon, offset = target.partition(":")
        if colon and offset == "0":
            overlay.put("-tx", node, property_name, f"{int(value, 0):x}")
        elif target.replace("-", "").replace("_", "").replace(",", "").isalnum():
            overlay.put("-ts", node, property_name, value)
        else:
            raise EmulatorError(f"dtoverlay={name},{key}: a parameter {target!r} is not played")


def _targets(data: bytes) -> Iterator[tuple[int, str]]:
    """A phandle and a property, again and again, to the end."""
    while data:
        (phandle,) = struct.unpack_from(">I", data)
        text, _, data = data[4:].partition(b"\0")
        yield phandle, text.decode("ascii", "replace")


def _by_phandle(tree: Tree, phandle: int) -> str:
    for node in tree.walk():
        if "phandle" in tree.names(node) and int(tree.get(node, "phandle", "-tx"), 16) == phandle:
            return node
    raise EmulatorError(f"{tree.path.name}: no node has the phandle {phandle}")


def _is_error(problem: firmware.Problem) -> bool:
    return problem.level == firmware.ERROR
