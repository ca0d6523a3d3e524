"""Archives of a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootimg import cpio


def test_what_is_left_out_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room/__pycache__").mkdir(parents=True)
    (tmp_path / "room/module.py").write_text("pass\n")
    going = tmp_path / "room/__pycache__/module.cpython-311.pyc.140"
    going.touch()
    rglob = Path.rglob

    def listed(top: Path, pattern: str) -> list[Path]:
        found = list(rglob(top, pattern))
        going.unlink()
        return found

    monkeypatch.setattr(Path, "rglob", listed)
    paths = [entry.path for entry in cpio.tree(tmp_path, without="__pycache__")]
    assert paths == ["room", "room/module.py"]
