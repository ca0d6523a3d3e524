"""`make run` without a terminal: it ends by itself, whatever the configuration has the UART say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.vm.board import BOOT_S

pytestmark = pytest.mark.emulated


@pytest.mark.parametrize("uart", ["uart_lines: text", "uart: none"])
def test_a_board_without_a_disk_is_a_result_of_its_own(tmp_path: Path, uart: str) -> None:
    config = tmp_path / "gadgetd.yaml"
    config.write_text(f"consoles: {{{uart}}}\n")
    options = ["--no-terminal", "--sd", "none", "--nvme", "none", "--config", f"{config}"]
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "run", *options, "--timeout", f"{BOOT_S}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * BOOT_S,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("  no disk\n")
