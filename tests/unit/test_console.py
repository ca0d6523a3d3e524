"""Which terminals are used, and what each of them gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gadgetd.config.settings import UartLines
from gadgetd.console import Console, hdmi_device, uart_device
from gadgetd.show.events import events
from tests.unit.statuses import nvme, status


def active(tmp_path: Path, names: str) -> Path:
    (tmp_path / "console").mkdir(exist_ok=True)
    (tmp_path / "console" / "active").write_text(names)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "device"),
    [
        ("tty1 ttyAMA0\n", "/dev/ttyAMA0"),
        ("ttyS0 tty0\n", "/dev/ttyS0"),
        ("hvc0 ttyAMA0 tty1\n", "/dev/ttyAMA0"),
        ("tty0\n", None),
        ("ttynull\n", None),
        ("\n", None),
        ("../../sda\n", None),
    ],
)
def test_the_uart_is_the_last_console_that_is_not_virtual(
    tmp_path: Path, names: str, device: str | None
) -> None:
    found = uart_device("auto", active(tmp_path, names))
    assert found == (Path(device) if device else None)


def test_the_configuration_can_name_the_uart_or_switch_it_off(tmp_path: Path) -> None:
    sys_class_tty = active(tmp_path, "tty1 ttyAMA0")
    assert uart_device("/dev/ttyUSB0", sys_class_tty) == Path("/dev/ttyUSB0")
    assert uart_device("none", sys_class_tty) is None
    assert uart_device("/dev/console", sys_class_tty) == Path("/dev/ttyAMA0")
    assert uart_device("auto", tmp_path / "missing") is None
    assert hdmi_device() == Path("/dev/tty1")
    assert hdmi_device("none") is None


def test_a_board_without_any_console_is_no_error(tmp_path: Path) -> None:
    console, advice = Console.open(sys_class_tty=tmp_path, dev=tmp_path)
    assert advice == ()
    console.show(status(nvme(0)), events(None, status(nvme(0))), 0.0)
    console.tick(1.0)
    assert console.next_call(1.0) is None
    assert console.fileno() == -1
    assert not console.wants_write
    console.close()


def test_a_named_terminal_that_is_none_is_told(tmp_path: Path) -> None:
    _, advice = Console.open(str(tmp_path), "none", sys_class_tty=tmp_path, dev=tmp_path)
    assert [str(tmp_path) in each.message for each in advice] == [True]


def test_one_terminal_for_both_gets_the_lines_and_no_screen(
    tmp_path: Path, pty: tuple[int, str]
) -> None:
    far, path = pty
    link = tmp_path / "serial0"
    link.symlink_to(path)
    console, advice = Console.open(str(link), path, sys_class_tty=tmp_path)
    assert len(advice) == 1
    console.show(status(nvme(0)), events(None, status(nvme(0))), 0.0)
    drawn = os.read(far, 65536)
    assert b"@gadgetd {" in drawn
    assert b"\x1b[?25l" not in drawn
    console.close()


@pytest.mark.parametrize(("lines", "forms"), [("both", 2), ("text", 1), ("json", 1)])
def test_the_uart_gets_the_lines_that_the_configuration_names(
    tmp_path: Path, pty: tuple[int, str], lines: str, forms: int
) -> None:
    far, path = pty
    console, _ = Console.open("none", path, UartLines(lines), sys_class_tty=tmp_path)
    console.show(status(nvme(0)), events(None, status(nvme(0))), 0.0)
    said = os.read(far, 65536).removeprefix(b"\r\x1b[K")
    assert len({line.split()[0] for line in said.splitlines()}) == forms
    assert (b"gadgetd: " in said, b"@gadgetd {" in said) == (lines != "json", lines != "text")
    console.close()
