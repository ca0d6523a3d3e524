"""Events as lines on a serial terminal, beside root's shell and without garbling it.

Who has the terminal decides, each time there is something to say:

- nobody: the lines are written;
- a login prompt: they are written below it, and the prompt stays where it was;
- a shell at its prompt: they take the prompt's line, then SIGWINCH makes the shell draw its
  prompt and the half-typed command again;
- a program: they are held until it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from gadgetd.show import wording
from gadgetd.show.events import Event, Fields
from gadgetd.show.tty import NOBODY, Foreground, Owner, Watch, open_terminal
from gadgetd.status import Life

_CLEAR = b"\r\x1b[K"
"""To the line's begin, and erase it."""


class Uart:
    """Writes events to a serial terminal, and never waits for it.

    It never raises for the terminal's sake: a terminal that is missing is tried again with the
    next event. `next_poll` says when `pump` wants to be called again; while `wants_write`, also
    when poll(2) says that `fileno` can be written to (or reports an error). All times are
    seconds of a monotonic clock. `sequence` numbers the events. Of the two lines of an event,
    `text` is for a person and `json` for a program.
    """

    HELD_MAX = 200
    """Events held back; beyond it the oldest go, and a line says how many."""
    HELD_MAX_BYTES = 64 << 10
    POLL_S = 1.0
    """How often it looks whether the program in the foreground has ended."""
    SHELL_POLL_S = 0.25
    KEY_POLL_S = 0.02
    SHELL_PATIENCE_S = 2.0
    """A shell is between two prompts or keys for a moment, or has no line editor to wait for."""

    def __init__(
        self,
        path: str,
        *,
        proc: Path = Path("/proc"),
        own_group: int | None = None,
        open_fd: Callable[[str], int] = open_terminal,
        write: Callable[[int, bytes], int] = os.write,
        kill: Callable[[int, int], None] = os.kill,
        sequence: Iterator[int] | None = None,
        text: bool = True,
        json: bool = True,
    ) -> None:
        self._path = path
        self._proc = proc
        self._own_group = os.getpgrp() if own_group is None else own_group
        self._open_fd = open_fd
        self._write = write
        self._kill = kill
        self._fd = -1
        self._watch: Watch | None = None
        self._held: deque[tuple[Event, str]] = deque()
        """Each with its record, which lacks its number yet."""
        self._held_bytes = 0
        self._program = False
        """What is held waits for a program to end, and not only for a shell."""
        self._dropped = 0
        self._sequence = sequence or count(1)
        self._text, self._json = text, json
        self._output = b""
        """A batch that is being written."""
        self._redraw_pid = 0
        """The shell that draws its prompt again after the batch."""
        self._retry_at: float | None = None
        self._shell_busy_since: float | None = None

    def post(self, events: list[Event], now: float) -> None:
        """Say these events, now or as soon as the terminal is free."""
        for event in events:
            if event.fields.get("safe") is False:
                # A word that has been taken back before it was said must not be said.
                self._forget(lambda old: old.fields.get("safe") is True)
            if self._program:
                # Whoever looks at that program must not be told then to wait for what is over.
                self._forget(partial(_takes_back, event))
            self._hold(event)
        if events:
            self.pump(now)

    def pump(self, now: float) -> None:
        """Write what can be written."""
        self._retry_at = None
        # A logout hangs the terminal up for everyone; opened again, it is as good as new.
        for _ in range(2):
            try:
                self._pump(now)
            except BlockingIOError:
                return
            except OSError:
                self._drop()
            else:
                return

    def fileno(self) -> int:
        """Give the descriptor to wait for while `wants_write`; -1 if there is none."""
        return self._fd

    @property
    def wants_write(self) -> bool:
        """A batch is on its way out and waits for room in the terminal."""
        return bool(self._output) and self._fd >= 0

    @property
    def pending(self) -> bool:
        """Something is not written yet."""
        return bool(self._output or self._held)

    def next_poll(self, now: float) -> float | None:
        """Give the time at which `pump` may have more luck; None if there is nothing to do."""
        if self._retry_at is None or self.wants_write or not self.pending:
            return None
        return max(self._retry_at, now)

    def close(self) -> None:
        """Let go of the terminal. What it has not taken is lost."""
        if self._fd >= 0 and self._look().owner is Owner.NOBODY:
            # The last close of a serial port waits up to 30 s for a stuck line (closing_wait in
            # setserial(8)). With a session on it, ours is not the last.
            with contextlib.suppress(OSError, termios.error):
                if not _drains(self._fd):
                    termios.tcflush(self._fd, termios.TCOFLUSH)
        self._drop()

    def _hold(self, event: Event) -> None:
        record = self._record(event.text, event.fields)
        self._held.append((event, record))
        self._held_bytes += len(record)
        while len(self._held) > self.HELD_MAX or (
            self._held_bytes > self.HELD_MAX_BYTES and len(self._held) > 1
        ):
            self._held_bytes -= len(self._held.popleft()[1])
            self._dropped += 1

    def _forget(self, over: Callable[[Event], bool]) -> None:
        """Drop the events that are over."""
        self._held = deque(held for held in self._held if not over(held[0]))
        self._held_bytes = sum(len(record) for _, record in self._held)

    def _pump(self, now: float) -> None:
        if not self.pending:
            return
        if self._fd < 0:
            self._fd = self._open_fd(self._path)
            device = os.fstat(self._fd).st_rdev
            self._watch = Watch(device, self._proc, self._own_group)
        self._flush()
        if self._held and self._compose(now):
            self._flush()

    def _flush(self) -> None:
        while self._output:
            count = self._write(self._fd, self._output)
            if count <= 0:
                raise BlockingIOError
            self._output = self._output[count:]
        if self._redraw_pid:
            pid, self._redraw_pid = self._redraw_pid, 0
            # Ignored by whoever does not handle it, so a shell that just left takes no harm.
            with contextlib.suppress(OSError):
                self._kill(pid, signal.SIGWINCH)

    def _look(self) -> Foreground:
        return self._watch.look() if self._watch else NOBODY

    def _compose(self, now: float) -> bool:
        """Make a batch of what is held, if the terminal is free for it."""
        output_flags, local_flags = _modes(self._fd)
        foreground = self._look()
        begin = _CLEAR
        redraw_pid = 0
        if foreground.owner is Owner.PROGRAM:
            self._program = True
            self._retry_at = now + self.POLL_S
            return False
        if foreground.owner is Owner.LOGIN:
            # A login prompt is printed once. Erased it would be missed, and printed by us it
            # would invite a jig to type while getty still throws typed characters away.
            begin = b"\n"
        elif foreground.owner is Owner.SHELL:
            # A line editor reads character by character; a running command finds lines.
            editing = not local_flags & termios.ICANON
            # BusyBox forgets a SIGWINCH that comes while it is not waiting for a key.
            if not (editing and foreground.waits) and self._shell_is_busy(now):
                self._retry_at = now + (self.KEY_POLL_S if editing else self.SHELL_POLL_S)
                return False
            redraw_pid = foreground.pid if editing else 0
        self._shell_busy_since = None
        records = [self._about_dropped()] if self._dropped else []
        for _ in range(self._dropped):
            next(self._sequence)
        # Not before: a gap in the numbers is a loss, and what was forgotten on purpose is none.
        records += [self._numbered(record, next(self._sequence)) for _, record in self._held]
        translates = output_flags & termios.OPOST and output_flags & termios.ONLCR
        output = begin + "".join(records).encode("ascii")
        self._output = output if translates else output.replace(b"\n", b"\r\n")
        self._redraw_pid = redraw_pid
        self._held.clear()
        self._program = False
        self._held_bytes = self._dropped = 0
        return True

    def _record(self, text: str, fields: Fields) -> str:
        """Give an event as its lines, up to where its number belongs."""
        lines = [f"gadgetd: {text}"] if self._text else []
        if self._json:
            lines.append(f"@gadgetd {wording.json_line(fields).removesuffix('}')}")
        return "\n".join(lines)

    def _numbered(self, record: str, number: int) -> str:
        return f'{record},"seq":{number}}}\n' if self._json else f"{record}\n"

    def _about_dropped(self) -> str:
        number = self._dropped
        noun = "event was" if number == 1 else "events were"
        text = f"{number} earlier {noun} dropped, see gadgetd log"
        record = self._record(text, {"event": "dropped", "count": number})
        return record + ("}\n" if self._json else "\n")

    def _shell_is_busy(self, now: float) -> bool:
        if self._shell_busy_since is None:
            self._shell_busy_since = now
        return now < self._shell_busy_since + self.SHELL_PATIENCE_S

    def _drop(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1
        self._redraw_pid = 0


def _subject(event: Event) -> tuple[object, ...]:
    """Give what all events about the same LUN, or of the same kind, have in common."""
    same = ("event", "lun", "name") if event.fields["event"] == "lun" else ("event",)
    return tuple(event.fields[key] for key in same)


def _takes_back(new: Event, old: Event) -> bool:
    """Whether the old event says not to unplug and the new one is about the same subject."""
    if _subject(new) != _subject(old):
        return False
    if old.fields["event"] == "lun":
        return old.fields["life"] in (Life.FLUSHING, Life.EJECTING)
    return old.fields["event"] == "phase" and "do not unplug" in old.text


def _modes(fd: int) -> tuple[int, int]:
    """Give the terminal's output and local flags. Raises OSError if it was hung up."""
    try:
        attributes = termios.tcgetattr(fd)
    except termios.error as error:
        # Not an OSError, though it carries an errno.
        raise OSError(*error.args) from error
    return int(attributes[1]), int(attributes[3])


def _drains(fd: int, tries: int = 10) -> bool:
    """Say whether the line empties within tries * 20 ms: 2 kB at 115200 baud."""
    import fcntl
    import time

    for _ in range(tries):
        waiting = fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0" * 4)
        if not any(waiting):
            return True
        time.sleep(0.02)
    return False
