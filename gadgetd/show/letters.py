"""Words in block letters, to be read from across a room. Pure.

Only characters that the kernel's fonts have, the large TER16x32 and the plain 8x16 alike: both are
in the order of code page 437, and so is the console's own table of what Unicode they stand for.
Source: lib/fonts/font_ter16x32.c, font_8x16.c; drivers/tty/vt/cp437.uni.
"""

from __future__ import annotations

from collections.abc import Iterable

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
"""Five dots high. Only the letters that a word of sign.py has."""
_DOTS = 5

FULL, UPPER, LOWER = "\u2588", "\u2580", "\u2584"
"""A character's whole cell, its upper half and its lower half."""
_CELLS = {(True, True): FULL, (True, False): UPPER, (False, True): LOWER, (False, False): " "}

ROWS_MIN = 5
"""No letter is lower than so many rows."""


def fit(spellings: Iterable[tuple[str, ...]], columns: int, rows: int) -> list[str]:
    """Give the largest letters that one of the spellings has in this room; [] if none fits.

    A spelling is a word in one line or in several. Where two give letters of the same size, the
    first one does. Each line is centred, and no longer than it must be.
    """
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


def chart(values: tuple[int, ...], width: int) -> str:
    """Draw the last values as a line of bars, none of which touches the line above."""
    shown = values[-width:] if width > 0 else ()
    most = max(shown, default=0)
    return "".join(_bar(value, most) for value in shown)


def _bar(value: int, most: int) -> str:
    if value and value * 2 >= most:
        return LOWER
    return "_" if value else " "
