"""What config.txt makes the firmware load, and what of it would not boot.

Sources: Raspberry Pi's documentation, config_txt/boot.adoc, which says of the cut-down firmware
that it is selected by gpu_mem=16 and cannot be by start_file; usbboot's rpi-make-boot-image, which
warns above 20 MiB; the boot loader's release notes: 96 MiB of RAM disk in 2021, 128 in 2022.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from bootimg.fat import Fat

LINE = 98
"""Characters that the firmware reads of a line of config.txt."""
WARN_BYTES, LIMIT_BYTES = 20 << 20, 96 << 20
FREE_CLUSTERS = 1
CONFIG_BYTES = 256 << 10
CONFIG, CMDLINE = "config.txt", "cmdline.txt"

ERROR, WARNING = "error", "warning"
_SECTION = re.compile(r"\[(.*)\]")
_DEFAULT_KERNELS = ("kernel8.img", "kernel7l.img", "kernel7.img", "kernel.img", "kernel_2712.img")
_CUT_DOWN = re.compile(r"(start|fixup)\d?(cd|_cd)\.(elf|dat)")


class Model(NamedTuple):
    """A board as the filters of config.txt and the choice of a device tree know it."""

    filters: frozenset[str]
    board_type: int
    device_tree: str


# Sources: Raspberry Pi's documentation, config_txt/conditional.adoc and revision-codes.adoc.
MODELS = {
    "4b": Model(frozenset({"pi4"}), 0x11, "bcm2711-rpi-4-b.dtb"),
    "400": Model(frozenset({"pi4", "pi400"}), 0x13, "bcm2711-rpi-400.dtb"),
    "cm4": Model(frozenset({"pi4", "cm4"}), 0x14, "bcm2711-rpi-cm4.dtb"),
    "cm4s": Model(frozenset({"pi4", "cm4s"}), 0x15, "bcm2711-rpi-cm4s.dtb"),
    "5": Model(frozenset({"pi5"}), 0x17, "bcm2712-rpi-5-b.dtb"),
    "cm5": Model(frozenset({"pi5", "cm5"}), 0x18, "bcm2712-rpi-cm5-cm5io.dtb"),
    "500": Model(frozenset({"pi5", "pi500"}), 0x19, "bcm2712-rpi-500.dtb"),
}
_MODEL_FILTER = re.compile(r"(pi|cm)\d+[a-z+]?")


class Problem(NamedTuple):
    """Something about an image that a person should know: `level` is ERROR or WARNING."""

    level: str
    text: str


@dataclass
class Plan:
    """What config.txt asks for, as far as it concerns what is loaded."""

    settings: dict[str, str] = field(default_factory=dict)  # the last of each
    overlays: list[str] = field(default_factory=list)
    overlay_parameters: list[tuple[str, str]] = field(default_factory=list)  # overlay, "name=value"
    initramfs: list[str] = field(default_factory=list)
    kernel: str = ""
    cmdline: str = CMDLINE
    filtered: bool = False  # some lines hold for some boards only
    problems: list[Problem] = field(default_factory=list)


def plan(text: bytes, model: Model | None = None) -> Plan:
    """Read config.txt as this board's firmware does. Without one, lines under any [filter] count:
    they hold on some board.
    """
    found = Plan()
    holds = _Filters(model)
    if len(text) > CONFIG_BYTES:
        found.problems.append(
            Problem(WARNING, f"config.txt: only {CONFIG_BYTES} bytes are looked at")
        )
    for number, raw in enumerate(text[:CONFIG_BYTES].decode("latin-1").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if match := _SECTION.fullmatch(line):
            found.filtered |= match[1].lower() != "all"
            if not holds.narrow(match[1]):
                text_of = f"config.txt:{number}: whether {line} holds is not known here"
                found.problems.append(Problem(ERROR, text_of))
            continue
        if not holds:
            continue
        if len(raw) > LINE:
            found.problems.append(
                Problem(WARNING, f"config.txt:{number}: the firmware reads {LINE} characters of it")
            )
        key, separator, value = line.partition("=")
        if not separator:
            key, _, value = line.partition(" ")
        key, value = key.strip(), value.strip()
        if key == "initramfs":
            found.initramfs = [name for name in value.split(" ")[0].split(",") if name]
        elif key == "ramfsfile":
            found.initramfs = [name for name in value.split(",") if name]
        elif key == "dtoverlay":
            name, *parameters = re.split("[,:]", value)
            if name:
                found.overlays.append(name)
                found.overlay_parameters += [(name, each) for each in parameters]
        else:
            found.settings[key] = value
    found.kernel = found.settings.get("kernel", "")
    found.cmdline = found.settings.get("cmdline", CMDLINE)
    return found


class _Filters:
    """Which lines of config.txt a board reads: those for which every kind of filter holds."""

    def __init__(self, model: Model | None) -> None:
        self._model = model
        self._held: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return all(self._held.values())

    def narrow(self, text: str) -> bool:
        """Take a filter in: it replaces the last of its kind. False if only a board could tell."""
        if self._model is None:
            return True
        name, _, value = text.lower().partition("=")
        if name == "all":
            self._held = {}
        elif name in ("none", "tryboot"):
            self._held[name] = False
        elif name == "board-type":
            self._held[name] = value == f"{self._model.board_type:#x}"
        elif _MODEL_FILTER.fullmatch(name):
            self._held["model"] = name in self._model.filters
        else:
            return False
        return True


def kernel_name(fat: Fat, wanted: Plan) -> str:
    """The kernel's file in the image: as config.txt says, else the first of the firmware's own."""
    if wanted.kernel:
        return wanted.kernel
    return next((name for name in _DEFAULT_KERNELS if fat.find(name)), "")


def problems(fat: Fat, wanted: Plan) -> list[Problem]:
    """What would not boot, or only on some boards; the worst first."""
    found = list(wanted.problems)

    def say(level: str, text: str) -> None:
        found.append(Problem(level, text))

    size = len(fat.data)
    if size > LIMIT_BYTES:
        say(ERROR, f"{size >> 20} MiB: boot loaders load {LIMIT_BYTES >> 20} MiB at most")
    elif size > WARN_BYTES:
        say(WARNING, f"{size >> 20} MiB: every one is sent over USB before anything boots")
    if fat.free_clusters < FREE_CLUSTERS:
        say(
            WARNING, "no cluster is free: boot loaders from before 2024 fail with 'FAT read failed'"
        )
    if not fat.find(CONFIG):
        say(WARNING, "there is no config.txt: the firmware does what it does by default")
    for key in ("start_file", "fixup_file"):
        name = wanted.settings.get(key, "")
        if name and not fat.find(name):
            say(ERROR, f"config.txt: {key}={name} is not in the image")
        if _CUT_DOWN.fullmatch(name):
            say(
                ERROR,
                f"config.txt: {key}={name}: the cut-down firmware cannot be chosen this way; "
                "gpu_mem=16 chooses it",
            )
    if not any(re.fullmatch(r"start.*\.elf", path, re.IGNORECASE) for path in fat.files) and not (
        any("2712" in path for path in fat.files)
    ):
        say(ERROR, "there is no firmware, start*.elf, in the image")
    _check_loaded(fat, wanted, say)
    for name in wanted.overlays:
        if not fat.find(f"overlays/{name}.dtbo"):
            say(ERROR, f"config.txt: dtoverlay={name}: overlays/{name}.dtbo is not in the image")
    cmdline = fat.find(wanted.cmdline)
    if cmdline and len(fat.read(cmdline).strip().splitlines()) > 1:
        say(WARNING, f"{wanted.cmdline} has more than one line: the kernel is given the first")
    return sorted(found, key=lambda problem: problem.level != ERROR)


def _check_loaded(fat: Fat, wanted: Plan, say: Callable[[str, str], None]) -> None:
    """The kernel and what it is given."""
    kernel = kernel_name(fat, wanted)
    if kernel and not fat.find(kernel):
        say(ERROR, f"config.txt: kernel={kernel} is not in the image")
    elif not kernel:
        # Without a config.txt it may be a firmware alone, as Raspberry Pi's secure-boot-msd is.
        level = ERROR if fat.find(CONFIG) else WARNING
        say(level, "config.txt names no kernel, and none of the firmware's own names is there")
    for name in wanted.initramfs:
        if not fat.find(name):
            say(ERROR, f"config.txt: initramfs {name} is not in the image")
    if kernel and not any(path.lower().endswith(".dtb") for path in fat.files):
        say(WARNING, "there is no device tree, *.dtb, in the image")
    for name in (wanted.settings.get("cmdline", ""), wanted.settings.get("device_tree", "")):
        if name and not fat.find(name):
            say(ERROR, f"config.txt names {name}, which is not in the image")
