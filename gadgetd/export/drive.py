"""One exported disk: the hold on it, its LUN, its life and what was read and written so far."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from gadgetd.disks.counters import Counters
from gadgetd.disks.disk import Verdict
from gadgetd.disks.hold import Flush, Hold
from gadgetd.disks.kernel_log import IoError
from gadgetd.errors import GadgetError
from gadgetd.export.numbering import Row
from gadgetd.status import MOVING, DiskStatus, Life


class Signal(Enum):
    """What can happen to a LUN."""

    HOST_READY = auto()
    """A host configured the gadget."""
    HOST_GONE = auto()
    READ = auto()
    """The disk's counters moved since the last look."""
    WRITE = auto()
    QUIET = auto()
    """The counters have stood still for long enough."""
    FLUSH_STARTED = auto()
    FLUSH_DONE = auto()
    FLUSH_FAILED = auto()
    EJECT = auto()
    INSERT = auto()
    LEFT = auto()
    """The disk left the board."""


TRANSITIONS: dict[Life, dict[Signal, Life]] = {
    # Without a host the kernel may still be writing what an earlier one left in RAM.
    Life.WAITING: {
        Signal.HOST_READY: Life.IDLE,
        Signal.WRITE: Life.WRITING,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    Life.IDLE: {
        Signal.HOST_GONE: Life.WAITING,
        Signal.READ: Life.READING,
        Signal.WRITE: Life.WRITING,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    Life.READING: {
        Signal.HOST_GONE: Life.WAITING,
        Signal.WRITE: Life.WRITING,
        Signal.QUIET: Life.IDLE,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    # Neither a quiet moment, nor reads, nor a pulled cable end it: the data is still in RAM.
    Life.WRITING: {
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    # The flush itself moves the counters, so WRITE says nothing here.
    Life.FLUSHING: {
        Signal.FLUSH_DONE: Life.FLUSHED,
        Signal.FLUSH_FAILED: Life.FAILED,
        Signal.EJECT: Life.EJECTING,
    },
    Life.FLUSHED: {
        Signal.HOST_GONE: Life.WAITING,
        Signal.READ: Life.READING,
        Signal.WRITE: Life.WRITING,
        Signal.FLUSH_STARTED: Life.FLUSHING,
        Signal.EJECT: Life.EJECTING,
    },
    Life.EJECTING: {
        Signal.FLUSH_DONE: Life.EJECTED,
        Signal.FLUSH_FAILED: Life.FAILED,
        Signal.INSERT: Life.WAITING,
    },
    # The word "safe" outlives the cable.
    Life.EJECTED: {Signal.INSERT: Life.WAITING},
    Life.FAILED: {Signal.INSERT: Life.WAITING},
    Life.GONE: {Signal.INSERT: Life.WAITING},
}


def after(life: Life, signal: Signal) -> Life:
    """Give what a LUN does after `signal`; what the table does not name changes nothing."""
    if signal is Signal.LEFT:
        return Life.GONE
    return TRANSITIONS[life].get(signal, life)


UNWRITTEN = frozenset((Life.WRITING, Life.FLUSHING, Life.EJECTING, Life.FAILED))
"""In these, bytes that the host wrote may not be on the medium."""
EMPTY = frozenset((Life.EJECTING, Life.EJECTED, Life.GONE))
"""In these, the host sees a drive without a medium."""


QUIET_S = 2.0
"""Counters that stand still for so long mean no traffic. It is longer than the 1.5 s after which
the kernel begins to write what is dirty (see dirty_limits.py), so a host that writes is noticed."""


class UnderWay(Enum):
    """What a write to a LUN does that has not come to its end."""

    NOTHING = auto()
    OUT = auto()
    """It takes the disk from the host."""
    CHANGE = auto()


def no_answer(who: str, done: str) -> GadgetError:
    """Give the error that says why this is not `done` yet."""
    return GadgetError(
        f"{who} does not answer: a command of the host's has not come to its end",
        hint=f"it is {done} as soon as that ends; see the kernel's log: dmesg",
        errno=errno.ETIMEDOUT,
    )


class Drive:
    """A disk and its LUN. Times are seconds of the loop's clock.

    `hold` is None once the disk has gone. The gadget's attribute files are not touched here.
    """

    life: Life = Life.WAITING
    seen: Counters = Counters()
    total: Counters = Counters()
    rate_bytes_s: int = 0
    looked_at: float = 0.0
    flush: Flush | None = None
    stale: bool = False
    """The host may have written since the fsync began that is under way: it takes another."""
    inserted: bool = False
    """The gadget's LUN was given the disk; if it is empty then, the host has ejected it."""
    under_way: UnderWay = UnderWay.NOTHING
    """As long as it is, the host may still have the disk."""
    was_shown: bool = False
    """It has been in its LUN, so a host may have written to it."""
    ejected: bool = False
    """It was taken out of its LUN, by the host or by a command, and not inserted since."""
    ejected_by_host: bool = False
    lost: bool = False
    """It left the board, or could not be flushed, before all that the host had written was on it;
    the host may not know."""
    refused: bool = False
    """It was taken from the host since it did not take what the host wrote."""
    torn: bool = False
    """It was taken by force from a host that had it open, and may have held data for it."""
    opened: bool = False
    """The host was seen to have it locked, and has not ejected it since."""
    reset: bool = False
    """The host has reset the bus since: the kernel has forgotten its lock, if there was one."""
    leaving: bool = False
    """It is there and no longer to be exported; it is let go once it is flushed."""
    io_errors: int = 0
    write_errors: bool = False
    """Some of them may have been of writes."""
    adopted: bool = False
    """It was exported by an earlier run already, whose counts are lost."""
    board_readers: int = 0
    """Programs of the board that read it now, so that its reads are not the host's."""

    def __init__(
        self,
        number: int,
        verdict: Verdict,
        inquiry: str,
        hold: Hold | None,
        changed_at: float,
        *,
        read_only: bool = False,
    ) -> None:
        """`read_only`: as the LUN stands. A change waits while the host has locked the medium."""
        self.number = number
        self.verdict = verdict
        self.inquiry = inquiry
        self.hold = hold
        self.changed_at = self.written_at = changed_at
        self.read_only = read_only

    @property
    def name(self) -> str:
        """The disk's kernel name."""
        return self.verdict.disk.name

    @property
    def has_medium(self) -> bool:
        """Whether the host sees a disk in this LUN."""
        return self.life not in EMPTY and not self.ejected

    @property
    def waits(self) -> bool:
        """Whether a write to its LUN has not come to its end."""
        return self.under_way is not UnderWay.NOTHING

    @property
    def in_use(self) -> GadgetError:
        """The error that says why the host keeps it."""
        how = "has locked the medium"
        if self.reset:
            how = f"{'had' if self.opened else 'may have had'} it open when it reset the bus"
        return GadgetError(
            f"{self.name} is in use: the host {how}",
            hint=f"eject it on the host, or force it: gadgetd eject --force {self.name}",
            errno=errno.EBUSY,
        )

    @property
    def no_answer(self) -> GadgetError:
        """The error that says why it is not out yet."""
        return no_answer(self.name, "taken out")

    @property
    def touched(self) -> bool:
        """Whether a host has looked into the disk, as far as can be told."""
        return self.adopted or self.total.read_bytes > 0

    @property
    def written(self) -> bool:
        """All that the host wrote is on the medium, as far as the counters tell."""
        return self.life not in UNWRITTEN and not self.lost

    @property
    def row(self) -> Row:
        """What the plan is made from."""
        verdict, out = self.verdict, not self.has_medium
        return Row(self.number, verdict.disk, verdict.read_only, verdict.label, gone=out)

    @property
    def calm(self) -> bool:
        """Nothing is read or written, and nothing waits to be flushed."""
        return self.life in _CALM

    def signal(self, signal: Signal) -> None:
        """Take the transition."""
        before, self.life = self.life, after(self.life, signal)
        if signal is Signal.LEFT and before in UNWRITTEN:
            self.lost = True
        if signal is Signal.EJECT:
            self.ejected = True
            self.outdate_flush()
        elif signal in (Signal.INSERT, Signal.LEFT):
            self.ejected = False
        if self.ejected or signal is Signal.LEFT:
            self.forget_host()

    def begin_anew(self) -> None:
        """Forget what is not known of the data: a person has been told."""
        self.lost = self.torn = self.refused = False

    def forget_host(self) -> None:
        """Take it that nobody has the disk open: it is out, or the host is another one."""
        self.opened = self.reset = False

    def observe(self, counters: Counters | None, now: float) -> None:
        """Compare the disk's counters with the last look, and signal what they say."""
        if counters is None:
            return
        delta = counters - self.seen
        if self.board_readers:
            delta = Counters(0, delta.written_bytes)
        elapsed_s = now - self.looked_at
        self.seen, self.looked_at = counters, now
        self.total = Counters(
            self.total.read_bytes + delta.read_bytes,
            self.total.written_bytes + delta.written_bytes,
        )
        moved = delta.read_bytes + delta.written_bytes
        self.rate_bytes_s = int(moved / elapsed_s) if elapsed_s > 0 else 0
        if delta.written_bytes:
            self.signal(Signal.WRITE)
        if delta.read_bytes:
            self.signal(Signal.READ)
        if delta.written_bytes:
            self.written_at = now
        if moved:
            self.changed_at = now
        elif now - self.changed_at >= QUIET_S:
            self.signal(Signal.QUIET)

    def note_errors(self, errors: Iterable[IoError]) -> bool:
        """Count those of the disk, and tell whether a write was among them.

        One that has left has a name that another may have by now.
        """
        ours = [error for error in errors if error.disk == self.name and self.hold is not None]
        self.io_errors += len(ours)
        written = not all(error.read_only for error in ours)
        self.write_errors |= written
        return written

    def start_counting(self, counters: Counters | None, now: float) -> None:
        """Begin at zero: what happened to the disk before it was exported is not the host's."""
        self.seen = counters or Counters()
        self.looked_at = self.changed_at = self.written_at = now

    def wants_flush(self, now: float, host_ready: bool) -> bool:
        """Whether it is time to fsync: after an eject at once, else when the host has paused."""
        if self.flush is not None or self.hold is None:
            return False
        if self.life is Life.EJECTING or self.stale:
            return True
        # What it reads meanwhile, as a host that verifies does, puts nothing off.
        quiet = now - self.written_at >= QUIET_S
        return self.life is Life.WRITING and (quiet or not host_ready)

    def start_flush(self) -> Flush:
        """Begin an fsync of a disk that is held. Watch its descriptor, then `end_flush`."""
        assert self.hold is not None
        self.flush = Flush(self.hold.sync_fd)  # If it fails, what is stale remains so.
        self.stale = False
        self.signal(Signal.FLUSH_STARTED)
        return self.flush

    def outdate_flush(self) -> None:
        """Have a flush that is under way followed by another before anything is called flushed.

        The host may have written since it began.
        """
        self.stale |= self.flush is not None

    def end_flush(self, counters: Counters | None, now: float) -> int:
        """Collect the result of the fsync, an errno or 0, and signal it."""
        if self.flush is None:
            return 0
        error, self.flush = self.flush.result(), None
        # What the flush itself wrote must not look like the host writing more.
        self.observe(counters, now)
        if error or self.refused:
            self.stale = False
            # The kernel's log, read before, has counted it, unless it was told to keep silent.
            self.io_errors = max(1, self.io_errors)
            self.write_errors = True
            self.signal(Signal.FLUSH_FAILED)
        elif not self.stale:
            self.signal(Signal.FLUSH_DONE)
        return error

    def release(self) -> None:
        """Let go of the disk. Does no harm the second time."""
        if self.hold is not None:
            self.hold.release()
            self.hold = None

    def to_status(self) -> DiskStatus:
        """Give what consoles and JSON show."""
        return DiskStatus(
            disk=self.verdict.disk,
            lun=self.number,
            reason=self.verdict.reason,
            read_only=self.read_only,
            inquiry=self.inquiry,
            life=self.life,
            read_bytes=self.total.read_bytes,
            written_bytes=self.total.written_bytes,
            rate_bytes_s=self.rate_bytes_s if self.life in MOVING else 0,
            data_lost=self.lost or self.life is Life.FAILED,
        )


_CALM = frozenset((Life.WAITING, Life.IDLE, Life.FLUSHED, Life.EJECTED, Life.GONE, Life.FAILED))


def all_ejected(drives: Sequence[Drive]) -> bool:
    """Tell whether no disk is with the host any more and at least one was ejected, not pulled."""
    lives = {drive.life for drive in drives}
    if any(drive.torn for drive in drives):
        return False
    return Life.EJECTED in lives and lives <= {Life.EJECTED, Life.GONE}
