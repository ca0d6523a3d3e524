"""docs/known-good.md: nothing of the original's is left out without a reason."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
REASONS = tomllib.loads((CHECKOUT / "buildroot-package/known-good/reasons.toml").read_text())
SMALL = {
    "kernel": [{"title": "Network", "reason": "No.", "names": ["NET_*"]}],
    "implied": {"GOV": "CPU"},
}


@pytest.fixture
def known_good(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "buildroot-package"))
    return importlib.import_module("known_good")


def test_the_page_is_what_the_program_makes_and_nothing_is_unexplained() -> None:
    program = CHECKOUT / "buildroot-package/known_good.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == (CHECKOUT / "docs/known-good.md").read_text(), (
        f"run: python3 {program.relative_to(CHECKOUT)} >docs/known-good.md"
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "complaint"),
    [
        ({"NET_A": "m", "USB": "m", "GOV": "y"}, {"USB": "y", "CPU": "y"}, ""),
        (
            {"NET_A": "y", "MMC": "y"},
            {"CPU": "y"},
            "CONFIG_MMC=y of theirs is neither set here nor",
        ),
        ({"NET_A": "y", "MMC": "y"}, {"CPU": "y", "MMC": "n"}, "CONFIG_MMC=y of theirs is neither"),
        (
            {"NET_A": "y", "CMA": "5"},
            {"CPU": "y", "CMA": "64"},
            "CONFIG_CMA=5 of theirs is neither",
        ),
        ({"NET_A": "y"}, {"CPU": "y", "NET_A": "y"}, "NET_A is told twice"),
        ({"USB": "y"}, {"CPU": "y", "USB": "y"}, "NET_* (Network) fits nothing"),
        ({"NET_A": "y", "GOV": "y"}, {}, "GOV is not implied: CPU is not set"),
    ],
)
def test_an_option_is_the_same_or_implied_or_explained_once(
    known_good: Any, theirs: dict[str, str], ours: dict[str, str], complaint: str
) -> None:
    errors = list(known_good.kernel_errors(theirs, ours, SMALL))
    assert [complaint in error for error in errors] == ([True] if complaint else [])


def test_an_option_that_leaves_our_kernel_is_noticed(known_good: Any) -> None:
    ours = known_good.our_kernel()
    del ours["NOP_USB_XCEIV"]
    (error,) = known_good.kernel_errors(known_good.their_kernel(), ours, REASONS)
    assert error.startswith("CONFIG_NOP_USB_XCEIV=y ")


def test_a_line_of_config_txt_that_only_they_have_is_noticed(known_good: Any) -> None:
    theirs = {**REASONS["theirs"], "config64": [*REASONS["theirs"]["config64"], "otg_mode=1"]}
    errors = list(known_good.line_errors({**REASONS, "theirs": theirs}))
    assert len(errors) == len(known_good.IMAGES)
    assert all("otg_mode=1 is neither in the image" in error for error in errors)
