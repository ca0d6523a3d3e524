"""The serial console over the cable is announced, as long as it is there."""

from __future__ import annotations

from pathlib import Path

from gadgetd.control.client import from_json
from gadgetd.show.events import events
from gadgetd.show.layout import to_text
from gadgetd.show.picture import picture
from gadgetd.status import to_json
from gadgetd.usb.serial_login import Login
from tests.unit.fakes import FakeLoop
from tests.unit.statuses import nvme, status


def test_it_is_told_when_it_comes_and_when_it_goes() -> None:
    without = status(nvme(0))
    having = without._replace(serial_console="ttyGS0")
    (came,) = events(without, having)
    assert came.fields == {"event": "serial_console", "name": "ttyGS0"}
    assert "log in as root, after Enter" in came.text
    (went,) = events(having, without)
    assert went.fields == {"event": "serial_console", "name": None}
    assert events(having, having) == []


def test_it_stands_on_the_screen_and_in_the_status() -> None:
    having = status(nvme(0))._replace(serial_console="ttyGS0")
    words = "Serial console on the USB cable: log in as root, after Enter (ttyGS0 here"
    screen = " ".join(line for line, _ in picture(having, 80, 25))
    assert words in " ".join(screen.split())
    assert words in " ".join(to_text(having).split())
    assert "Serial console" not in to_text(status(nvme(0)))
    assert from_json(to_json(having)) == having


def test_a_login_has_a_terminal_only_while_it_is_wanted_and_the_gadget_has_one(
    tmp_path: Path,
) -> None:
    tty = tmp_path / "ttyGS0"
    login = Login(FakeLoop(), (str(tmp_path / "no-getty"),), tmp_path, tty)
    assert login.tty == ""
    login.keep(wanted=True)
    assert login.tty == ""
    tty.touch()
    assert login.tty == "ttyGS0"
    login.keep(wanted=False)
    assert login.tty == ""
