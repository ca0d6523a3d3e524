"""The USB host's side on its channel: emulator/guest/host, at a terminal in place of a UART."""

import os
import subprocess
import tty
from pathlib import Path

import pytest

from emulator.image import GUEST

LEVELS = {
    "Linux 6.1": "tty/ttyS0",
    "Linux 6.5 and later": "fe215040.serial:0/fe215040.serial:0.0/tty/ttyS0",
}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_a_uart_is_found_by_its_place_in_sysfs(tmp_path: Path, levels: str) -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    node = tmp_path / levels
    node.mkdir(parents=True)
    name = os.ttyname(theirs).removeprefix("/dev/")
    (node / "uevent").write_text(f"MAJOR=4\nMINOR=64\nDEVNAME={name}\n")
    host = subprocess.Popen(["sh", GUEST / "host", tmp_path], stdin=subprocess.DEVNULL)
    try:
        assert os.read(ours, 64) == b"\1ready\n"
    finally:
        host.kill()
        host.wait()
        os.close(ours)
        os.close(theirs)


def test_a_uart_that_is_not_there_yet_is_left_to_the_next_try(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["sh", GUEST / "host", tmp_path], capture_output=True, text=True, check=False, timeout=10
    )
    assert (ended.stdout, ended.stderr) == ("", "")
