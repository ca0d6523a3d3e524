"""What HDMI shows, in any size of screen: the sign, and below it what a person needs. Pure."""

from __future__ import annotations

from gadgetd.frozen import Frozen
from gadgetd.show import letters, wording
from gadgetd.show.disk_table import History, Table
from gadgetd.show.layout import BOLD, PLAIN, Line, repeats, serial_console, troubles
from gadgetd.show.sign import SAFE, sign_of
from gadgetd.status import Life, Status

_MAKER = "Raspberry Pi "
_EJECT = "; eject there before you unplug"

_ALL = 1 << 30
_STEPS = (
    ("", _ALL),
    ("gaps", _ALL),
    # Head, three disks and "... and N more": fewer say too little, so other things go first.
    ("gaps footer", 5),
    ("gaps footer", 1),
    ("gaps footer board link", 1),
)
"""What is given up, and the least lines of a longer table, in this order, until the rest fits."""
_LAST = ("gaps footer board link headline", 0)


def picture(
    status: Status,
    columns: int,
    rows: int,
    history: History = lambda _: (),
    login: str = "",
) -> list[Line]:
    """Give at most `rows` lines of at most `columns` characters: ASCII, and block elements.

    `login` says how to log in on the board.
    Where not all fits, disks are counted instead of listed, then what surrounds them goes, and
    then the block letters. The word, problems and advice are what is cut last.
    """
    columns, rows = max(columns, 1), max(rows, 1)
    page = _Page(status, columns, rows, history, login)
    # The headline says the whole word where the letters do not, so it goes after them.
    for large, steps in ((True, _STEPS), (False, (*_STEPS, _LAST))):
        for dropped, table_min in steps:
            if lines := page.compose(dropped, table_min, large=large):
                return lines
    return (page.word + page.parts.troubles)[:rows]


class _Parts(Frozen):
    """What stands around the table, each part wrapped to the width already."""

    headline: list[Line]
    board: list[Line]
    link: list[Line]
    troubles: list[Line]
    footer: list[Line]


class _Page:
    """A status on a screen of a size."""

    def __init__(
        self, status: Status, columns: int, rows: int, history: History, login: str
    ) -> None:
        self._columns, self._rows = columns, rows
        self._sign = sign = sign_of(status)
        tail = status.board.tail

        def styled(words: str, style: str) -> list[Line]:
            return [(line, style) for line in wording.wrap(wording.plain(words), columns, "  ")]

        # A message that the problem repeats would only take room from it.
        message = "" if repeats(status) else status.message
        if sign is SAFE:
            message = f"{SAFE.word}: {message}".rstrip(": ")
        self.parts = _Parts(
            headline=styled(message, sign.style),
            board=[(wording.clip(_board(status, columns), columns), BOLD)],
            link=styled(_link(status, columns), PLAIN) + styled(serial_console(status), PLAIN),
            troubles=troubles(status, columns),
            footer=styled(f"gadgetd {status.version}{login and '; '}{login}", PLAIN),
        )
        self.word: list[Line] = [
            (line, f"{sign.style};7") for line in wording.wrap(sign.word, columns)
        ]
        self._table = Table(status.disks, tail, columns, history)

    def compose(self, dropped: str, table_min: int, *, large: bool) -> list[Line]:
        """Give the whole page; [] if this is more than there is room for."""
        gone = set(dropped.split())
        gap: list[Line] = [] if "gaps" in gone else [("", PLAIN)]
        parts = self.parts._replace(**{name: [] for name in gone - {"gaps"}})
        below = [parts.headline + parts.board + parts.link, parts.troubles, parts.footer]
        table = len(self._table)
        # A gap above the word and above each part that is there.
        around = sum(len(part) + len(gap) for part in below if part)
        around += len(gap) * (1 + bool(table))
        least = letters.ROWS_MIN if large else len(self.word)
        room = self._rows - around - least
        if room < min(table_min, table):
            return []
        shown = self._table.fit(room)
        word = self._large(self._rows - around - len(shown)) if large else self.word
        if not word:
            return []
        page = gap + word
        for part in (below[0], shown, *below[1:]):
            page += gap + part if part else []
        return page

    def _large(self, room: int) -> list[Line]:
        """Give the word in block letters, no higher than half of the screen."""
        room = min(room, -(-self._rows // 2))
        sign = self._sign
        drawn = letters.fit(sign.spellings, self._columns, room)
        if not drawn and sign.short:
            drawn = letters.fit([(sign.short,)], self._columns, room)
        return [(line, sign.style) for line in drawn]


def _board(status: Status, columns: int) -> str:
    """Give the board's name as the PC shows it, then its model, of which the end matters most."""
    model = status.board.model or "unknown board"
    name = wording.plain(f"{status.board.tail}  {model}".strip())
    return name if len(name) <= columns else name.replace(_MAKER, "")


def _link(status: Status, columns: int) -> str:
    """Say how it stands with the PC; nothing without a controller, which is told of elsewhere."""
    controller = status.controller
    if controller is None:
        return ""
    words = (
        f"PC: {wording.NO_PC if controller.state == 'not attached' else wording.host(controller)}"
    )
    out = (Life.EJECTING, Life.EJECTED, Life.FAILED, Life.GONE)
    has_disks = any(row.lun is not None and row.life not in out for row in status.disks)
    if controller.state == "configured" and has_disks and len(words) + len(_EJECT) <= columns:
        words += _EJECT
    return words
