"""What changed between two statuses, as lines for a person and fields for a program. Pure.

docs/uart.md documents every event and field as a stable interface: a new field may be added, a
field never changes its meaning within a major version.
"""

from __future__ import annotations

from collections.abc import Iterator

from gadgetd.disks.disk import Disk
from gadgetd.errors import Problem
from gadgetd.frozen import Frozen
from gadgetd.show import wording
from gadgetd.status import MOVING, Controller, DiskStatus, Life, Phase, Status

Fields = dict[str, str | int | bool | None]


class Event(Frozen):
    """One change. `text` is printable ASCII in one line; `fields` is flat, `event` names it."""

    text: str
    fields: Fields


def events(old: Status | None, new: Status) -> list[Event]:
    """Give what a reader of the log should know, in the order to be read.

    `old` is None at the start. Progress alone (bytes, rates) is no event; neither is a message
    that changes while disks are exported.
    """
    result: list[Event] = []
    before = old or Status(version="", phase=Phase.STARTING, message=new.message)
    if before.safe_to_unplug and not new.safe_to_unplug:
        # First of all: nobody may act on a word that is no longer true.
        result.append(_safe(new))
    if (before.version, before.board) != (new.version, new.board):
        result.append(_started(new))
    stopped = new.phase is Phase.STOPPED  # What goes then goes by our own doing, and that is said.
    if new.controller != before.controller and not stopped:
        result += _controller(before.controller, new.controller)
    if new.serial_console != before.serial_console:
        result.append(_serial_console(new))
    result += _disks(before, new)
    message_counts = new.phase is not Phase.EXPORTED and before.message != new.message
    if before.phase is not new.phase or message_counts:
        result.append(_phase(new))
    if not stopped:
        result += _host(before.controller, new.controller)
    result += _luns(before, new)
    result += _troubles(before, new)
    if new.safe_to_unplug and not before.safe_to_unplug:
        result.append(_safe(new))
    return result


def _event(words: str, event: str, /, **fields: str | int | bool | None) -> Event:
    return Event(wording.plain(words) or event, {"event": event, **fields})


def _started(new: Status) -> Event:
    return _event(
        f"version {new.version} on {wording.board(new)}",
        "started",
        version=new.version,
        board=new.board.model,
        serial=new.board.serial,
    )


def _phase(new: Status) -> Event:
    exported = sum(row.lun is not None for row in new.disks)
    return _event(
        new.message or new.phase.value,
        "phase",
        phase=new.phase.value,
        message=new.message,
        luns=exported,
    )


def _safe(new: Status) -> Event:
    words = "SAFE TO UNPLUG" if new.safe_to_unplug else "NOT safe to unplug any more"
    return _event(words, "safe_to_unplug", safe=new.safe_to_unplug)


def _controller(old: Controller | None, new: Controller | None) -> Iterator[Event]:
    if new is None:
        yield _event("no USB controller any more", "controller", name=None, note="")
    elif old is None or (old.name, old.note) != (new.name, new.note):
        note = f" - {new.note}" if new.note else ""
        words = f"USB controller {new.name}{note}"
        yield _event(words, "controller", name=new.name, note=new.note)


def _serial_console(new: Status) -> Event:
    name = new.serial_console
    words = wording.serial_console(name) if name else "no root login over the USB cable any more"
    return _event(words, "serial_console", name=name or None)


def _change(old: str, new: str) -> str:
    """Name a step from one state of /sys/class/udc/X/state to the next."""
    if new in ("", "not attached"):
        return "gone"
    if new in ("attached", "powered"):
        return "attached"
    if new == "default":
        # A reset is how every connection begins; only a later one is worth the word.
        return "reset" if old in ("addressed", "configured", "suspended") else "attached"
    if new == "configured" and old == "suspended":
        return "resumed"
    return new if new in wording.CHANGES else "other"


def _host(old: Controller | None, new: Controller | None) -> Iterator[Event]:
    state, link = (new.state, new.speed) if new else ("", "")
    old_state, old_link = (old.state, old.speed) if old else ("", "")
    none = ("", "not attached")
    if state in none and old_state in none:
        return
    if state != old_state:
        change = _change(old_state, state)
    elif link != old_link:
        change = "speed"
    else:
        return
    words = wording.CHANGES[change]
    if change in ("configured", "resumed", "speed") and wording.speed(link):
        words += f", {wording.speed(link)}"
    elif change == "other":
        words += f": {state}"
    yield _event(words, "host", change=change, state=state, speed=link)


