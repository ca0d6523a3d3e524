"""post-image.sh on stand-in inputs: a boot.img that the firmware can read, always the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bootimg.create import create

BOARD = Path(__file__).resolve().parents[2] / "buildroot-package/board/cm4"
EPOCH = 1781643700
SECTOR = 512
TRACK = 32 * SECTOR
SYSTEM = f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Build:
    """What Buildroot leaves in its images directory, made up."""

    def __init__(self, top: Path, rootfs_bytes: int = 300_000) -> None:
        """Random files in place of everything; `rootfs_bytes` makes the image small or large."""
        self.images = top / "images"
        self.work = top / "build"
        self.target = top / "target"
        noise = random.Random(4)
        for name, size in {
            "images/Image.gz": 100_001,
            "images/rootfs.cpio.zst": rootfs_bytes,
            "images/bcm2711-rpi-cm4.dtb": 512,
            "images/bcm2711-rpi-4-b.dtb": 513,
            "images/rpi-firmware/start4.elf": 8_000,
            "images/rpi-firmware/fixup4.dat": 1,
            "images/rpi-firmware/overlays/dwc2.dtbo": 801,
            "images/rpi-firmware/overlays/disable-wifi.dtbo": 387,
            "images/rpi-firmware/overlays/other.dtbo": 99,
            "images/rpi-firmware/cmdline.txt": 9,
            "images/rpiboot/bootcode4.bin": 1000,
            "images/rpiboot/bootfiles.bin": 2000,
            "target/usr/lib/python3.14/json/decoder.pyc": 4000,
            "target/usr/lib/python3.14/site-packages/gadgetd/cli.pyc": 3000,
            "target/usr/bin/busybox": 6000,
        }.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise.randbytes(size))
        self.work.mkdir()
        (self.work / "gadgetd-packages.txt").write_text(
            "buildroot|2026.02.3|GPL-2.0+\nbusybox|1.37.0|GPL-2.0, bzip2-1.0.4\nudev||\n"
        )

    @property
    def boot_img(self) -> Path:
        """The result."""
        return self.images / "gadgetd/boot.img"

    def run(
        self, *board: str, umask: int = 0o022, path: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run post-image.sh as Buildroot does, with programs in `path` before all others."""
        return subprocess.run(
            [BOARD / "post-image.sh", self.images, *board],
            env={
                "PATH": f"{path}:{Path(sys.executable).parent}:{SYSTEM}",
                "BINARIES_DIR": str(self.images),
                "BUILD_DIR": str(self.work),
                "TARGET_DIR": str(self.target),
                "SOURCE_DATE_EPOCH": str(EPOCH),
                **variables,
            },
            capture_output=True,
            text=True,
            umask=umask,
            check=False,
        )


