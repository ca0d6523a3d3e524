"""What is in a boot.img, as one value that prints as JSON or as tables."""

import hashlib
import re
from pathlib import Path
from typing import Any

from bootimg import checker, compression, configure, fat, firmware, initramfs, record
from bootimg.errors import BootimgError

PACKAGE = re.compile(r"usr/lib/python3[.\d]*/site-packages/gadgetd/__init__\.pyc?")
_IN_SOURCE = re.compile(rb'__version__[^=\n]*= *"([^"\n]{1,32})"')
# In byte code a short string is its kind, its length and its characters.
_IN_BYTE_CODE = re.compile(rb"[zZ\xda\xfa](.)(\d+(?:\.\d+)+[0-9a-z.+]*)", re.DOTALL)


def inspect(data: bytes, name: str, signature: bytes | None = None) -> dict[str, Any]:
    """Everything that can be said of an image. Raises BootimgError if it is no sound FAT.

    `signature` is the content of the boot.sig beside it, if there is one.
    """
    image = fat.read(data, name)
    text = image.find(firmware.CONFIG)
    wanted = firmware.plan(image.read(text) if text else b"")
    problems = firmware.problems(image, wanted)
    report: dict[str, Any] = {
        "image": name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "fat": {
            "bits": image.bits,
            "label": image.label,
            "cluster_bytes": image.cluster_bytes,
            "free_clusters": image.free_clusters,
            "free_bytes": image.free_bytes,
        },
        "files": {path: file.size for path, file in sorted(image.files.items())},
    }
    kernel = image.find(firmware.kernel_name(image, wanted) or "/")
    if kernel:
        report["kernel"] = {
            "file": kernel.path,
            "bytes": kernel.size,
            "format": compression.kernel(image.read(kernel)),
        }
    report["initramfs"] = [
        {
            "file": file.path,
            "bytes": file.size,
            "compression": compression.of(image.read(file)) or "none",
        }
        for file in _initramfs(image, wanted)
    ]
    try:
        report["gadgetd"] = _gadgetd(image, wanted, problems)
        report["looked_into"] = True
    except BootimgError as error:
        problems.append(firmware.Problem(firmware.WARNING, f"cannot be looked into: {error}"))
        report["gadgetd"], report["looked_into"] = None, False
    report["settings"] = _settings(image, problems)
    report["signature"] = _signature(data, signature, problems)
    report["problems"] = [problem._asdict() for problem in problems]
    return report


def _initramfs(image: fat.Fat, wanted: firmware.Plan) -> list[fat.File]:
    """Those that are loaded and there, each once."""
    found = {name: image.find(name) for name in wanted.initramfs}
    return list({file.path: file for file in found.values() if file}.values())


def _gadgetd(
    image: fat.Fat, wanted: firmware.Plan, problems: list[firmware.Problem]
) -> dict[str, Any] | None:
    """The gadgetd inside: version, configuration, board lock. Raises BootimgError."""
    version = ""
    found: dict[str, bytes] = {}
    for file in _initramfs(image, wanted):
        for entry in initramfs.entries(image.read(file), f"{image.name}: {file.path}"):
            if entry.path in (configure.GADGETD, checker.PATH):
                found[entry.path] = entry.data
            elif PACKAGE.fullmatch(entry.path):
                version = _version(entry.path, entry.data) or version
    if configure.GADGETD not in found:
        return None
    inside: dict[str, Any] = {"version": version, "configuration": None, "boards": []}
    if checker.PATH in found:
        text = found[checker.PATH]
        inside["configuration"] = text.decode("utf-8", "replace")
        try:
            inside["boards"] = list(checker.check(text, Path(checker.PATH)).boards)
        except BootimgError as error:
            problems.append(firmware.Problem(firmware.ERROR, f"the configuration: {error}"))
    return inside


def _version(path: str, data: bytes) -> str:
    if path.endswith(".py"):
        match = _IN_SOURCE.search(data)
        return match[1].decode("latin-1") if match else ""
    for match in _IN_BYTE_CODE.finditer(data):
        length = match[1][0]
        if 0 < length <= len(match[2]):
            return match[2][:length].decode()
    return ""


def _settings(image: fat.Fat, problems: list[firmware.Problem]) -> dict[str, object] | None:
    """What `configure` has set; None if it never did."""
    try:
        found = record.read(image)
    except BootimgError as error:
        problems.append(firmware.Problem(firmware.WARNING, error.message))
        return None
    return configure.shown(found[0]) if found else None


def _signature(
    data: bytes, signature: bytes | None, problems: list[firmware.Problem]
) -> dict[str, Any] | None:
    """What boot.sig says, and whether it is this image's. Only `verify` can say whose it is."""
    if signature is None:
        return None
    lines = signature.decode("ascii", "replace").splitlines()
    ours = bool(lines) and lines[0] == hashlib.sha256(data).hexdigest()
    if not ours:
        text = "boot.sig beside it is for another image: sign it again"
        # A board without secure boot does not look at it.
        problems.append(firmware.Problem(firmware.WARNING, text))
    ts = next((line[4:] for line in lines if line.startswith("ts: ")), "")
    return {
        "of_this_image": ours,
        "ts": int(ts) if ts.isascii() and ts.isdigit() and len(ts) < 16 else None,
        "rsa2048": any(line.startswith("rsa2048: ") for line in lines),
    }
