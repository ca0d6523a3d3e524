"""The pictures of HDMI in the documentation: when one is taken, how it is kept, none left out."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from emulator.errors import EmulatorError
from emulator.pictures import COLOURS, SCREENS, STEPS, has_letters, png
from gadgetd.show import sign
from gadgetd.show.sign import Sign

PALETTE = {
    "1;31": "ff5555", "1;32": "55ff55", "1;33": "ffff55", "1;34": "5555ff", "1;35": "ff55ff",
    "1;36": "55ffff", "1;37": "ffffff", "33": "aa5500", "36": "00aaaa", "37": "aaaaaa",
}  # fmt: skip
"""The console's colours. Source: drivers/tty/vt/vt.c, default_red, default_grn, default_blu."""
WORDS = {
    each.word.lower().replace(" ", "-"): each
    for each in vars(sign).values()
    if isinstance(each, Sign)
}
FOLDER = Path(__file__).parents[2] / "docs/hdmi"
CYAN, BLACK = bytes.fromhex("55ffff"), bytes(3)


def drawn(lines: list[str], width: int = 1280, height: int = 800) -> bytes:
    """The picture of a text: a full cell is cyan, all else is black."""
    rows = bytearray()
    for line in [*lines, *[""] * (height // 32)][: height // 32]:
        row = b"".join((CYAN if c == sign.FULL else BLACK) * 16 for c in line.ljust(width // 16))
        rows += row * 32
    rows += BLACK * width * (height % 32)
    return f"P6\n{width} {height}\n255\n".encode() + rows


def test_a_picture_is_taken_of_each_word_by_its_own_colour() -> None:
    told = {name: PALETTE[word.style] for name, word in WORDS.items()}
    assert {**told, "health": PALETTE[sign.READY.style]} == COLOURS
    assert sorted([*(step.picture for step in STEPS), "suspended"]) == sorted(COLOURS)
    # By its colour a word is told from the one before, or else by what is written there.
    alike = [
        (one.picture, other.picture)
        for one, other in pairwise(STEPS)
        if COLOURS[one.picture] == COLOURS[other.picture] and not other.text
    ]
    assert alike == []


def test_the_documentation_has_them_all_and_they_are_small() -> None:
    names = {f"{name}-{width}x{height}.png" for name in COLOURS for width, height in SCREENS}
    assert {path.name for path in FOLDER.iterdir()} == names
    page = (FOLDER.parent / "hdmi.md").read_text()
    assert [name for name in COLOURS if f"](hdmi/{name}-1280x800.png)" not in page] == []
    assert [path.name for path in FOLDER.iterdir() if path.stat().st_size > 12_000] == []


@pytest.mark.parametrize("word", WORDS.values(), ids=lambda word: word.word)
@pytest.mark.parametrize(("columns", "rows"), [(80, 25), (120, 33)])
def test_a_word_is_told_from_text_and_from_charts(word: Sign, columns: int, rows: int) -> None:
    # As picture.py has it: at most half of the screen, and five rows beside much advice.
    for room in (5, rows // 2):
        lines = sign.letters(word.spellings, columns, room) or sign.letters(
            [(word.short,)], columns, room
        )
        screen = drawn(lines, columns * 16, rows * 32)
        assert has_letters(screen, CYAN)
        assert not has_letters(screen, bytes.fromhex("aaaaaa"))
    chart = sign.FULL * 30
    assert not has_letters(drawn([chart]), CYAN)


def unpacked(kept: bytes) -> bytes:
    """The pixels of a PNG by a palette, three bytes each, as a viewer would have them."""
    chunks: dict[bytes, bytes] = {}
    rest = kept.removeprefix(b"\x89PNG\r\n\x1a\n")
    while rest:
        size = int.from_bytes(rest[:4], "big")
        chunks[rest[4:8]] = rest[8 : 8 + size]
        assert rest[8 + size : 12 + size] == zlib.crc32(rest[4 : 8 + size]).to_bytes(4, "big")
        rest = rest[12 + size :]
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    bits, kind = chunks[b"IHDR"][8:10]
    assert kind == 3
    lines = zlib.decompress(chunks[b"IDAT"])
    row = 1 + width * bits // 8
    assert len(lines) == row * height
    pixels = bytearray()
    for start in range(0, len(lines), row):
        assert lines[start] == 0
        for byte in lines[start + 1 : start + row]:
            for shift in range(8 - bits, -1, -bits):
                number = byte >> shift & (1 << bits) - 1
                pixels += chunks[b"PLTE"][3 * number : 3 * number + 3]
    return bytes(pixels)


def test_what_is_kept_is_the_same_picture_and_small() -> None:
    picture = drawn(sign.letters([("READY",)], 80, 10))
    kept = png(picture)
    assert unpacked(kept) == picture.split(b"\n", 3)[3]
    assert len(kept) < 3000


@pytest.mark.parametrize("colours", [2, 3, 4, 5, 16])
def test_each_number_of_colours_is_kept(colours: int) -> None:
    pixels = b"".join(bytes((number % colours, 9, 255)) for number in range(16))
    assert unpacked(png(b"P6\n8 2\n255\n" + pixels)) == pixels


def test_a_picture_with_more_colours_than_a_console_has_is_refused() -> None:
    many = b"".join(bytes((number, 0, 0)) for number in range(18))
    with pytest.raises(EmulatorError, match="18 colours"):
        png(b"P6\n18 1\n255\n" + many)
