"""The commands of the UART shell, each a short talk with the daemon."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gadgetd.config.load import load
from gadgetd.config.settings import CONFIG, Config
from gadgetd.control import server
from gadgetd.disks.counters import read_counters
from gadgetd.disks.disk import Disk, Found, Health, Kind, Verdict
from gadgetd.disks.hold import in_use
from gadgetd.errors import ControlError, GadgetdError, Problem
from gadgetd.show import wording
from gadgetd.status import Board, Controller, DiskStatus, Life, Phase, Status, as_dict, find_disk

POLL_S = 0.5
CHUNK_BYTES = 1 << 20
_STOP_TIMEOUT_S = 600.0
"""A stop flushes all disks first, and there are slow ones."""


def fetch_status() -> dict[str, Any]:
    """Ask the daemon for its status, as `to_json` gave it. Raises ControlError."""
    status: dict[str, Any] = server.ask({"command": "status"})["status"]
    return status


def send(command: str, **fields: Any) -> dict[str, Any]:
    """Have the daemon do something and return its reply. Raises ControlError."""
    return server.ask({"command": command, **fields}, timeout_s=_STOP_TIMEOUT_S)


def from_json(value: dict[str, Any]) -> Status:
    """Turn what `to_json` gave back into the status."""
    rows = []
    for row in value["disks"]:
        fields = {key: row[key] for key in Disk._fields}
        disk = Disk(**fields | {"kind": Kind(row["kind"]), "node": Path(row["node"])})
        rest = {key: row[key] for key in DiskStatus._fields if key != "disk"}
        rest |= {"life": Life(row["life"] or Life.WAITING), "health": _health(row["health"])}
        rows.append(DiskStatus(disk, **rest))
    controller, problem = value["controller"], value["problem"]
    return Status(
        version=value["version"],
        phase=Phase(value["phase"]),
        message=value["message"],
        board=Board(**value["board"]),
        problem=Problem(**problem) if problem else None,
        advice=tuple(Problem(**each) for each in value["advice"]),
        controller=Controller(**controller) if controller else None,
        disks=tuple(rows),
        safe_to_unplug=value["safe_to_unplug"],
        serial_console=value["serial_console"],
    )


def _health(value: dict[str, Any] | None) -> Health | None:
    if value is None:
        return None
    return Health(**value | {"warnings": tuple(value["warnings"])})


def scan(config_path: Path | None = None) -> list[Verdict]:
    """Judge every disk as the daemon does, or would with another file, changing nothing.

    A daemon that runs is asked, since its own disks look taken from outside. Raises ConfigError.
    """
    exported: set[str] = set()
    try:
        status = from_json(fetch_status())
        if config_path is None and status.phase is not Phase.STOPPED:
            return [_verdict(row) for row in status.disks]
        exported = {row.disk.name for row in status.disks if row.lun is not None}
    except ControlError:
        pass  # None runs: look ourselves.
    from gadgetd.disks.health import ask
    from gadgetd.export.choosing import choose

    config = load(config_path or CONFIG)
    verdicts = choose(look(config), config)
    health = ask([verdict.disk for verdict in verdicts])
    return [
        verdict._replace(exported=False, reason="in use on the board")
        if verdict.exported and verdict.disk.name not in exported and in_use(verdict.disk)
        else verdict
        for verdict in (each._replace(health=health.get(each.disk)) for each in verdicts)
    ]


def look(config: Config) -> tuple[Found, ...]:
    """List the disks from outside the daemon, each with what speaks against it."""
    from gadgetd.blockscan import BlockScan
    from gadgetd.board import read_board
    from gadgetd.export.plan import gadget

    return BlockScan().disks({gadget(config, read_board(), (), "").identity})


def _verdict(row: DiskStatus) -> Verdict:
    if row.life is Life.GONE:
        return Verdict(row.disk, False, f"has left the board; its number {row.lun} waits for it")
    reason = f"disk {row.lun}; {row.reason}" if row.lun is not None else row.reason
    exported = row.lun is not None or row.waits
    return Verdict(row.disk, exported, reason, row.read_only, health=row.health)


def scan_lines(verdicts: list[Verdict]) -> list[str]:
    """Give a line for each disk, aligned, with its verdict and the reason."""
    if not verdicts:
        return ["no disk"]
    cells = [
        (
            "export" if v.exported else "-",
            v.disk.name,
            v.disk.kind.caption,
            wording.size(v.disk.size_bytes),
            "ro" if v.read_only else "rw",
            wording.plain(v.disk.model) or "-",
            "; ".join(filter(None, (wording.plain(v.reason), wording.health(v.health)))),
        )
        for v in verdicts
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(6)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in cells
    ]


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict as plain JSON values."""
    value = as_dict(verdict)
    disk: dict[str, Any] = value.pop("disk")
    return disk | value | {"node": str(disk["node"])}


