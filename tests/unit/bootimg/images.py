"""Stand-ins for what a boot.img is made of."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import zstandard

from bootimg import cpio, create

CHECKOUT = Path(__file__).resolve().parents[3]
BOARD = CHECKOUT / "buildroot-package/board/cm4"


def program(name: str) -> str:
    """One of dosfstools or mtools. AssertionError if it is not installed."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert found, f"{name} is not installed; run: make setup"
    return found


def fsck(image: Path) -> None:
    """AssertionError unless fsck.fat finds nothing to say."""
    done = subprocess.run(
        [program("fsck.fat"), "-n", image], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def mtools_names(image: Path) -> set[str]:
    """The files in a FAT, by mtools."""
    said = subprocess.run(
        [program("mdir"), "-/", "-b", "-i", image],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    lines = said.stdout.decode().splitlines()
    return {line.removeprefix("::/") for line in lines if line and not line.endswith("/")}


def root() -> bytes:
    """An initramfs with gadgetd's overlay and as much of gadgetd as the tool looks for."""
    site = "usr/lib/python3.14/site-packages/gadgetd"
    entries = [
        cpio.directory("etc"),
        *cpio.tree(CHECKOUT / "rootfs-overlay"),
        cpio.file("usr/bin/gadgetd", b"#!/usr/bin/python3\n", 0o755),
        cpio.file(f"{site}/__init__.py", b'__version__ = "9.8.7"\n'),
    ]
    return cpio.archive(entries)


def folder(top: Path, rootfs: bytes | None = None, kernel_bytes: int = 30_000) -> Path:
    """A folder to make a boot.img of."""
    source = top / "source"
    (source / "overlays").mkdir(parents=True)
    noise = random.Random(7)
    config = (BOARD / "config.txt").read_text().splitlines()
    kept = [line for line in config if not line.startswith(("start_file", "fixup_file"))]
    packed = zstandard.ZstdCompressor().compress(root()) if rootfs is None else rootfs
    for name, data in {
        "config.txt": ("\n".join(kept) + "\n").encode(),
        "cmdline.txt": (BOARD / "cmdline.txt").read_bytes(),
        "Image.gz": b"\x1f\x8b" + noise.randbytes(kernel_bytes),
        "rootfs.cpio.zst": packed,
        "start4.elf": noise.randbytes(9_000),
        "fixup4.dat": noise.randbytes(700),
        "bcm2711-rpi-cm4.dtb": noise.randbytes(5_000),
        **{f"overlays/{name}.dtbo": noise.randbytes(800) for name in overlays(kept)},
    }.items():
        (source / name).write_bytes(data)
    return source


def overlays(config: list[str]) -> list[str]:
    """The overlays that config.txt names."""
    lines = [line.partition("=")[2] for line in config if line.startswith("dtoverlay=")]
    return [line.partition(",")[0] for line in lines]


def boot_img(top: Path, rootfs: bytes | None = None) -> Path:
    """A boot.img of such a folder."""
    image = top / "boot.img"
    image.write_bytes(create.create(folder(top, rootfs)))
    return image


def rpiboot_folder(top: Path) -> Path:
    """What make image leaves."""
    top.mkdir()
    boot_img(top)
    for name in ("bootfiles.bin", "bootcode4.bin"):
        (top / name).write_bytes(name.encode())
    (top / "config.txt").write_bytes((BOARD / "rpiboot.txt").read_bytes())
    entry = {"bytes": 1, "sha256": "0"}
    listed = {"boot.img": entry, "boot.img/Image.gz": entry, "config.txt": entry}
    (top / "manifest.json").write_text(json.dumps({"files": listed, "packages": {}}))
    return top