@pytest.fixture(autouse=True)
def tools() -> None:
    """Both are Buildroot's own in a real build."""
    for name in ("mtype", "fsck.fat"):
        found = shutil.which(name, path=SYSTEM)
        assert found, f"{name} is not installed; run: make setup"


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A build that has been run."""
    made = Build(tmp_path)
    done = made.run()
    assert done.returncode == 0, done.stderr
    return made


def names(image: Path) -> set[str]:
    """The files in a FAT, by mtools."""
    said = subprocess.run(
        ["mdir", "-/", "-b", "-i", image], capture_output=True, text=True, check=True
    )
    return {line.removeprefix("::/") for line in said.stdout.split() if not line.endswith("/")}


def test_boot_img_has_what_config_txt_names_and_nothing_else(build: Build) -> None:
    assert names(build.boot_img) == {
        *("config.txt", "cmdline.txt", "Image.gz", "rootfs.cpio.zst"),
        *("start4.elf", "fixup4.dat", "overlays/dwc2.dtbo", "overlays/disable-wifi.dtbo"),
        *("bcm2711-rpi-cm4.dtb", "bcm2711-rpi-4-b.dtb"),
    }


def test_a_bcm2712s_has_its_own_config_no_start_file_and_no_loader_of_a_bcm2711(
    tmp_path: Path,
) -> None:
    build = Build(tmp_path)
    overlays = build.images / "rpi-firmware/overlays"
    (overlays / "disable-wifi.dtbo").rename(overlays / "disable-wifi-pi5.dtbo")
    done = build.run("cm5")
    assert done.returncode == 0, done.stderr
    assert names(build.boot_img) == {
        *("config.txt", "cmdline.txt", "Image.gz", "rootfs.cpio.zst"),
        *("overlays/dwc2.dtbo", "overlays/disable-wifi-pi5.dtbo"),
        *("bcm2711-rpi-cm4.dtb", "bcm2711-rpi-4-b.dtb"),
    }
    assert {path.name for path in build.boot_img.parent.iterdir()} == {
        *("bootfiles.bin", "config.txt", "boot.img", "manifest.json", "SHA256SUMS"),
    }
    read = ["mtype", "-i", str(build.boot_img), "::/config.txt"]
    said = subprocess.run(read, capture_output=True, check=True)
    assert said.stdout == (BOARD.parent / "cm5/config.txt").read_bytes()


def test_the_boards_own_cmdline_and_config_are_in_it_not_the_firmware_packages(
    build: Build,
) -> None:
    for name in ("cmdline.txt", "config.txt"):
        said = subprocess.run(
            ["mtype", "-i", build.boot_img, f"::/{name}"], capture_output=True, check=True
        )
        assert said.stdout == (BOARD / name).read_bytes()


@pytest.mark.parametrize(
    ("rootfs_bytes", "bits"),
    [(1, 12), (300_000, 12), (1_900_000, 12), (2_000_000, 16), (2_100_000, 16), (9_000_000, 16)],
)
def test_boot_img_is_a_bare_fat_of_the_size_it_needs(
    tmp_path: Path, rootfs_bytes: int, bits: int
) -> None:
    build = Build(tmp_path, rootfs_bytes)
    done = build.run()
    assert done.returncode == 0, done.stderr
    data = build.boot_img.read_bytes()
    assert data[510:512] == b"\x55\xaa"
    assert data[11:13] == SECTOR.to_bytes(2, "little")
    assert data[13] == 1, "sectors a cluster"
    assert data[54:62] == f"FAT{bits}   ".encode()
    assert data[43:54] == b"BOOT       "
    total = int.from_bytes(data[19:21], "little") or int.from_bytes(data[32:36], "little")
    assert total * SECTOR == len(data)
    fats = 2 * int.from_bytes(data[22:24], "little")
    clusters = total - 1 - fats - int.from_bytes(data[17:19], "little") * 32 // SECTOR
    assert (clusters < 4085) == (bits == 12), "the type that a reader tells by the number"
    check = subprocess.run(
        ["fsck.fat", "-n", "-v", build.boot_img], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
    (counted,) = re.findall(r"(\d+)/(\d+) clusters", check.stdout)
    free = int(counted[1]) - int(counted[0])
    # Old loaders cannot read a FAT that is quite full; what is free is sent over USB too.
    assert 64 <= free < 64 + 3 * TRACK // SECTOR


def test_it_is_what_the_pcs_tool_makes_of_the_same_files(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "overlays").mkdir(parents=True)
    for name in names(build.boot_img):
        read = ["mtype", "-i", str(build.boot_img), f"::/{name}"]
        (source / name).write_bytes(subprocess.run(read, capture_output=True, check=True).stdout)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    assert create(source) == build.boot_img.read_bytes()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = Build(tmp_path / "first"), Build(tmp_path / "a longer name")
    for path in second.images.rglob("*"):
        os.utime(path, (1, 1))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, text in {
        # Directories list their files in any order, and languages sort names in any order.
        "find": '/usr/bin/find "$@" | tac',
        "sort": '[ "$LC_ALL" = C ] || set -- -r "$@"; exec /usr/bin/sort "$@"',
    }.items():
        (elsewhere / name).write_text(f"#!/bin/sh\n{text}\n")
        (elsewhere / name).chmod(0o755)
    assert first.run(TZ="JST-9", LC_ALL="C").returncode == 0
    there = second.run(umask=0o077, path=str(elsewhere), TZ="EST5", LC_ALL="C.UTF-8")
    assert there.returncode == 0, there.stderr
    for name in sorted(path.name for path in (first.images / "gadgetd").iterdir()):
        one, other = (build.images / "gadgetd" / name for build in (first, second))
        assert one.read_bytes() == other.read_bytes(), name
        assert one.stat().st_mtime == other.stat().st_mtime == EPOCH


def test_the_folder_is_complete_and_its_sums_are_right(build: Build) -> None:
    folder = build.images / "gadgetd"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    assert set(sums) == {
        "boot.img",
        "bootcode4.bin",
        "bootfiles.bin",
        "config.txt",
        "manifest.json",
    }
    assert {path.name for path in folder.iterdir()} == {*sums, "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "config.txt").read_text() == (BOARD / "rpiboot.txt").read_text()


def test_the_manifest_has_versions_licences_sizes(build: Build) -> None:
    manifest = json.loads((build.images / "gadgetd/manifest.json").read_text())
    assert manifest["packages"] == {
        "buildroot": {"version": "2026.02.3", "license": "GPL-2.0+"},
        "busybox": {"version": "1.37.0", "license": "GPL-2.0, bzip2-1.0.4"},
    }
    assert manifest["files"]["boot.img"]["bytes"] == build.boot_img.stat().st_size
    assert manifest["files"]["boot.img/Image.gz"]["bytes"] == 100_001


def test_the_report_says_what_has_grown_since_the_last_build(build: Build) -> None:
    first = (build.images / "gadgetd-sizes.txt").read_text()
    assert "rootfs.cpio.zst" in first
    assert "+" not in first
    with (build.images / "rootfs.cpio.zst").open("ab") as file:
        file.write(bytes(10_240))
    assert build.run().returncode == 0
    second = (build.images / "gadgetd-sizes.txt").read_text()
    (line,) = [line for line in second.splitlines() if "rootfs.cpio.zst" in line]
    assert line.split() == ["303.0", "KiB", "+10.0", "rootfs.cpio.zst"]


def test_a_file_that_config_txt_names_and_nobody_made_ends_the_build(tmp_path: Path) -> None:
    build = Build(tmp_path)
    (build.images / "rpi-firmware/overlays/dwc2.dtbo").unlink()
    done = build.run()
    assert done.returncode != 0
    assert "dwc2.dtbo" in done.stderr
    assert not build.boot_img.exists()


@pytest.mark.parametrize("loader", ["bootfiles.bin", "bootcode4.bin"])
def test_a_second_stage_loader_that_is_missing_ends_the_build(tmp_path: Path, loader: str) -> None:
    build = Build(tmp_path)
    (build.images / "rpiboot" / loader).unlink()
    done = build.run()
    assert done.returncode != 0
    assert f"rpiboot has no {loader}; the package rpiboot-loaders has it" in done.stderr
    assert not build.boot_img.exists()


def test_a_failed_build_leaves_the_last_good_folder(build: Build) -> None:
    before = build.boot_img.read_bytes()
    (build.images / "Image.gz").unlink()
    assert build.run().returncode != 0
    assert build.boot_img.read_bytes() == before
    assert not list(build.images.glob(".gadgetd.*"))
