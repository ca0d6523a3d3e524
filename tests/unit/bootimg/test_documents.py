"""The commands of docs/bootimg.md and docs/secure-boot.md, run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.bootimg.images import CHECKOUT, rpiboot_folder

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> str:
    """All of a page's commands, less the installation."""
    blocks = BLOCK.findall((CHECKOUT / "docs" / page).read_text())
    kept = [block for block in blocks if "pip install" not in block]
    assert len(blocks) - len(kept) == (page == "bootimg.md")
    return "set -eux\n" + "".join(kept)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder to work in, what `make image` makes where it makes it, and an HSM's program."""
    made = tmp_path / ".cache/gadgetd/image/output/images"
    made.mkdir(parents=True)
    rpiboot_folder(made / "gadgetd")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/gadgetd-bootimg"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m bootimg "$@"\n')
    program.chmod(0o755)
    desk = tmp_path / "desk"
    desk.mkdir()
    sign = 'openssl dgst -hex -sign private.pem -sha256 "$3" | sed "s/.*= //"'
    (desk / "wrapper").write_text(f"#!/bin/sh\n{sign}\n")
    (desk / "wrapper").chmod(0o755)
    return desk


@pytest.mark.parametrize("page", ["bootimg.md", "secure-boot.md"])
def test_every_command_of_a_page_does_what_it_is_there_for(desk: Path, page: str) -> None:
    home = desk.parent
    environment = {**os.environ, "HOME": str(home), "PATH": f"{home}/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", commands(page)],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in desk.iterdir()}
    assert (
        made
        >= {
            "bootimg.md": {"nvme.img", "as-it-was.img", "locked.img", "closed.img", "nvme-only"},
            "secure-boot.md": {"private.pem", "public.pem", "signed", "boot.sig"},
        }[page]
    )
