"""Which board it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gadgetd.board import read_board
from gadgetd.status import Board

CPUINFO = """\
processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)

Hardware\t: BCM2835
Revision\t: c03111
Serial\t\t: 10000000a1b2c3d4
Model\t\t: Raspberry Pi 4 Model B Rev 1.1
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "device-tree").mkdir()
    return tmp_path


def test_the_serial_number_is_the_one_of_cpuinfo_as_in_the_original(proc: Path) -> None:
    (proc / "cpuinfo").write_text(CPUINFO)
    (proc / "device-tree" / "serial-number").write_bytes(b"ffffffffffffffff\0")
    assert read_board(proc).serial == "10000000a1b2c3d4"


def test_on_arm64_the_serial_number_is_the_one_of_the_device_tree(proc: Path) -> None:
    (proc / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 108.00\n")
    (proc / "device-tree" / "serial-number").write_bytes(b"10000000a1b2c3d4\0")
    (proc / "device-tree" / "model").write_bytes(b"Raspberry Pi Compute Module 4 Rev 1.1\0")
    board = read_board(proc)
    assert board == Board("Raspberry Pi Compute Module 4 Rev 1.1", "10000000a1b2c3d4")
    assert board.tail == "a1b2c3d4"


def test_a_line_that_only_begins_like_the_serial_number_is_none(proc: Path) -> None:
    (proc / "cpuinfo").write_text("Serial console : ttyS0\nSerial\n")
    assert read_board(proc).serial == ""


def test_a_kernel_that_tells_nothing_is_no_error(tmp_path: Path) -> None:
    assert read_board(tmp_path / "missing") == Board("", "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cpuinfo=st.binary(max_size=80), model=st.binary(max_size=40))
def test_no_bytes_of_the_firmware_are_an_error(proc: Path, cpuinfo: bytes, model: bytes) -> None:
    (proc / "cpuinfo").write_bytes(b"Serial: " + cpuinfo)
    (proc / "device-tree" / "model").write_bytes(model)
    board = read_board(proc)
    assert "\0" not in board.model
    assert "\n" not in board.serial
