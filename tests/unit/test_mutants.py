"""What `make mutants` says is right, and what it is told is in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import __main__ as mutants
from tests.mutants.parts import PARTS, SHARED, files_of

CHECKOUT = Path(__file__).parents[2]
SHOWN = """\
# gadgetd.disks.hold.xǁHoldǁrelease__mutmut_3: survived
--- gadgetd/disks/hold.py
+++ gadgetd/disks/hold.py
@@ -1,6 +1,6 @@
 def release(self) -> None:
-        if self.sync_fd >= 0:
+        if self.sync_fd > 0:
             os.close(self._exclusive_fd)
"""
CHANGE = "Hold.release: if self.sync_fd >= 0: => if self.sync_fd > 0:"


def test_each_part_and_each_of_its_files_is_there() -> None:
    for part in PARTS:
        assert (CHECKOUT / "gadgetd" / f"{part}.py").exists(), part
        for name in files_of(part):
            assert (CHECKOUT / name).exists(), name


def test_a_change_is_one_line_without_its_number() -> None:
    assert mutants.change(SHOWN) == CHANGE
    assert mutants.change(SHOWN.replace("xǁHoldǁrelease", "x__hold")).startswith("hold: if")


def test_each_line_of_the_reasons_has_a_reason_and_begins_with_a_part() -> None:
    known = list(mutants.reasons())
    assert known
    for pattern, why in known:
        assert why, f"there is no reason for {pattern.pattern}"
        assert pattern.pattern.split("\\ ")[0] in (*PARTS, ".*"), pattern.pattern


def test_only_what_has_a_reason_counts_as_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "REASONS", tmp_path / "reasons.txt")
    survivor = mutants.Survivor("hold", CHANGE)
    found = mutants.Result(10, 2, (survivor,))
    (tmp_path / "reasons.txt").write_text("# none\n\nexport/plan … => …\n- another part\n")
    assert list(mutants.unexplained("disks/hold", found)) == [survivor]
    assert mutants.row("disks/hold", found) == "| `disks/hold` | 8 | 7 | 88 % | 0 | 1 |"
    (tmp_path / "reasons.txt").write_text(f"disks/hold {CHANGE}\n- no difference\n")
    assert mutants.row("disks/hold", found) == "| `disks/hold` | 8 | 7 | 88 % | 1 | 0 |"
    (tmp_path / "reasons.txt").write_text("disks/hold Hold.release: … => …sync_fd > 0:\n- so\n")
    assert list(mutants.unexplained("disks/hold", found)) == []


def test_a_part_is_tried_with_what_its_tests_are_made_with_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, cache = tmp_path / "checkout", tmp_path / "cache"
    for name in (*mutants.COPIED, *SHARED, "gadgetd/cli.py", *files_of("configfs")):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text("before")
        else:
            path.mkdir(exist_ok=True)
    (checkout / "gadgetd" / "configfs.py").write_text("before")
    monkeypatch.setattr(mutants, "CHECKOUT", checkout)
    monkeypatch.setenv("GADGETD_CACHE", str(cache))
    home = mutants.workspace("configfs")
    shared = SHARED[0]
    assert (home / shared).read_text() == "before"
    (checkout / shared).write_text("now")
    assert (mutants.workspace("configfs") / shared).read_text() == "now"
