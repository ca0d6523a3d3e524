"""Whom the kernel ends when memory runs out. That it does is in tests/vm/test_security.py."""

from __future__ import annotations

from pathlib import Path

from gadgetd import oom


def test_the_score_is_written_where_the_kernel_reads_it(tmp_path: Path) -> None:
    (tmp_path / "oom_score_adj").write_text("0\n")
    oom.set_score(oom.LAST, tmp_path)
    assert (tmp_path / "oom_score_adj").read_text() == "-999"


def test_a_score_that_cannot_be_set_is_no_error(tmp_path: Path) -> None:
    oom.set_score(oom.LAST, tmp_path / "process that has ended")
    assert list(tmp_path.iterdir()) == []