def wait_for_eject(disk: str) -> DiskStatus:
    """Wait until a disk that was ejected is flushed. Raises GadgetdError if it cannot be."""
    while True:
        row = find(from_json(fetch_status()), disk)
        if row.life is Life.FAILED:
            raise GadgetdError(
                f"{row.disk.name} did not take all data",
                hint="do not trust what was written to it; see dmesg",
            )
        if row.life is Life.GONE:
            raise GadgetdError(
                f"{row.disk.name} left the board before all data was on it",
                hint="do not trust what was written to it",
            )
        if row.life is Life.EJECTED:
            return row
        if row.life is not Life.EJECTING:
            raise GadgetdError(f"{row.disk.name} is with the host again", hint="eject it again")
        time.sleep(POLL_S)


def find(status: Status, wanted: str) -> DiskStatus:
    """Find an exported disk by number, kernel name or device node. Raises ControlError."""
    if status.phase is Phase.STOPPED:
        raise ControlError(status.message)
    return find_disk(status.disks, wanted)


def sha256(
    wanted: str, progress: Callable[[int, int], None], sys: Path = Path("/sys")
) -> tuple[Disk, str]:
    """Hash a whole exported disk as the host sees it; `progress` gets bytes done and to do.

    Raises ControlError if the host writes to it, before or meanwhile: the sum would be of no
    state the disk ever had.
    """
    import hashlib

    before = find(from_json(fetch_status()), wanted)
    if before.life in (Life.WRITING, Life.FLUSHING, Life.EJECTING):
        hint = "wait until it is flushed: gadgetd status"
        raise ControlError(f"{before.disk.name} is being written to", hint=hint)
    if before.life is Life.GONE:
        raise ControlError(f"{before.disk.name} has left the board")
    send("hash", disk=wanted, pid=os.getpid())  # What we read must not look like the host's doing.
    digest, done = hashlib.sha256(), 0
    try:
        with before.disk.node.open("rb", buffering=0) as file:
            # The counters tell of a write when it leaves RAM: see that all has left, now and after.
            os.fsync(file.fileno())
            written = _written_bytes(before.disk, sys)
            # What RAM still remembers of the disk would prove nothing about the medium.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress(done, before.disk.size_bytes)
            os.fsync(file.fileno())
    except OSError as error:
        raise GadgetdError(
            f"cannot read {before.disk.name} at byte {done}: {error.strerror}",
            hint="see the kernel's log: dmesg",
        ) from error
    after = find(from_json(fetch_status()), wanted)
    if after.life is Life.GONE or after.disk != before.disk:
        raise ControlError(f"{before.disk.name} left the board meanwhile")
    if _written_bytes(before.disk, sys) != written:
        raise ControlError(f"the host wrote to {before.disk.name} meanwhile", hint="hash it again")
    return before.disk, digest.hexdigest()


def _written_bytes(disk: Disk, sys: Path) -> int:
    counters = read_counters(disk.name, sys)
    if counters is None:
        raise ControlError(f"{disk.name} has left the board")
    return counters.written_bytes


def show_progress(done: int, total: int) -> None:
    """Show how far a hash is, on a terminal's standard error, in place."""
    if os.isatty(2) and (done % (32 * CHUNK_BYTES) == 0 or done == total):
        percent = 100 * done // max(1, total)
        end = "\n" if done == total else ""
        sys.stderr.write(
            f"\r{percent:3} %  {wording.size(done)} of {wording.size(total)}\x1b[K{end}"
        )
        sys.stderr.flush()


def watch(draw: Callable[[Status], None]) -> None:
    """Draw the status whenever it changes, until interrupted."""
    shown = None
    while True:
        status = from_json(fetch_status())
        if status != shown:
            draw(status)
            shown = status
        time.sleep(POLL_S)
