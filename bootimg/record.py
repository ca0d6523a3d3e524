"""What `configure` leaves in an image: its settings, and how to get the image back as it was.

A changed image is made anew, so nothing of its FAT is where it was. The record says, from the
start of the original to its end: so many bytes that stand here, or so many bytes of a file that is
in the changed image too. What stands here is the original's own FAT and directories and the few
files that were changed; it compresses to next to nothing.
"""

import base64
import binascii
import hashlib
import json
import lzma
from typing import Any, NamedTuple

from bootimg.errors import BootimgError
from bootimg.fat import MAX_IMAGE_BYTES, Fat

NAME = "gadgetd-bootimg.json"
FORMAT = 1
MAX_BYTES = 32 << 20
_LITTLE = 512
"""Bytes of a file below which naming it costs more than writing it down."""


class Settings(NamedTuple):
    """All that can be set in an image. None and empty: as the image has it."""

    config: str | None = None  # gadgetd.yaml, whole
    boards: tuple[str, ...] = ()
    cmdline: str | None = None
    cmdline_add: str | None = None
    hostname: str | None = None
    root_password: str | None = None  # a hash
    no_login: bool = False
    config_txt: tuple[tuple[str, str], ...] = ()

    def over(self, earlier: "Settings") -> "Settings":
        """These settings, and of the earlier ones those that these do not speak of.

        A key of config.txt ends all earlier lines with it; a whole command line ends the earlier
        one and what was added to that.
        """
        given = {
            key: value for key, value in self._asdict().items() if value not in (None, (), False)
        }
        if self.config_txt:
            ours = {key for key, _ in self.config_txt}
            others = tuple(pair for pair in earlier.config_txt if pair[0] not in ours)
            given["config_txt"] = others + self.config_txt
        if self.cmdline is not None:
            given["cmdline_add"] = self.cmdline_add
        return earlier._replace(**given)


def write(settings: Settings, original: Fat, kept: dict[str, int]) -> bytes:
    """The record for an image whose `kept` files begin with so many of their original bytes."""
    steps: list[Any] = []
    literal = bytearray()
    pieces = sorted(
        (at, length, path, sum(size for _, size in file.runs[:index]))
        for path, file in original.files.items()
        if path in kept and file.size >= _LITTLE
        for index, (at, length) in enumerate(file.runs)
    )
    place = 0

    def keep(end: int) -> None:
        if end > place:
            literal.extend(original.data[place:end])
            steps.append(end - place)

    for at, length, path, start in pieces:
        keep(at)
        steps.append([path, start, length])
        place = at + length
    keep(len(original.data))
    document = {
        "made_by": "gadgetd-bootimg configure",
        "format": FORMAT,
        "settings": settings._asdict(),
        "original": {
            "sha256": hashlib.sha256(original.data).hexdigest(),
            "bytes": len(original.data),
            "steps": steps,
            "xz": base64.b64encode(_squeeze(bytes(literal))).decode(),
        },
    }
    data = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    if len(data) > MAX_BYTES:
        raise BootimgError(
            f"{original.name}: what is to be given back of it comes to {len(data) >> 20} MiB",
            hint="make an image without what older files have left: extract, and create",
        )
    return data


def read(fat: Fat) -> tuple[Settings, bytes] | None:
    """The settings of a changed image, and the original; None for one that nobody changed.

    Raises BootimgError if the record does not give back what it says.
    """
    file = fat.find(NAME)
    if file is None:
        return None
    if file.size > MAX_BYTES:
        raise _damaged(fat)
    try:
        document = json.loads(fat.read(file))
        if document["format"] != FORMAT:
            raise BootimgError(
                f"{fat.name}: configured by another version", hint="use that gadgetd-bootimg"
            )
        settings = _settings(document["settings"])
        original = _rebuild(fat, document["original"])
    except (ValueError, KeyError, TypeError, RecursionError, lzma.LZMAError) as error:
        raise _damaged(fat) from error
    return settings, original


def _settings(raw: dict[str, Any]) -> Settings:
    values = {key: raw[key] for key in Settings._fields}
    values["boards"] = tuple(str(board) for board in values["boards"])
    values["config_txt"] = tuple((str(key), str(value)) for key, value in values["config_txt"])
    for key in ("config", "cmdline", "cmdline_add", "hostname", "root_password"):
        if not isinstance(values[key], str | None):
            raise TypeError(key)
    values["no_login"] = bool(values["no_login"])
    return Settings(**values)


def _rebuild(fat: Fat, raw: dict[str, Any]) -> bytes:
    size = raw["bytes"]
    if not isinstance(size, int) or not 0 < size <= MAX_IMAGE_BYTES:
        raise _damaged(fat)
    try:
        packed = base64.b64decode(raw["xz"], validate=True)
    except binascii.Error as error:
        raise _damaged(fat) from error
    literal = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed, size + 1)
    out = bytearray()
    at = 0
    content: dict[str, bytes] = {}
    for step in raw["steps"]:
        if isinstance(step, int):
            out += literal[at : at + step]
            at += step
        else:
            path, start, length = step
            if path not in content:
                content[path] = fat.read(fat.files[path])
            out += content[path][start : start + length]
        if step is True or len(out) > size:
            raise _damaged(fat)
    if hashlib.sha256(out).hexdigest() != raw["sha256"]:
        raise BootimgError(
            f"{fat.name}: {NAME} does not give back the original: a file was changed since",
            hint="configure the original image instead",
        )
    return bytes(out)


def _damaged(fat: Fat) -> BootimgError:
    return BootimgError(
        f"{fat.name}: {NAME} is damaged", hint="configure the original image instead"
    )


def _squeeze(data: bytes) -> bytes:
    """The smallest of a few: in a FAT each number is mostly the one before it and one."""
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 6}
    chains: list[list[dict[str, int]]] = [[lzma2]]
    chains += [[{"id": lzma.FILTER_DELTA, "dist": n}, lzma2] for n in (2, 3, 4)]
    return min((lzma.compress(data, filters=chain) for chain in chains), key=len)
