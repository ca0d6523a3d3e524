"""The firmware's job, played by us: what a board loads of a boot.img, and what it refuses."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from bootimg import cli, firmware
from emulator.cache import CHECKOUT
from emulator.errors import EmulatorError
from emulator.fdt import Tree
from emulator.firmware import Loaded, load

BOARD = CHECKOUT / "buildroot-package/board/cm4"
KERNEL = b"a kernel" * 100
TREE = """
/dts-v1/;
/ {
    #address-cells = <1>;
    #size-cells = <1>;
    aliases { serial0 = "/soc/serial@7e215040"; };
    chosen { bootargs = "8250.nr_uarts=1"; };
    soc {
        usb: usb@7e980000 { dr_mode = "host"; };
        mmcnr: mmcnr@7e300000 { status = "okay"; };
        serial@7e201000 { };
        serial@7e215040 { };
    };
};
"""
DWC2 = """
/dts-v1/;
/plugin/;
/ {
    fragment@0 {
        target = <&usb>;
        port: __overlay__ { dr_mode = "otg"; g-np-tx-fifo-size = <32>; };
    };
    __overrides__ {
        dr_mode = <&port>, "dr_mode";
        g-np-tx-fifo-size = <&port>, "g-np-tx-fifo-size:0";
        bare = <&port>, "bare?";
    };
};
"""
DISABLE_WIFI = """
/dts-v1/;
/plugin/;
/ { fragment@0 { target = <&mmcnr>; __overlay__ { status = "disabled"; }; }; };
"""
CONFIG = """\
arm_64bit=1
kernel=Image.gz
initramfs rootfs.a,rootfs.b
start_file=start4.elf
dtoverlay=dwc2,dr_mode=peripheral,g-np-tx-fifo-size=0x40
dtoverlay=disable-wifi
"""


def compiled(text: str) -> bytes:
    """A device tree or an overlay, with the names that overlays refer to."""
    dtc = ["dtc", "-@", "-q", "-I", "dts", "-O", "dtb"]
    return subprocess.run(dtc, input=text.encode(), capture_output=True, check=True).stdout


class Image:
    """A boot.img of stand-ins, and the boards that try to boot it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.files = {
            "config.txt": CONFIG.encode(),
            "cmdline.txt": b"console=tty1 console=serial0,115200\n",
            "Image.gz": gzip.compress(KERNEL),
            "rootfs.a": b"first,",
            "rootfs.b": b"second",
            "start4.elf": b"firmware",
            "bcm2711-rpi-cm4.dtb": compiled(TREE),
            "bcm2711-rpi-4-b.dtb": compiled(TREE.replace("7e215040", "7e201000", 1)),
            "overlays/dwc2.dtbo": compiled(DWC2),
            "overlays/disable-wifi.dtbo": compiled(DISABLE_WIFI),
        }

    def add(self, lines: str) -> None:
        """More lines for config.txt."""
        self.files["config.txt"] += lines.encode()

    def booted(self, model: str = "cm4") -> Loaded:
        """What a board loads. EmulatorError if it would not boot."""
        source, loaded = self.top / "source", self.top / "loaded"
        for name, data in self.files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        image = self.top / "boot.img"
        image.unlink(missing_ok=True)
        assert cli.main(["create", str(source), "-o", str(image)]) == cli.DONE
        loaded.mkdir(exist_ok=True)
        return load(image, model, loaded)

    def refused(self, model: str = "cm4") -> str:
        """Why a board would not boot it."""
        with pytest.raises(EmulatorError) as error:
            self.booted(model)
        return str(error.value)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_kernel_initramfs_tree_and_command_line_are_those_of_config_txt(image: Image) -> None:
    loaded = image.booted()
    assert loaded.kernel.read_bytes() == KERNEL
    assert loaded.initramfs.read_bytes() == b"first,second"
    assert loaded.cmdline == "8250.nr_uarts=1 console=tty1 console=ttyS0,115200"
    tree = Tree(loaded.device_tree)
    assert tree.get("/soc/usb@7e980000", "dr_mode") == "peripheral"
    assert tree.get("/soc/usb@7e980000", "g-np-tx-fifo-size", "-tx") == "40"
    assert tree.get("/soc/mmcnr@7e300000", "status") == "disabled"


def test_serial0_is_what_the_boards_own_tree_says(image: Image) -> None:
    assert "console=ttyAMA0,115200" in image.booted("4b").cmdline


