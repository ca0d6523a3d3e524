"""How the board stands, in one word in block letters: what a person reads from across the room."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from gadgetd.config.settings import is_lock
from gadgetd.frozen import Frozen
from gadgetd.status import Life, Phase, Status


class Sign(Frozen):
    """A word and its colour (SGR). Words differ by more than the colour, which not all can see."""

    word: str
    style: str
    broken: tuple[str, ...] = ()
    """The word in several lines, for larger letters."""
    short: str = ""
    """What is written large where the whole word has no room; the text says it whole."""

    @property
    def spellings(self) -> tuple[tuple[str, ...], ...]:
        """Each way to write all of it."""
        return ((self.word,), self.broken) if self.broken else ((self.word,),)


STARTING = Sign("STARTING", "37")
WAITING = Sign("WAITING", "37")
"""There is no disk to export, or it is still on its way."""
NO_HOST = Sign("NO HOST", "1;34", ("NO", "HOST"))
"""No cable and no PC look the same to the board."""
SUSPENDED = Sign("SUSPENDED", "1;34")
"""The PC sleeps, or the cable is out."""
READY = Sign("READY", "1;36")
READING = Sign("READING", "36")
WRITING = Sign("WRITING", "1;33")
FLUSHING = Sign("FLUSHING", "1;35")
EJECTED = Sign("EJECTED", "1;37")
"""Every disk is out of its LUN, and whether all that the host had written is on it is not known."""
SAFE = Sign("SAFE TO UNPLUG", "1;32", ("SAFE TO", "UNPLUG"), "SAFE")
STOPPED = Sign("STOPPED", "1;37")
LOCKED = Sign("LOCKED", "33")
"""This board is not one of those that the configuration names."""
ERROR = Sign("ERROR", "1;31")

_BUSY = (Life.WRITING, Life.FLUSHING, Life.EJECTING)


def sign_of(status: Status) -> Sign:
    """Give the word for a status, and none that says more than it knows."""
    lives = {row.life for row in status.disks if row.lun is not None} - {Life.GONE}
    if status.phase is Phase.CONFIG_ERROR:
        return LOCKED if is_lock(status.problem) else ERROR
    lost = any(row.data_lost for row in status.disks)  # Also by one that has left since.
    if status.phase is Phase.FAILED or Life.FAILED in lives or lost:
        return ERROR
    if status.safe_to_unplug:
        return SAFE
    if status.problem is not None:
        return ERROR
    if status.phase is Phase.STOPPED:
        # The disks keep their LUNs until each of them is flushed.
        return FLUSHING if lives else STOPPED
    if lives.intersection(_BUSY):
        return WRITING if Life.WRITING in lives else FLUSHING
    if status.phase in (Phase.STARTING, Phase.WAITING_FOR_UDC):
        return STARTING
    if status.phase is Phase.WAITING_FOR_DISKS or not lives:
        return WAITING
    return _exported(status, lives)


def _exported(status: Status, lives: set[Life]) -> Sign:
    state = status.controller.state if status.controller else ""
    if lives == {Life.EJECTED}:
        return EJECTED
    if state == "suspended":
        return SUSPENDED
    if state != "configured":
        return NO_HOST
    return READING if Life.READING in lives else READY


_SHAPES = {
    " ": ("  ",) * 5,
    "A": (" ## ", "#  #", "####", "#  #", "#  #"),
    "C": (" ###", "#   ", "#   ", "#   ", " ###"),
    "D": ("### ", "#  #", "#  #", "#  #", "### "),
    "E": ("####", "#   ", "### ", "#   ", "####"),
    "F": ("####", "#   ", "### ", "#   ", "#   "),
    "G": (" ###", "#   ", "# ##", "#  #", " ###"),
    "H": ("#  #", "#  #", "####", "#  #", "#  #"),
    "I": ("#",) * 5,
    "J": ("   #", "   #", "   #", "#  #", " ## "),
    "K": ("#  #", "# # ", "##  ", "# # ", "#  #"),
    "L": ("#   ", "#   ", "#   ", "#   ", "####"),
    "N": ("#  #", "## #", "# ##", "#  #", "#  #"),
    "O": (" ## ", "#  #", "#  #", "#  #", " ## "),
    "P": ("### ", "#  #", "### ", "#   ", "#   "),
    "R": ("### ", "#  #", "### ", "# # ", "#  #"),
    "S": (" ###", "#   ", " ## ", "   #", "### "),
    "T": ("#####", "  #  ", "  #  ", "  #  ", "  #  "),
    "U": ("#  #", "#  #", "#  #", "#  #", " ## "),
    "W": ("#   #", "#   #", "# # #", "# # #", " # # "),
    "Y": ("#   #", " # # ", "  #  ", "  #  ", "  #  "),
}
"""Five dots high. Only the letters that one of the words has.

They are drawn with characters that the kernel's fonts have, the large TER16x32 and the plain 8x16
alike: both are in the order of code page 437, and so is the console's own table of what Unicode
they stand for. Source: lib/fonts/font_ter16x32.c, font_8x16.c; drivers/tty/vt/cp437.uni.
"""
_DOTS = 5

FULL, UPPER, LOWER = "\u2588", "\u2580", "\u2584"
"""A character's whole cell, its upper half and its lower half."""
_CELLS = {(True, True): FULL, (True, False): UPPER, (False, True): LOWER, (False, False): " "}

ROWS_MIN = 5
"""No letter is lower than so many rows."""


def letters(spellings: Iterable[tuple[str, ...]], columns: int, rows: int) -> list[str]:
    """Give the largest letters that one of the spellings has in this room; [] if none fits.

    A spelling is a word in one line or in several. Where two give letters of the same size, the
    first one does. Each line is centred, and no longer than it must be.
    """
    return list(_letters(tuple(spellings), columns, rows))


@lru_cache(maxsize=2)
def _letters(spellings: tuple[tuple[str, ...], ...], columns: int, rows: int) -> list[str]:
    # Kept, since the word stands for long while numbers beside it move.
    best = 0
    largest: tuple[tuple[str, ...], int, int] = ((), 0, 0)
    for lines in spellings:
        for height in range(rows * 2 // _DOTS, 1, -1):
            each = -(-_DOTS * height // 2)
            if each * len(lines) + len(lines) - 1 > rows:
                continue
            # A cell is twice as high as wide: letters are square, or up to half as high again.
            width = min(columns // max(map(_width, lines)), height)
            if width * height > best and height <= max(2, width + width // 2):
                best, largest = width * height, (lines, width, height)
    return _draw(*largest, columns)


def _width(text: str) -> int:
    return sum(len(_SHAPES[letter][0]) + 1 for letter in text) - 1


def _draw(lines: tuple[str, ...], width: int, height: int, columns: int) -> list[str]:
    """Draw with dots of `width` columns and `height` half rows."""
    drawn: list[str] = []
    for text in lines:
        if drawn:
            drawn.append("")
        dots = [" ".join(_SHAPES[letter][row] for letter in text) for row in range(_DOTS)]
        halves = [row for row in dots for _ in range(height)]
        if len(halves) % 2:
            halves.append(" " * len(halves[0]))
        margin = " " * ((columns - len(halves[0]) * width) // 2)
        rows: dict[tuple[str, str], str] = {}  # High letters have many that are the same.
        for pair in zip(halves[::2], halves[1::2], strict=True):
            if pair not in rows:
                cells = (_CELLS[a == "#", b == "#"] * width for a, b in zip(*pair, strict=True))
                rows[pair] = (margin + "".join(cells)).rstrip()
            drawn.append(rows[pair])
    return drawn
