"""`gadgetd erase`: which disk may be erased, the question before it, and the words after it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gadgetd.config.load import load
from gadgetd.config.settings import CONFIG, Config
from gadgetd.control import client
from gadgetd.disks.disk import Disk, Found
from gadgetd.disks.erase import Erased, erase
from gadgetd.errors import ConfigError, ControlError, GadgetdError
from gadgetd.show import wording
from gadgetd.status import Phase

_MEANING = """\
The disk has been told that it may forget everything on it. That is no proof that the data is gone:
a disk may do so later, in part or not at all, and what it has put aside as worn is out of reach. To
part with a disk that held secrets, encrypt what you store on it, or destroy it."""
_MEANING_SECURE = """\
The disk has been told to erase everything on it, and the copies too that it made for itself. That
it does so, its maker promises. To part with a disk that held secrets, encrypt what you store on it,
or destroy it."""
"""What discard promises: Documentation/ABI/stable/sysfs-block, discard_zeroes_data ("don't rely on
any specific behavior"); NVM Express NVM Command Set 1.0, 3.2.3 (a deallocated block reads as zeros,
ones or as before); blkdiscard(8), --secure."""


def run(wanted: str, *, confirmed: bool) -> None:
    """Erase a disk that no host has. Raises GadgetdError, and nothing is changed, if one may."""
    disk = find(wanted)
    what = f"{disk.kind.caption} {wording.plain(disk.model)}".strip()
    if not confirmed:
        print(f"This erases {disk.name}, all of it: {what}, {wording.size(disk.size_bytes)}.")
        print(f"To go on, type its name, {disk.name}: ", end="", flush=True)
        if sys.stdin.readline().strip() != disk.name:
            raise GadgetdError("nothing was changed", hint="type the disk's name, or give --yes")
    try:
        erased = erase(disk, client.show_progress)
    except KeyboardInterrupt as error:
        raise GadgetdError(f"interrupted: a part of {disk.name} is erased") from error
    print("\n".join(said(disk, erased)))


def said(disk: Disk, erased: Erased) -> list[str]:
    """Give what was done, and what that means for the data that was there."""
    how = "securely discarded" if erased.secure else "discarded"
    reads = f"its first and last MiB read as {erased.reads_as} now"
    if erased.reads_as == "data":
        reads = "its first or last MiB can still be read"
    size = wording.size(disk.size_bytes)
    head = f"{disk.name}: {size} {how} in {erased.took_s:.1f} s; {reads}."
    return [head, *(_MEANING_SECURE if erased.secure else _MEANING).splitlines()]


def find(wanted: str) -> Disk:
    """Find the disk by its name or node. Raises GadgetdError if it is not to be erased."""
    name = wanted.removeprefix("/dev/")
    _refuse_exported(name)
    try:
        config = load(CONFIG)
    except ConfigError:
        config = Config()  # With a wrong one nothing is exported.
    return judge(name, client.look(config))


def judge(name: str, found: Sequence[Found]) -> Disk:
    """Give the disk with this kernel name. Raises GadgetdError if something speaks against it."""
    by_name = {each.disk.name: each for each in found}
    if name not in by_name:
        there = ", ".join(sorted(n for n, each in by_name.items() if not each.refusal)) or "none"
        raise GadgetdError(f"no disk is called {name!r}", hint=f"there are: {there}")
    disk, refusal = by_name[name].disk, by_name[name].refusal
    if refusal:
        raise GadgetdError(f"{name} is not erased: {refusal}", hint="see gadgetd scan")
    if disk.read_only:
        raise GadgetdError(f"{name} is not erased: it is read-only")
    return disk


def _refuse_exported(name: str) -> None:
    try:
        status = client.from_json(client.fetch_status())
    except ControlError:
        return  # No daemon: the kernel knows who has the disk.
    for row in status.disks:
        exported = row.lun is not None or row.waits
        if row.disk.name == name and exported and status.phase is not Phase.STOPPED:
            raise GadgetdError(
                f"{name} is not erased: it is exported, and a host may have it",
                hint="gadgetd stop, then erase it, then gadgetd start; or exclude it in the YAML",
            )
