"""Fixtures of all unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.fakes import Bench

# How long an example takes says something about the machine and nothing about the code.
settings.register_profile("gadgetd", deadline=None)
settings.load_profile("gadgetd")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give a board on a bench: one controller, a host on its cable, no disk yet."""
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.close()
