"""The order in which several processes take the tests, and what a mocked board leaves behind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.unit.mocked_board import MockedBoard
from tests.vm import processes

VM = Path(processes.__file__).parent


def item(path: str, test: str) -> pytest.Item:
    return cast(pytest.Item, SimpleNamespace(nodeid=f"{path}::{test}", path=Path(path)))


def test_each_file_that_is_to_come_early_is_there() -> None:
    assert [name for name in processes.LONGEST_FIRST if not (VM / f"{name}.py").exists()] == []


def test_unit_tests_come_first_and_the_longest_vm_file_next_with_its_tests_together() -> None:
    first, second = processes.LONGEST_FIRST[:2]
    given = [
        item("tests/vm/test_short.py", "a"),
        item(f"tests/vm/{second}.py", "a"),
        item(f"tests/vm/{first}.py", "b"),
        item(f"tests/vm/{first}.py", "a"),
        item("tests/unit/test_it.py", "b"),
        item("tests/unit/test_it.py", "a"),
    ]
    assert [one.nodeid.removeprefix("tests/") for one in processes.longest_first(given)] == [
        "unit/test_it.py::b",
        "unit/test_it.py::a",
        f"vm/{first}.py::b",
        f"vm/{first}.py::a",
        f"vm/{second}.py::a",
        "vm/test_short.py::a",
    ]


def test_a_mocked_board_leaves_nothing_in_the_directory_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory() as top:  # a socket's path is to be short
        monkeypatch.setenv("TMPDIR", top)
        board = MockedBoard()
        assert list(Path(top).glob("umockdev.*"))
        board.close()
        assert list(Path(top).iterdir()) == []
