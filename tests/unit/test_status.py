"""The status in words and as JSON, and what a change of it is called."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gadgetd.disks.disk import Kind
from gadgetd.errors import Problem
from gadgetd.show import wording
from gadgetd.show.events import Event, events
from gadgetd.show.layout import to_text
from gadgetd.status import Board, Controller, DiskStatus, Life, Phase, Status, to_json
from tests.unit.statuses import CM4, HOSTILE, PATIENT, STATUSES, UDC, left_out, nvme, status

# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994_999, "9.99 MB"),
        (9_995_000, "10.0 MB"),
        (31_268_536_320, "31.3 GB"),
        (500_107_862_016, "500 GB"),
        (999_499_999_999, "999 GB"),
        (999_500_000_000, "1.00 TB"),
        (10**18, "1000 PB"),
    ],
)
def test_sizes_are_written_as_disk_makers_write_them(size_bytes: int, words: str) -> None:
    assert wording.size(size_bytes) == words


@given(st.integers(0, 10**17))
def test_a_size_is_short_enough_for_its_column(size_bytes: int) -> None:
    assert len(wording.size(size_bytes)) <= 7


@given(HOSTILE)
def test_plain_text_is_one_printable_line(raw: str) -> None:
    assert all(" " <= character <= "~" for character in wording.plain(raw))


@given(st.text(" ab-", max_size=80), st.integers(1, 30), st.sampled_from(["", "  ", " " * 9]))
def test_wrapping_keeps_every_word_and_the_width(words: str, width: int, indent: str) -> None:
    lines = wording.wrap(words, width, indent)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(words.split())


@given(
    st.dictionaries(
        HOSTILE,
        st.none() | st.booleans() | st.integers() | st.sampled_from(Life) | HOSTILE,
        max_size=6,
    )
)
@example({"x": "\U0001f4be", "y": '\x7f\x00\\"/'})
def test_the_small_json_encoder_agrees_with_the_big_one(
    fields: dict[str, str | int | bool | None],
) -> None:
    line = wording.json_line(fields)
    assert all(" " <= character <= "~" for character in line)
    assert json.loads(line) == json.loads(json.dumps(fields))


@PATIENT
@given(STATUSES, st.integers(1, 200))
def test_status_text_is_printable_and_leaves_no_disk_out(shown: Status, columns: int) -> None:
    lines = to_text(shown, columns).splitlines()
    assert all(len(line) <= columns for line in lines)
    assert "more: gadgetd status" not in to_text(shown, 300)


def test_status_text_tells_each_reason_whole_however_many_disks_there_are() -> None:
    reason = "a reason that is much too long for one line of eighty characters, but is told whole"
    shown = status(*(nvme(number) for number in range(60)), left_out(reason=reason))
    words = " ".join(to_text(shown, 80).split())
    assert reason in words
    assert "nvme59n1" in words


def test_json_has_each_disk_flat_with_the_hosts_view_of_read_only() -> None:
    value = json.loads(json.dumps(to_json(status(nvme(0)._replace(read_only=True), left_out()))))
    row = value["disks"][0]
    assert row["name"] == "nvme0n1"
    assert row["read_only"] is True
    assert row["node"] == "/dev/nvme0n1"
    assert value["disks"][1]["lun"] is None
    assert value["phase"] == "exported"


# --- events ---------------------------------------------------------------------------------


def told(old: Status | None, new: Status) -> list[str]:
    return [str(event.fields["event"]) for event in events(old, new)]


def one(old: Status | None, new: Status) -> Event:
    (event,) = events(old, new)
    return event


@PATIENT
@given(st.none() | STATUSES, STATUSES)
def test_any_change_is_lines_that_programs_can_parse(old: Status | None, new: Status) -> None:
    for event in events(old, new):
        assert event.text
        assert all(" " <= character <= "~" for character in event.text)
        line = wording.json_line(event.fields)
        assert "\n" not in line
        assert json.loads(line)["event"] == event.fields["event"]


@PATIENT
@given(STATUSES)
def test_no_change_is_no_event(same: Status) -> None:
    assert events(same, same) == []


@PATIENT
@given(STATUSES, STATUSES)
def test_safe_to_unplug_is_told_whenever_it_changes_and_only_then(old: Status, new: Status) -> None:
    found = [event for event in events(old, new) if event.fields["event"] == "safe_to_unplug"]
    if old.safe_to_unplug == new.safe_to_unplug:
        assert found == []
    else:
        assert [event.fields["safe"] for event in found] == [new.safe_to_unplug]


def test_the_word_safe_comes_last_and_its_end_comes_first() -> None:
    writing = status(nvme(0)._replace(life=Life.WRITING))
    ejected = status(nvme(0)._replace(life=Life.EJECTED), safe_to_unplug=True)
    assert told(writing, ejected)[-1] == "safe_to_unplug"
    assert told(ejected, writing)[0] == "safe_to_unplug"


def test_the_log_begins_with_version_board_and_serial() -> None:
    first = events(None, status(nvme(0), left_out()))
    assert [event.fields["event"] for event in first] == [
        "started",
        "controller",
        "disk",
        "disk",
        "phase",
        "host",
        "lun",
    ]
    assert first[0].text.startswith("version 0.1.0 on Raspberry Pi Compute Module 4")
    assert first[0].fields["serial"] == CM4.serial


def test_a_disk_says_its_lun_or_why_it_has_none() -> None:
    found, out = events(status(), status(nvme(0, lun=3, life=Life.WAITING), left_out()))
    assert found.text == "disk 3 is nvme0n1 (NVMe BJTD4R, 500 GB)"
    assert found.fields["lun"] == 3
    assert found.fields["size_bytes"] == 500_107_862_016
    assert out.text == "sda (USB BJTD4R, 31.3 GB) left out: mounted on /mnt"
    assert out.fields["lun"] is None
    assert out.fields["reason"] == "mounted on /mnt"


def test_a_disk_that_waits_for_its_lun_is_not_called_left_out() -> None:
    row = left_out("sda", "waits until the host lets go")._replace(waits=True)
    event = one(status(), status(row))
    assert event.text == "sda (USB BJTD4R, 31.3 GB) not exported yet: waits until the host lets go"
    assert event.fields["lun"] is None


def test_a_disk_that_left_the_list_is_told() -> None:
    event = one(status(left_out()), status())
    assert (event.fields["event"], event.fields["name"]) == ("disk_removed", "sda")


def test_progress_alone_is_no_line() -> None:
    row = nvme(0)._replace(life=Life.WRITING)
    later = row._replace(written_bytes=10**9, read_bytes=10**6, rate_bytes_s=10**7)
    assert events(status(row), status(later, message="1 GB so far")) == []


def test_traffic_is_a_line_at_its_begin_and_one_with_the_bytes_at_its_end() -> None:
    idle = nvme(0)
    writing = idle._replace(life=Life.WRITING)
    done = idle._replace(written_bytes=160_000_000, read_bytes=4_200_000)
    assert one(status(idle), status(writing)).text == "disk 0 nvme0n1: host writes"
    end = one(status(writing), status(done))
    assert end.text == "disk 0 nvme0n1: idle; 160 MB written, 4.20 MB read so far"
    assert end.fields["written_bytes"] == 160_000_000
    assert (end.fields["life"], end.fields["previous"]) == ("idle", "writing")


@pytest.mark.parametrize("life", list(Life))
def test_every_life_is_told_by_the_name_it_has_in_status_json(life: Life) -> None:
    row = nvme(0)._replace(life=life)
    previous = Life.IDLE if life is not Life.IDLE else Life.WAITING
    event = one(status(row._replace(life=previous)), status(row))
    assert event.fields["life"] == to_json(status(row))["disks"][0]["life"]


def test_a_disk_that_comes_back_is_told_as_back() -> None:
    gone = nvme(0)._replace(life=Life.GONE)
    event = one(status(gone), status(gone._replace(life=Life.WAITING)))
    assert event.fields["back"] is True
    assert "back" in event.text


def test_another_card_in_the_slot_is_not_the_old_one_that_is_back() -> None:
    gone = nvme(0)._replace(life=Life.GONE)
    other = nvme(0)._replace(disk=nvme(0).disk._replace(serial="another"), life=Life.IDLE)
    found, lun = events(status(gone), status(other))
    assert (found.fields["event"], found.fields["serial"]) == ("disk", "another")
    assert (lun.fields["life"], lun.fields["back"]) == ("idle", False)
    assert "back" not in lun.text


@pytest.mark.parametrize("turned", [False, True])
def test_events_of_a_name_are_of_the_disk_that_has_it_now(turned: bool) -> None:
    gone = nvme(0, lun=0)._replace(life=Life.GONE)
    there = nvme(0, lun=1)._replace(disk=nvme(0).disk._replace(serial="another"))

    def both(row: DiskStatus) -> Status:
        return status(*((row, gone) if turned else (gone, row)))

    event = one(both(there), both(there._replace(life=Life.WRITING)))
    assert (event.fields["lun"], event.fields["life"]) == (1, "writing")
    came = [each.fields for each in events(status(gone), both(there))]
    assert [(each["event"], each["lun"]) for each in came] == [("disk", 1), ("lun", 1)]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("not attached", "attached", "attached"),
        ("not attached", "configured", "configured"),
        ("not attached", "default", "attached"),
        ("default", "addressed", "addressed"),
        ("addressed", "configured", "configured"),
        ("configured", "default", "reset"),
        ("configured", "suspended", "suspended"),
        ("suspended", "configured", "resumed"),
        ("suspended", "not attached", "gone"),
        ("configured", "sideways", "other"),
        ("configured", "speed", "speed"),
    ],
)
def test_each_step_of_the_host_has_a_name(before: str, after: str, change: str) -> None:
    old = status(controller=UDC._replace(state=before))
    assert one(old, status(controller=UDC._replace(state=after))).fields["change"] == change


def test_no_step_of_the_host_says_more_than_the_controller_tells() -> None:
    # What is known of each driver: docs/kernel.md.
    def words(state: str) -> str:
        return one(status(), status(controller=UDC._replace(state=state))).text

    assert words("not attached") == "host gone: cable out, host off, or a reset"
    assert words("default") == "host gone, or it resets the port"
    assert words("suspended") == "suspended: host asleep, or cable out"


def test_a_slower_link_and_a_lost_controller_are_told() -> None:
    slow = one(status(), status(controller=UDC._replace(speed="full-speed")))
    assert (slow.fields["change"], slow.fields["speed"]) == ("speed", "full-speed")
    assert slow.text.endswith("full-speed (12 Mb/s)")
    assert told(status(), status(controller=None)) == ["controller", "host"]


def test_no_host_at_the_start_is_no_event() -> None:
    waiting = status(controller=Controller("udc", "not attached", "UNKNOWN"))
    assert "host" not in told(None, waiting)


def test_waiting_says_for_what_and_exported_says_how_many() -> None:
    waiting = status(phase=Phase.WAITING_FOR_DISKS, message="waiting for a disk at 0000:01:00.0")
    other = waiting._replace(message="waiting for a disk at mmc0")
    assert one(waiting, other).text == "waiting for a disk at mmc0"
    exported = events(other, status(nvme(0), nvme(1)))
    phase = next(event for event in exported if event.fields["event"] == "phase")
    assert (phase.fields["phase"], phase.fields["luns"]) == ("exported", 2)


def test_problems_and_advice_are_told_when_they_begin_and_when_they_end() -> None:
    trouble = Problem("no USB controller", "check dtoverlay=dwc2 in config.txt")
    begun = one(status(), status(problem=trouble))
    assert begun.text == "no USB controller - check dtoverlay=dwc2 in config.txt"
    assert (begun.fields["event"], begun.fields["active"]) == ("problem", True)
    ended = one(status(problem=trouble), status())
    assert ended.text == "over: no USB controller"
    assert ended.fields["active"] is False
    assert told(status(advice=(trouble,)), status()) == ["advice"]
    assert told(status(advice=(trouble,)), status(advice=(trouble._replace(hint="x"),))) == [
        "advice",
        "advice",
    ]


def test_what_is_wrong_now_is_said_after_what_is_over() -> None:
    over, begun = Problem("a slow link"), Problem("no cable")
    told = events(status(advice=(over,)), status(problem=begun))
    assert [event.text for event in told] == ["over: a slow link", "no cable"]


def test_an_advice_that_becomes_the_problem_is_not_called_over() -> None:
    wrong = Problem("unknown key", "correct it")
    told = events(status(advice=(wrong,)), status(problem=wrong))
    assert [(e.text, e.fields["event"], e.fields["active"]) for e in told] == [
        ("goes on: unknown key", "advice", False),
        ("unknown key - correct it", "problem", True),
    ]


def test_reading_is_not_said_to_stand_still() -> None:
    row = nvme(0, life=Life.READING)._replace(read_bytes=16384)
    assert wording.life(row) == "reading, 16.4 kB"
    assert wording.life(row._replace(rate_bytes_s=8192)) == "reading 8.19 kB/s, 16.4 kB"


def test_a_disk_without_a_lun_has_no_life() -> None:
    lives = [row["life"] for row in to_json(status(nvme(0), left_out()))["disks"]]
    assert lives == ["idle", None]


def test_a_configuration_error_has_its_place_in_the_fields() -> None:
    trouble = Problem("bad", "", "/etc/gadgetd.yaml", 3, 5, "led", "text")
    event = one(status(), status(problem=trouble))
    assert event.text == "/etc/gadgetd.yaml:3:5: led: bad; expected text"
    place = [event.fields[name] for name in ("file", "line", "column", "key", "expected")]
    assert place == ["/etc/gadgetd.yaml", 3, 5, "led", "text"]


def test_a_board_that_names_itself_late_is_told_again() -> None:
    assert told(status()._replace(board=Board()), status()) == ["started"]


# --- documentation --------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "uart.md"


@PATIENT
@given(st.none() | STATUSES, STATUSES)
def test_every_event_and_field_is_documented(old: Status | None, new: Status) -> None:
    table = DOCS.read_text().split("## The events")[1].split("\n## ")[0]
    documented = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    shared = documented["problem"]
    for event in events(old, new):
        row = documented[str(event.fields["event"])]
        if "as `problem`" in row:
            row = shared
        for name in event.fields:
            assert name == "event" or f"`{name}`" in row


def test_the_status_shape_and_the_values_are_documented() -> None:
    words = DOCS.read_text()
    value = to_json(status(nvme(0), problem=Problem("x")))
    nested = [value["board"], value["problem"], value["controller"], value["disks"][0]]
    for name in [name for each in [value, *nested] for name in each]:
        assert f"`{name}`" in words
    for member in (*Life, *Phase, *Kind):
        assert f"`{member.value}`" in " ".join(words.split())


def test_the_documented_jig_works_on_what_the_uart_says() -> None:
    code = DOCS.read_text().split("```python\n")[1].split("```")[0]
    shown = [
        None,
        status(nvme(0), left_out()),
        status(nvme(0)._replace(life=Life.EJECTED), left_out(), safe_to_unplug=True),
    ]
    heard = [event for old, new in pairwise(shown) if new for event in events(old, new)]
    output = "".join(
        f"gadgetd: {event.text}\r\n@gadgetd {wording.json_line({**event.fields, 'seq': seq})}\r\n"
        for seq, event in enumerate(heard, 1)
    )
    lines = ["U-Boot\r\n", "@gadgetd {torn\r\n", *output.splitlines(keepends=True)]

    class Port:
        def __enter__(self) -> Port:
            return self

        def __exit__(self, *_: object) -> None: ...

        def readline(self) -> bytes:
            return lines.pop(0).encode()

    names: dict[str, Any] = {}
    serial = ModuleType("serial")
    serial.__dict__["Serial"] = lambda *_: Port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "serial", serial)
        exec(code, names)
        assert names["wait_until_written"]("/dev/ttyUSB0") == (CM4.serial, {"nvme0n1"})
