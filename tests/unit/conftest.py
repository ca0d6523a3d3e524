"""Fixtures of all unit tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.unit.fakes import Bench

# How long an example takes says something about the machine and nothing about the code.
settings.register_profile("gadgetd", deadline=None)
# Whether a test fails is all that `make mutants` asks, and not what the smallest example is.
settings.register_profile(
    "mutants", deadline=None, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("gadgetd")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Give a board on a bench: one controller, a host on its cable, no disk yet."""
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    """The far end of a real terminal, and the near end's path."""
    far, near = os.openpty()
    os.set_blocking(far, False)
    yield far, os.ttyname(near)
    os.close(near)
    os.close(far)
