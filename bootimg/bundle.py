"""The folder that `rpiboot -d` loads, made of another one or of a release's zip."""

import hashlib
import io
import json
import lzma
import struct
import zipfile
import zlib
from pathlib import Path

from bootimg import output
from bootimg.errors import BootimgError
from bootimg.fat import MAX_IMAGE_BYTES

IMAGE, SIGNATURE, CONFIG = "boot.img", "boot.sig", "config.txt"
LOADERS = ("bootfiles.bin", "bootcode4.bin")
CARRIED = ("manifest.json",)
_OTHER_BYTES = 16 << 20
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, struct.error),
    *(NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError),
)
"""What zipfile and its decompressors raise of a file that is damaged or of a kind they know not."""
_SOURCES = "a boot.img with its folder, that folder, or a release's zip"


def read(source: Path) -> dict[str, bytes]:
    """The files of a folder for rpiboot by name: of a folder, its boot.img, or a zip.

    Raises BootimgError if it lacks one that rpiboot needs.
    """
    if source.is_dir():
        found = _folder(source)
    elif source.suffix.lower() == ".zip":
        found = _zip(source)
    else:
        found = _folder(source.parent)
        found[IMAGE] = output.read(source, MAX_IMAGE_BYTES, _SOURCES)
    found.pop(SIGNATURE, None)
    for name in (IMAGE, CONFIG):
        if name not in found:
            raise BootimgError(f"{source}: there is no {name}", hint=f"expected {_SOURCES}")
    if not any(name in found for name in LOADERS):
        raise BootimgError(
            f"{source}: there is neither {' nor '.join(LOADERS)}, asked for first of all",
            hint="make image puts both beside boot.img",
        )
    lines = found[CONFIG].decode("latin-1").split()
    if "boot_ramdisk=1" not in lines:
        raise BootimgError(
            f"{source}: config.txt lacks boot_ramdisk=1, so boot.img would not be loaded",
            hint="this is the config.txt beside boot.img, not the one in it",
        )
    return found


def _limit(name: str) -> int:
    return MAX_IMAGE_BYTES if name == IMAGE else _OTHER_BYTES


def _folder(folder: Path) -> dict[str, bytes]:
    return {
        name: output.read(folder / name, _limit(name), "a file for rpiboot")
        for name in (IMAGE, CONFIG, *LOADERS, *CARRIED)
        if (folder / name).is_file()
    }


def _zip(path: Path) -> dict[str, bytes]:
    """The files of a zip, wherever in it its boot.img is."""
    packed = output.read(path, MAX_IMAGE_BYTES, "a release's zip")
    wanted = (IMAGE, CONFIG, *LOADERS, *CARRIED)
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            names = archive.namelist()
            places = [name.removesuffix(IMAGE) for name in names if name.split("/")[-1] == IMAGE]
            if len(places) != 1:
                raise BootimgError(
                    f"{path}: {len(places)} files are called {IMAGE}", hint="expected one"
                )
            found = {}
            for name in wanted:
                if places[0] + name in names:
                    with archive.open(places[0] + name) as file:
                        found[name] = file.read(_limit(name) + 1)
                    if len(found[name]) > _limit(name):
                        raise BootimgError(f"{path}: {name} is too large")
    except _DAMAGED as error:
        raise BootimgError(f"{path}: damaged, or no zip: {error}", hint="get it anew") from error
    return found


def write(target: Path, files: dict[str, bytes]) -> None:
    """Make the folder, with SHA256SUMS, whole or not at all. Raises BootimgError.

    `target` must not be there yet, or be empty.
    """
    files = dict(files)
    _renew_manifest(files)
    files["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())
    ).encode()
    with output.folder(target) as draft:
        for name, data in files.items():
            output.write(draft / name, data)


def _renew_manifest(files: dict[str, bytes]) -> None:
    """Have manifest.json say what the files are now, and nothing of the inside of boot.img."""
    if "manifest.json" not in files:
        return
    try:
        manifest = json.loads(files["manifest.json"])
        listed = manifest["files"]
        for name in [name for name in listed if name.startswith(f"{IMAGE}/")]:
            del listed[name]
        for name in sorted({*listed, SIGNATURE} & set(files)):
            digest = hashlib.sha256(files[name]).hexdigest()
            listed[name] = {"bytes": len(files[name]), "sha256": digest}
    except (ValueError, KeyError, TypeError) as error:
        raise BootimgError("manifest.json beside boot.img is damaged", hint="remove it") from error
    files["manifest.json"] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
