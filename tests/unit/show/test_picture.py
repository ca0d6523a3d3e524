"""HDMI's picture: what stands on it in each size of screen, and what is cut last."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.errors import Problem
from gadgetd.show import sign
from gadgetd.show.picture import bars, picture
from gadgetd.show.sign import sign_of
from gadgetd.status import Board, Controller, DiskStatus, Life, Phase, Status
from tests.unit.statuses import PATIENT, STATUSES, left_out, nvme, status

FULL_SPEED = Problem("the link is full-speed: writing will be slow", "use another cable")
SIZES = ((40, 15), (80, 25), (120, 33), (240, 67))
BLOCKS = "█▀▄"


def render(shown: Status, columns: int = 80, rows: int = 25) -> list[str]:
    return [line for line, _ in picture(shown, columns, rows)]


def words_of(shown: Status, columns: int = 80, rows: int = 25) -> str:
    return " ".join(" ".join(render(shown, columns, rows)).split())


def letters_in(lines: list[str]) -> int:
    """How many rows the block letters take."""
    return sum(set(line) <= set(BLOCKS + " ") and bool(line.strip()) for line in lines)


def disk(number: int, life: Life = Life.IDLE, *, rate: int = 0, name: str = "") -> DiskStatus:
    inquiry = f"a1b2c3d4 {name or f'NVMe nvme{number}n1'}"
    row = nvme(number, life=life)._replace(inquiry=inquiry, rate_bytes_s=rate)
    return row._replace(written_bytes=1_234_567_890, read_bytes=45_678)


# --- whole pictures -------------------------------------------------------------------------

WRITING = status(
    disk(0, Life.WRITING, rate=12_345_678),
    nvme(1)._replace(inquiry="a1b2c3d4 NVMe nvme1n1"),
    message="2 disks exported",
)
RATES = (1, 5, 9, 9, 4)
LOGIN = "log in on the UART or with Alt+F2: root, no password"


def history(row: DiskStatus) -> tuple[int, ...]:
    return RATES if row.life is Life.WRITING else ()


def test_writing_at_40x15() -> None:
    assert [line for line, _ in picture(WRITING, 40, 15, history, LOGIN)] == [
        "     █   █ ███  █ █████ █ █  █  ███",
        "     █   █ █  █ █   █   █ ██ █ █",
        "     █ █ █ ███  █   █   █ █ ██ █ ██",
        "     █ █ █ █ █  █   █   █ █  █ █  █",
        "      █ █  █  █ █   █   █ █  █  ███",
        "2 disks exported",
        "a1b2c3d4  Compute Module 4 Rev 1.1",
        "PC: connected, high-speed (480 Mb/s)",
        "NVMe nvme0n1  500 GB  BJTD4R",
        "  writing 12.3 MB/s, 1.23 GB written,",
        "  45.7 kB read  _▄▄▄_",
        "NVMe nvme1n1  500 GB  BJTD4R",
        "  idle",
        "gadgetd 0.1.0; log in on the UART or",
        "  with Alt+F2: root, no password",
    ]


def test_writing_at_80x25() -> None:
    assert [line for line, _ in picture(WRITING, 80, 25, history, LOGIN)] == [
        "",
        "          ██      ██  ██████    ██  ██████████  ██  ██    ██    ██████",
        "          ██      ██  ██▀▀▀▀▄▄  ██  ▀▀▀▀██▀▀▀▀  ██  ██▄▄  ██  ▄▄▀▀▀▀▀▀",
        "          ██      ██  ██    ██  ██      ██      ██  ████  ██  ██",
        "          ██  ██  ██  ██████    ██      ██      ██  ██  ████  ██  ████",
        "          ██  ██  ██  ██▀▀██    ██      ██      ██  ██  ▀▀██  ██  ▀▀██",
        "          ██  ██  ██  ██  ██    ██      ██      ██  ██    ██  ██    ██",
        "            ██  ██    ██    ██  ██      ██      ██  ██    ██    ██████",
        "            ▀▀  ▀▀    ▀▀    ▀▀  ▀▀      ▀▀      ▀▀  ▀▀    ▀▀    ▀▀▀▀▀▀",
        "",
        "2 disks exported",
        "a1b2c3d4  Raspberry Pi Compute Module 4 Rev 1.1",
        "PC: connected, high-speed (480 Mb/s); eject there before you unplug",
        "",
        "DISK            SIZE  MODEL   WRITTEN     READ  NOW",
        "NVMe nvme0n1  500 GB  BJTD4R  1.23 GB  45.7 kB  writing 12.3 MB/s  _▄▄▄_",
        "NVMe nvme1n1  500 GB  BJTD4R        -        -  idle",
        "",
        "gadgetd 0.1.0; log in on the UART or with Alt+F2: root, no password",
    ]


def test_safe_to_unplug_at_80x25() -> None:
    shown = status(disk(0, Life.EJECTED), message="1 disk ejected", safe_to_unplug=True)
    assert render(shown)[:15] == [
        "",
        "         ██████    ████    ████████  ████████        ██████████    ████",
        "       ██        ██    ██  ██        ██                  ██      ██    ██",
        "         ████    ████████  ██████    ██████              ██      ██    ██",
        "             ██  ██    ██  ██        ██                  ██      ██    ██",
        "       ██████    ██    ██  ██        ████████            ██        ████",
        "",
        "           ██    ██  ██    ██  ██████    ██        ██    ██    ██████",
        "           ██    ██  ████  ██  ██    ██  ██        ██    ██  ██",
        "           ██    ██  ██  ████  ██████    ██        ██    ██  ██  ████",
        "           ██    ██  ██    ██  ██        ██        ██    ██  ██    ██",
        "             ████    ██    ██  ██        ████████    ████      ██████",
        "",
        "SAFE TO UNPLUG: 1 disk ejected",
        "a1b2c3d4  Raspberry Pi Compute Module 4 Rev 1.1",
    ]


@pytest.mark.parametrize("columns", [50, 80])
@pytest.mark.parametrize("life", [Life.IDLE, Life.FLUSHING, Life.EJECTED, Life.GONE])
def test_a_disk_at_rest_has_no_chart(life: Life, columns: int) -> None:
    page = picture(status(disk(0, life)), columns, 25, lambda _: RATES)
    assert not [line for line, _ in page if "_▄▄▄_" in line]
    page = picture(status(disk(0, Life.READING)), columns, 25, lambda _: RATES)
    assert [line for line, _ in page if "_▄▄▄_" in line]


def test_a_long_model_leaves_room_for_a_chart_and_is_whole_without_one() -> None:
    model = "WDC PC SN740 SDDQNQD-512G"
    rows = [row._replace(disk=row.disk._replace(model=model)) for row in WRITING.disks]
    lines = [line for line, _ in picture(status(*rows), 84, 25, lambda _: ())]
    assert [model in line for line in lines if "nvme" in line] == [True, True]
    lines = [line for line, _ in picture(status(*rows), 84, 25, history)]
    writing, _ = (line for line in lines if "nvme" in line)
    assert "WDC PC SN740 S..." in writing
    assert writing.endswith("_▄▄▄_")
    # Nothing is given up where that would be too little.
    assert picture(status(*rows), 74, 25, history) == picture(status(*rows), 74, 25)


@pytest.mark.parametrize(("columns", "rows", "high"), [(120, 33, 15), (240, 67, 30)])
def test_larger_screens_have_larger_letters(columns: int, rows: int, high: int) -> None:
    lines = render(WRITING, columns, rows)
    assert letters_in(lines) == high
    assert max(map(len, lines)) > columns * 3 // 4
    assert any("writing 12.3 MB/s" in line for line in lines)


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_every_word_stands_in_block_letters_of_its_colour(columns: int, rows: int) -> None:
    for shown, word in (
        (status(disk(0)), sign.READY),
        (status(disk(0, Life.FLUSHING)), sign.FLUSHING),
        (status(disk(0, Life.EJECTED), safe_to_unplug=True), sign.SAFE),
        (status(phase=Phase.CONFIG_ERROR, problem=FULL_SPEED), sign.ERROR),
        (status(disk(0, Life.WAITING), controller=None), sign.NO_HOST),
    ):
        page = picture(shown, columns, rows)
        high = [style for line, style in page if line.strip() and set(line) <= set(BLOCKS + " ")]
        assert len(high) >= 5
        assert set(high) == {word.style}
        assert len({style for _, style in page} - {word.style, "", "1", "1;31"}) == 0


# --- what is cut, and in which order --------------------------------------------------------


@PATIENT
@given(STATUSES, st.integers(1, 200), st.integers(1, 60))
def test_any_status_fits_any_screen_with_characters_that_its_font_has(
    shown: Status, columns: int, rows: int
) -> None:
    lines = render(shown, columns, rows)
    assert len(lines) <= rows
    for line in lines:
        assert len(line) <= columns
        assert all(" " <= character <= "~" or character in BLOCKS for character in line)


@PATIENT
@given(STATUSES)
def test_the_word_stands_on_every_80x25_screen(shown: Status) -> None:
    shown = shown._replace(message="", problem=None, advice=())
    word = sign_of(shown)
    lines = render(shown)
    assert letters_in(lines) >= 5
    if word is sign.SAFE:
        assert any(word.word in line for line in lines)


@pytest.mark.parametrize("count", [1, 10, 32, 100])
@pytest.mark.parametrize("safe", [False, True])
def test_problem_advice_and_the_word_are_never_cut_for_disks(count: int, safe: bool) -> None:
    problem = Problem("x" * 200, "do this")
    shown = status(
        *(nvme(number) for number in range(count)),
        problem=problem,
        advice=(FULL_SPEED,),
        safe_to_unplug=safe,
    )
    for columns, rows in ((80, 25), (80, 12), (40, 25), (240, 67)):
        lines = render(shown, columns, rows)
        joined = "".join(line.strip() for line in lines)
        assert joined.count("x") >= 200
        assert "What to do: do this" in joined
        assert "full-speed" in joined
        assert ("SAFE TO UNPLUG" in joined) is safe
        assert safe or letters_in(lines) >= 5 or "ERROR" in joined


@pytest.mark.parametrize("columns", [5, 12, 20])
def test_a_screen_too_small_for_letters_has_the_word_as_text(columns: int) -> None:
    page = picture(status(nvme(0)), columns, 8)
    assert page[0] == ("READY", f"{sign.READY.style};7")
    assert "READY" in render(status(nvme(0)), 80, 4)[0]


def test_every_one_of_ten_disks_has_its_row_at_80x25() -> None:
    shown = status(*(nvme(number) for number in range(10)), left_out())
    lines = render(shown)
    for number in range(10):
        assert [line for line in lines if re.search(rf"^NVMe nvme{number}n1 +500 GB ", line)]
    text = words_of(shown)
    assert "sda USB 31.3 GB: left out, mounted on /mnt" in text
    waits = left_out("sdb", "waits until the host lets go")._replace(waits=True)
    text = words_of(status(nvme(0), waits))
    assert "sdb USB 31.3 GB: not yet, waits until the host lets go" in text


@pytest.mark.parametrize("safe", [False, True])
def test_thirty_two_disks_are_counted_where_they_do_not_fit(safe: bool) -> None:
    shown = status(*(nvme(number) for number in range(32)), left_out(), safe_to_unplug=safe)
    lines = render(shown)
    rows = [line for line in lines if "nvme" in line]
    more = next(line for line in lines if line.startswith("... and "))
    assert more == f"... and {33 - len(rows)} more: gadgetd status"
    assert len(rows) >= 14
    assert rows[0].split()[:2] == ["NVMe", "nvme0n1"]
    assert letters_in(lines) >= 5
    # With room, all of them.
    assert sum("nvme" in line for line in render(shown, 80, 50)) == 32


def test_exported_disks_come_first_in_lun_order() -> None:
    shown = status(left_out("sdc"), nvme(1), nvme(0), left_out("sdb"))
    names = [word for line in render(shown) for word in line.split()]
    found = [name for name in names if name in ("nvme0n1", "nvme1n1", "sdc", "sdb")]
    assert found == ["nvme0n1", "nvme1n1", "sdc", "sdb"]


@pytest.mark.parametrize("name", ["loop0", "ram15", "zram0", "nullb1"])
def test_a_device_of_the_kernel_s_own_takes_no_room_on_the_screen(name: str) -> None:
    shown = status(nvme(0), left_out("sdb"), left_out(name))
    lines = render(shown)
    assert not [line for line in lines if name in line]
    assert [line for line in lines if "sdb" in line]
    # What is exported is shown, whatever it is.
    odd = nvme(0)._replace(disk=nvme(0).disk._replace(name=name))
    assert [line for line in render(status(odd)) if name in line]


# --- the words ------------------------------------------------------------------------------


def test_board_and_disks_have_the_names_that_the_pc_shows() -> None:
    lines = render(status(disk(0), disk(1, name="backup")))
    assert "a1b2c3d4  Raspberry Pi Compute Module 4 Rev 1.1" in lines
    assert [line for line in lines if line.startswith("NVMe nvme0n1 ")]
    # The board's own commands know it by the kernel's name.
    assert [line for line in lines if line.startswith("backup (nvme1n1) ")]
    nameless = status(disk(0))._replace(board=Board())
    assert "unknown board" in render(nameless)


def test_a_read_only_disk_is_said_to_be_one() -> None:
    lines = render(status(disk(0)._replace(read_only=True), disk(1)))
    assert [("read-only" in line) for line in lines if "nvme" in line] == [True, False]


@pytest.mark.parametrize(
    ("state", "speed", "words"),
    [
        ("not attached", "UNKNOWN", "none: cable out, or PC off"),
        ("configured", "full-speed", "connected, full-speed (12 Mb/s)"),
        ("configured", "super-speed", "connected, super-speed (5 Gb/s)"),
        # A link that may not be there has no speed.
        ("suspended", "high-speed", "suspended: host asleep, or cable out"),
        ("default", "high-speed", "not set up by a host, or no more"),
        ("not attached", "high-speed", "none: cable out, or PC off"),
        ("strange", "", "strange"),
    ],
)
def test_host_state_is_told_in_words(state: str, speed: str, words: str) -> None:
    shown = status(controller=Controller("udc", state, speed))
    assert f"PC: {words}" in render(shown)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (status(disk(0), disk(1, Life.EJECTED)), True),
        (status(disk(0, Life.WRITING)), True),
        (status(disk(0, Life.EJECTED), disk(1, Life.GONE), safe_to_unplug=True), False),
        (status(disk(0, Life.FAILED)), False),
        (status(disk(0, Life.WAITING), controller=Controller("udc", "default")), False),
        (status(left_out(), phase=Phase.WAITING_FOR_DISKS), False),
    ],
)
def test_who_has_disks_is_told_to_eject_them_first(shown: Status, said: bool) -> None:
    assert any("; eject there before you unplug" in line for line in render(shown)) is said
    # It never takes a line of its own.
    assert not any("eject there" in line for line in render(shown, 60))


def test_without_a_controller_nothing_is_said_of_a_pc() -> None:
    shown = status(phase=Phase.STARTING, message="starting", controller=None)
    assert not [line for line in render(shown) if "PC" in line or "controller" in line]


def test_a_configuration_error_names_file_line_column_key_and_what_was_expected() -> None:
    problem = Problem(
        "unknown kind 'nvm'", "correct it", "/etc/gadgetd.yaml", 12, 9, "disks[0].kind", "emmc, sd"
    )
    shown = status(phase=Phase.CONFIG_ERROR, message="nothing is exported", problem=problem)
    text = words_of(shown)
    expected = "/etc/gadgetd.yaml:12:9: disks[0].kind: unknown kind 'nvm'; expected emmc, sd"
    assert expected in text
    # The sentence of ConfigError has it all already; nothing is said twice.
    sentence = problem._replace(message=expected)
    assert words_of(shown._replace(problem=sentence)) == text


def test_an_escape_sequence_in_a_model_shows_as_harmless_characters() -> None:
    row = nvme(0)
    evil = row._replace(disk=row.disk._replace(model="\x1b[2JEvil\x9b5m\nDisk\u2122█"))
    assert "?[2JEvil?5m Disk??" in words_of(status(evil), 120)


@pytest.mark.parametrize("life", list(Life))
@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_what_a_disk_does_is_never_cut(life: Life, columns: int, rows: int) -> None:
    row = disk(0, life, rate=1_500_000)
    row = row._replace(disk=row.disk._replace(model="A model with a very long name indeed"))
    words = {
        Life.WRITING: "writing 1.50 MB/s",
        Life.EJECTING: "ejected, flushing: do not unplug",
        Life.FAILED: "WRITE ERROR, data lost",
        Life.FLUSHING: "flushing: do not unplug",
    }
    text = words_of(status(row._replace(read_only=True)), columns, rows)
    assert words.get(life, "read-only") in text
    assert "read-only" in text


# --- the chart ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ((), 8, ""),
        ((0, 0), 8, "  "),
        ((1, 50, 100, 0, 100), 8, "_▄▄ ▄"),
        ((1, 50, 100, 0, 100), 3, "▄ ▄"),
        ((5, 5, 5), 8, "▄▄▄"),
        ((1, 2), 0, ""),
    ],
)
def test_a_chart_shows_the_last_rates_by_the_highest(
    values: tuple[int, ...], width: int, drawn: str
) -> None:
    assert bars(values, width) == drawn
