"""What README and docs/ say is so: modules, commands, links, and the example for a jig."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gadgetd.config.load import parse
from gadgetd.disks.disk import Disk, Found, Kind
from gadgetd.export.choosing import choose
from gadgetd.show import wording
from gadgetd.status import DiskStatus, Life
from tests.unit.sentences import sentences

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
WRITTEN_BY_HAND = [page for page in PAGES if page.name != "benchmarks.md"]
BUILDROOTS_OWN = {"legal-info"}
SIZE_BYTES = 1 << 30
EMULATED = [
    Disk("mmcblk0", Kind.SD, Path("/dev/mmcblk0"), SIZE_BYTES, model="QEMU!", serial="0xdeadbeef"),
    Disk("nvme0n1", Kind.NVME, Path("/dev/nvme0n1"), SIZE_BYTES, serial="nvme-0"),
]
"""The disks of `make run`."""


def test_each_room_stands_in_the_architectures_table() -> None:
    table = (DOCS / "architecture.md").read_text().split("## A disk's way", maxsplit=1)[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([a-z_]+/?)`", row.split("|")[1])]
    inside = [path for path in (CHECKOUT / "gadgetd").iterdir() if not path.name.startswith("__")]
    rooms = {path.stem if path.is_file() else f"{path.name}/" for path in inside}
    assert sorted(named) == sorted(rooms)


def test_what_the_architecture_names_is_there() -> None:
    text = (DOCS / "architecture.md").read_text().split("## A disk's way", maxsplit=1)[1]
    names = set(re.findall(r"`([a-z_]+(?:\.\w+)+)`", text)) - {"gadgetd.yaml"}
    assert len(names) > 30
    for name in names:
        parts = f"gadgetd.{name}".split(".")
        found: object = importlib.import_module("gadgetd")
        for number, part in enumerate(parts[1:], 2):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(".".join(parts[:number]))
            found = getattr(found, part)


# The pictures of benchmarks.md are there once `make bench` has drawn them.
@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_make_knows_each_target_that_is_named(page: Path) -> None:
    makefiles = (CHECKOUT / "Makefile", CHECKOUT / "buildroot-package/image.make")
    phony = re.findall(
        r"^\.PHONY: (.*)$", "\n".join(m.read_text() for m in makefiles), re.MULTILINE
    )
    targets = " ".join(phony).split()
    for target in re.findall(r"(?:^|`)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE):
        assert target in targets or target in BUILDROOTS_OWN


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_first_example_exports_every_disk_of_the_emulated_board(page: str) -> None:
    example = (CHECKOUT / page).read_text().split("```yaml\n")[1].split("```")[0]
    config = parse(example, Path("/etc/gadgetd.yaml"))
    assert all(verdict.exported for verdict in choose([Found(disk) for disk in EMULATED], config))


@pytest.mark.parametrize("page", ["reliability.md", "security.md"])
def test_each_test_that_is_said_to_hold_something_is_there(page: str) -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (DOCS / page).read_text()))
    files = [path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py")]
    there = {name for text in files for name in re.findall(r"def (test_\w+)", text)}
    assert len(named) > 10
    assert sorted(named - there) == []


def test_the_index_names_each_page() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert sorted(name for name in pages if f"]({name})" not in index) == []


def test_each_sentence_about_a_problem_stands_in_trouble_md_and_no_other() -> None:
    rows = [line for line in (DOCS / "trouble.md").read_text().splitlines() if line[:3] == "| `"]
    told = {row[3:].partition("` |")[0] for row in rows} - {"WRITE ERROR"}
    said = sentences()
    assert sorted(said - told) == []  # Say there what it means and what to do.
    assert sorted(told - said) == []  # The code does not say it any more.


def test_the_word_for_lost_data_stands_in_trouble_md() -> None:
    words = wording.life(DiskStatus(EMULATED[0], 0, life=Life.FAILED))
    assert words.startswith("WRITE ERROR")
    assert "`WRITE ERROR`" in (DOCS / "trouble.md").read_text()


# The jig's program in docs/uart.md, on a serial port that says these events

Jig = Callable[[list[Mapping[str, object]]], Any]
STARTED = {"event": "started", "serial": "10000000a1b2c3d4", "seq": 1}
DISK = {"event": "disk", "lun": 0, "name": "mmcblk0", "seq": 2}
LEFT_OUT = {"event": "disk", "lun": None, "name": "sda", "seq": 3}
SAFE = {"event": "safe_to_unplug", "safe": True, "seq": 9}


@pytest.fixture
def jig(monkeypatch: pytest.MonkeyPatch) -> Jig:
    program = (DOCS / "uart.md").read_text().split("```python\n")[1].split("```")[0]

    def wait(events: list[Mapping[str, object]]) -> Any:
        lines = [b"gadgetd: for people\r\n", b"@gadgetd {cut by the ker\r\n"]
        lines += [b"@gadgetd " + json.dumps(event).encode() + b"\r\n" for event in events]

        class Serial:
            def __init__(self, port: str, baud: int) -> None:
                assert (port, baud) == ("/dev/ttyUSB0", 115200)

            def __enter__(self) -> Serial:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def readline(self) -> bytes:
                return lines.pop(0)

        monkeypatch.setitem(sys.modules, "serial", SimpleNamespace(Serial=Serial))
        names: dict[str, Any] = {}
        exec(program, names)  # what is printed in the documentation
        return names["wait_until_written"]("/dev/ttyUSB0")

    return wait


def test_the_documented_jig_names_the_board_and_its_disks(jig: Jig) -> None:
    assert jig([STARTED, DISK, LEFT_OUT, SAFE]) == ("10000000a1b2c3d4", {"mmcblk0"})


def test_the_documented_jig_refuses_a_board_that_had_begun_before(jig: Jig) -> None:
    with pytest.raises(RuntimeError, match="had begun before"):
        jig([SAFE])


def test_the_documented_jig_keeps_the_disks_when_the_board_is_named_late(jig: Jig) -> None:
    nameless = {**STARTED, "serial": ""}
    late = {**STARTED, "seq": 3}
    assert jig([nameless, DISK, late, SAFE]) == ("10000000a1b2c3d4", {"mmcblk0"})


def test_the_documented_jig_forgets_the_disks_of_a_daemon_that_has_ended(jig: Jig) -> None:
    other = {**DISK, "name": "nvme0n1"}
    assert jig([STARTED, DISK, STARTED, other, SAFE]) == ("10000000a1b2c3d4", {"nvme0n1"})


def test_the_documented_jig_takes_no_lost_data_for_written(jig: Jig) -> None:
    lost = {"event": "lun", "life": "write error", "name": "mmcblk0", "seq": 4}
    with pytest.raises(RuntimeError, match="mmcblk0: data lost"):
        jig([STARTED, DISK, lost, SAFE])


def test_the_documented_jig_gives_up_on_a_board_that_cannot_export(jig: Jig) -> None:
    wrong = {"event": "problem", "active": True, "message": "line 3: no", "hint": "mend", "seq": 3}
    with pytest.raises(RuntimeError, match="line 3: no - mend"):
        jig([STARTED, wrong, SAFE])


# make


def make(target: str, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-n", target, f"GADGETD_CACHE={cache}"],
        cwd=CHECKOUT,
        # Not as a part of the make that runs the tests, which says where it is.
        env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_clean_cache_has_nothing_left_of_ours_and_all_that_is_somebody_elses(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    for name in ("apt", "base", "image", "log", "run", "tmp", "venv", "theirs"):
        (cache / name).mkdir(parents=True)
    for name in ("image.lock", "setup.lock"):
        (cache / name).touch()
    # Only the part about the cache: the rest is about this very checkout.
    command = make("clean", cache).stdout.partition("\nrm -rf")[0]
    subprocess.run(["/bin/sh", "-ec", command], check=True, cwd=tmp_path)
    assert [path.name for path in cache.iterdir()] == ["theirs"]


def test_cleaning_where_there_is_no_cache_is_no_error(tmp_path: Path) -> None:
    command = make("clean", tmp_path / "none").stdout.partition("\nrm -rf")[0]
    subprocess.run(["/bin/sh", "-ec", command], check=True, cwd=tmp_path)


def test_testing_an_image_builds_none(tmp_path: Path) -> None:
    assert "image.sh" not in make("image-test", tmp_path).stdout