def _by_name(status: Status) -> dict[str, DiskStatus]:
    # A disk that has left may have had the name that another has now, which is the one meant.
    rows = sorted(status.disks, key=lambda row: row.life is not Life.GONE)
    return {row.disk.name: row for row in rows}


def _disks(before: Status, new: Status) -> Iterator[Event]:
    old_rows, rows = _by_name(before), _by_name(new)
    for name, row in old_rows.items():
        if name not in rows and new.phase is not Phase.STOPPED:
            yield _event(f"{name} is no longer there", "disk_removed", name=name, lun=row.lun)
    for name, row in rows.items():
        old = old_rows.get(name)
        if old is None or _facts(old) != _facts(row):
            yield _disk(row)


def _facts(row: DiskStatus) -> object:
    return (row.disk, row.lun, row.reason, row.read_only, row.inquiry)


def _who(disk: Disk) -> object:
    return (disk.kind, disk.model, disk.serial, disk.size_bytes)


def _disk(row: DiskStatus) -> Event:
    disk = row.disk
    kind = f"{disk.kind.caption} {wording.plain(disk.model)}".strip()
    what = f"{kind}, {wording.size(disk.size_bytes)}"
    if row.lun is None:
        fate = "not exported yet" if row.waits else "left out"
        words = f"{disk.name} ({what}) {fate}: {row.reason or 'no reason known'}"
    else:
        words = f"disk {row.lun} is {disk.name} ({what}{', read-only' if row.read_only else ''})"
    return _event(
        words,
        "disk",
        lun=row.lun,
        name=disk.name,
        kind=disk.kind.value,
        model=disk.model,
        serial=disk.serial,
        size_bytes=disk.size_bytes,
        block_size=disk.block_size,
        read_only=row.read_only,
        inquiry=row.inquiry,
        reason=row.reason,
    )


def _luns(before: Status, new: Status) -> Iterator[Event]:
    old_rows = _by_name(before)
    for row in _by_name(new).values():
        old = old_rows.get(row.disk.name)
        # Another disk in the same slot has the same name and takes over the number.
        same = old and (old.lun, _who(old.disk)) == (row.lun, _who(row.disk))
        previous = old.life if old and same else Life.WAITING
        if row.lun is None or row.life is previous:
            continue
        back = previous is Life.GONE
        words = "the disk is back" if back else wording.LIVES[row.life][1]
        moved = previous in MOVING or row.life is Life.EJECTED
        if moved and (row.written_bytes or row.read_bytes):
            words += f"; {wording.size(row.written_bytes)} written"
            words += f", {wording.size(row.read_bytes)} read so far"
        yield _event(
            f"disk {row.lun} {row.disk.name}: {words}",
            "lun",
            lun=row.lun,
            name=row.disk.name,
            life=row.life.value,
            previous=previous.value,
            back=back,
            read_bytes=row.read_bytes,
            written_bytes=row.written_bytes,
        )


def _troubles(before: Status, new: Status) -> Iterator[Event]:
    """Give what is over first, so that what is last is what is wrong now."""
    if before.problem and not new.problem:
        yield _trouble("problem", before.problem, active=False, now=new)
    for advice in before.advice:
        if advice not in new.advice:
            yield _trouble("advice", advice, active=False, now=new)
    if new.problem and before.problem != new.problem:
        yield _trouble("problem", new.problem, active=True, now=new)
    for advice in new.advice:
        if advice not in before.advice:
            yield _trouble("advice", advice, active=True, now=new)


def _trouble(name: str, trouble: Problem, *, active: bool, now: Status) -> Event:
    words = wording.problem(trouble)
    if not active:
        # The same trouble can go from advice to the problem, or back.
        goes_on = trouble == now.problem or trouble in now.advice
        words = f"goes on: {words}" if goes_on else f"over: {words}"
    elif trouble.hint:
        words += f" - {trouble.hint}"
    return _event(words, name, active=active, **trouble._asdict())
