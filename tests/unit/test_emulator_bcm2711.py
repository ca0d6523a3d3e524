"""What a Raspberry Pi's device tree loses for QEMU's raspi4b, and where such a QEMU comes from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from emulator import Drive, MachineOptions, Raspi4b, bcm2711, drivers, newer_qemu, packages
from emulator.errors import EmulatorError
from emulator.fdt import Tree
from emulator.qemu import QEMU

TREE = """
/dts-v1/;
/ {
    #address-cells = <2>;
    #size-cells = <1>;
    chosen { };
    soc {
        serial@7e201000 { bluetooth { }; };
        mmcnr@7e300000 { status = "okay"; };
        hdmi@7ef00700 { status = "okay"; };
        i2c@7e804000 { status = "okay"; };
        firmware { gpio { ant1-hog { }; }; };
    };
    emmc2bus { mmc@7e340000 { vmmc-supply = <1>; vqmmc-supply = <2>; broken-cd; }; };
    leds { led-act { }; led-pwr { }; };
    wifi-pwrseq { };
};
"""
HAS_IT = "raspi4b              Raspberry Pi 4B (revision 1.5)"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "board.dtb"
    dtc = ["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", str(file)]
    subprocess.run(dtc, input=TREE.encode(), check=True)
    return file


def test_what_the_model_has_not_is_taken_out_and_nothing_else(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "adapted.dtb"
    bcm2711.adapt(source, target, serial="10000000deadbeef")
    tree = Tree(target)
    for node in ("/soc/mmcnr@7e300000", "/soc/hdmi@7ef00700", "/wifi-pwrseq", "/soc/firmware/gpio"):
        assert tree.get(node, "status") == "disabled", node
    assert tree.get("/soc/i2c@7e804000", "status") == "okay"
    assert tree.names("/emmc2bus/mmc@7e340000") == ["broken-cd"]
    assert tree.children("/leds") == ["led-act"]
    assert tree.children("/soc/serial@7e201000") == []
    assert tree.get("/", "serial-number") == "10000000deadbeef"


def test_the_screen_is_where_the_firmware_has_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "adapted.dtb"
    bcm2711.adapt(source, target, serial="1")
    (node,) = Tree(target).children("/chosen")
    screen = f"/chosen/{node}"
    assert Tree(target).get(screen, "compatible") == "simple-framebuffer"
    # Address and size, in the root's two cells and one.
    assert Tree(target).get(screen, "reg", "-tx").split() == ["0", "3c100000", "384000"]


def test_what_is_no_device_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.dtb").write_bytes(b"no tree")
    with pytest.raises(EmulatorError, match=r"read or change y\.dtb"):
        bcm2711.adapt(tmp_path / "x.dtb", tmp_path / "y.dtb", serial="1")


def test_a_driver_that_is_lost_is_named() -> None:
    every = "\n".join(f"{line}0" for line in drivers.BCM2711)
    assert drivers.lost(every) == []
    assert drivers.lost(every.replace("sdhci-iproc", "sdhci-other")) == [
        "platform sdhci-iproc fe340000.mmc"
    ]
    assert drivers.lost("") == [*drivers.BCM2711]


def test_a_raspi4b_has_no_nvme(tmp_path: Path) -> None:
    options = MachineOptions(sd=Drive(1 << 20), nvme=(Drive(1 << 20),))
    with pytest.raises(EmulatorError, match="no NVMe disk"):
        Raspi4b(options, "bcm2711-rpi-4-b", tmp_path).start()


# ---- QEMU ----------------------------------------------------------------------------------------


def qemu(place: Path, machines: str) -> Path:
    """A stand-in that lists machines."""
    place.mkdir(parents=True)
    program = place / QEMU
    program.write_text(f"#!/bin/sh\necho '{machines}'\n")
    program.chmod(0o755)
    return program


def test_a_machine_with_a_new_qemu_brings_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = qemu(tmp_path / "bin", HAS_IT)
    monkeypatch.setenv("PATH", f"{installed.parent}:{os.environ['PATH']}")
    assert newer_qemu.with_raspi4b() == installed


def test_a_machine_that_has_none_and_gets_none_says_so_and_does_not_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_mirror(_: str) -> Path:
        raise EmulatorError("could not download it", hint="run it again")

    installed = qemu(tmp_path / "bin", "raspi3b")
    monkeypatch.setenv("PATH", f"{installed.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(packages, "fetch_backport", no_mirror)
    with pytest.raises(EmulatorError, match="has no raspi4b, and its Debian mirror no newer one"):
        newer_qemu.with_raspi4b()


def test_the_backport_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GADGETD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tree = tmp_path / "tree"
    qemu(tree / "usr/bin", HAS_IT)
    (tree / "usr/bin/qemu-system-arm").write_text("")
    (tree / "DEBIAN").mkdir()
    control = "Package: q\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n"
    (tree / "DEBIAN/control").write_text(f"{control}Description: x\n")
    deb = tmp_path / "q_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, capture_output=True)
    monkeypatch.setattr("emulator.newer_qemu.shutil.which", lambda _: None)
    monkeypatch.setattr(packages, "fetch_backport", lambda _: deb)
    program = newer_qemu.with_raspi4b()
    assert program == tmp_path / "cache/qemu/q_1_all/usr/bin" / QEMU
    changed = program.stat().st_mtime_ns
    assert newer_qemu.with_raspi4b().stat().st_mtime_ns == changed