def test_lines_under_a_filter_are_for_those_boards_alone(image: Image) -> None:
    image.files["cm4.txt"] = b"only=cm4\n"
    image.add("[pi5]\nkernel=kernel_2712.img\n[cm4]\ncmdline=cm4.txt\n[all]\ninitramfs rootfs.b\n")
    assert image.booted("cm4").cmdline == "8250.nr_uarts=1 only=cm4"
    assert "console=tty1" in image.booted("4b").cmdline
    assert image.booted("4b").initramfs.read_bytes() == b"second"


@pytest.mark.parametrize(
    ("lines", "sees"),
    [
        ("[pi4]", "4b 400 cm4 cm4s"),
        ("[cm4s]", "cm4s"),
        ("[pi400]", "400"),
        ("[pi3]", ""),
        ("[pi5]", "5 cm5 500"),
        ("[cm5]", "cm5"),
        ("[none]", ""),
        ("[tryboot]", ""),
        ("[board-type=0x14]", "cm4"),
        ("[cm4]\n[pi4]", "4b 400 cm4 cm4s"),  # of one kind the last one holds
        ("[pi4]\n[board-type=0x13]", "400"),  # of two kinds both
        ("[none]\n[all]", "4b 400 cm4 cm4s 5 cm5 500"),
    ],
)
def test_filters_combine_as_raspberry_pis_documentation_says(lines: str, sees: str) -> None:
    text = f"{lines}\nseen=1\n".encode()
    seeing = {
        name
        for name, model in firmware.MODELS.items()
        if "seen" in firmware.plan(text, model).settings
    }
    assert seeing == {*sees.split()}


@pytest.mark.parametrize(
    "name",
    [
        *("Image.gz", "rootfs.b", "start4.elf", "overlays/dwc2.dtbo"),
        *("bcm2711-rpi-cm4.dtb", "cmdline.txt"),
    ],
)
def test_a_name_that_is_not_in_the_image_is_refused(image: Image, name: str) -> None:
    del image.files[name]
    said = image.refused()
    assert f"{name} is not in the image" in said.replace("start_file=", "")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("dtoverlay=dwc2,dr-mode=host", "the overlay has no parameter dr-mode"),
        ("dtoverlay=disable-wifi,x=1", "the overlay has no parameter x"),
        ("dtoverlay=dwc2,bare=1", "a parameter 'bare?' is not played"),
        ("dtparam=audio=on", "dtparam is not played here"),
        ("[gpio4=1]", "whether [gpio4=1] holds is not known here"),
        ("start_file=start4cd.elf", "the cut-down firmware cannot be chosen this way"),
    ],
)
def test_what_is_not_played_or_does_not_boot_is_said(
    image: Image, line: str, sentence: str
) -> None:
    image.add(line + "\n")
    assert sentence in image.refused()


def test_a_uart_whose_name_is_not_known_is_refused(image: Image) -> None:
    image.files["bcm2711-rpi-cm4.dtb"] = compiled(TREE.replace("7e215040", "7e999999"))
    assert "serial0 is serial@7e999999" in image.refused()


def test_an_overlay_for_a_node_that_the_tree_has_not_is_refused(image: Image) -> None:
    image.files["bcm2711-rpi-cm4.dtb"] = compiled(TREE.replace("mmcnr:", "wireless:"))
    assert "apply the overlay disable-wifi" in image.refused()


@pytest.mark.parametrize("model", ["4b", "400", "cm4", "cm4s"])
def test_the_projects_own_config_txt_asks_for_nothing_that_is_not_there(
    image: Image, model: str
) -> None:
    """The files are those that post-image.sh puts beside it."""
    for name in ("config.txt", "cmdline.txt"):
        image.files[name] = (BOARD / name).read_bytes()
    image.files["rootfs.cpio.zst"] = b"root"
    image.files["fixup4.dat"] = b"firmware"
    for known in firmware.MODELS.values():
        image.files.setdefault(known.device_tree, compiled(TREE))
    loaded = image.booted(model)
    tree = Tree(loaded.device_tree)
    assert tree.get("/soc/usb@7e980000", "dr_mode") == "peripheral"
    assert tree.get("/soc/mmcnr@7e300000", "status") == "disabled"
    assert "console=tty1 " in loaded.cmdline
    assert "serial0" not in loaded.cmdline
