"""What `make run` refuses, it refuses before anything is built or booted, in words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Never

import pytest

from emulator.__main__ import main
from emulator.options import GIB, MIB, MachineOptions
from emulator.qemu import complaint
from emulator.session import Wishes, table
from emulator.shell import HostBlock

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def no_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Never:
        raise AssertionError("it boots")

    for way in ("attended", "unattended", "on_a_port"):
        monkeypatch.setattr(f"emulator.session.{way}", fail)


def refused(capsys: Capture, *arguments: str) -> str:
    """What a run with these arguments says; it must fail."""
    with pytest.raises(SystemExit) as end:
        sys.exit(main(["run", "--no-terminal", *arguments]))
    said = capsys.readouterr()
    assert end.value.code in (1, 2)
    assert said.out == ""
    assert said.err.startswith("emulator: ")
    return said.err


@pytest.mark.usefixtures("no_boot")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--udcs", "-1"], "--udcs: -1 is no whole number from 0 to 32"),
        (["--udcs", "33"], "--udcs: 33 is no whole number from 0 to 32"),
        (["--ram", "5"], "--ram: 5 is no whole number from 512 to 8192"),
        (["--timeout", "-1"], "--timeout: -1 is no number of seconds from 1 on"),
        (["--timeout", "nan"], "--timeout: nan is no number of seconds from 1 on"),
        (["--udc-delay", "soon"], "--udc-delay: soon is no number of seconds from 0 on"),
        (["--slow", "0"], "0 is no size"),
        (["--sd", "0M"], "0M is no size"),
        (["--sd", "100M"], "its size is a power of two"),
        (["--sd", "1.5G"], "1.5G is neither a size nor an image file"),
        (["--nvme", "17"], "17 NVMe disks are too many"),
        (["--config", "/tmp"], "/tmp is a directory"),
        (["--config", "/nonexistent"], "there is no file /nonexistent"),
        (["--uart-log", "/nonexistent/x"], "there is no directory /nonexistent"),
        (["--screenshot", "/nonexistent/x.png"], "there is no directory /nonexistent"),
        (["--screenshot", "/tmp"], "/tmp is a directory"),
        (["--foo"], "unrecognized arguments: --foo\n  hint: all options: make run ARGS=--help"),
    ],
)
def test_a_value_that_cannot_be_is_refused(
    capsys: Capture, arguments: list[str], sentence: str
) -> None:
    assert sentence in refused(capsys, *arguments)


def test_the_hosts_own_help_is_named(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GADGETD_ARGS", "--bogus")
    with pytest.raises(SystemExit):
        main(["host", "--from-make"])
    assert "all options: make host ARGS=--help" in capsys.readouterr().err


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    block = HostBlock(
        name="sdaa", size_bytes=1_234_567_891_200, logical_block_size=4096, ro=True,
        removable=True, address="0:0:0:7", lun=7, function=1, vendor="V" * 8, model="M" * 16,
        rev="R" * 4, inquiry="", usb_serial="10000000a1b2c3d4", manufacturer="", product="",
        id_vendor="", id_product="", bcd_device="", speed="480", controller="dummy_hcd.0",
    )  # fmt: skip
    lines = table([block]).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "  USB serial number 10000000a1b2c3d4"


@pytest.mark.usefixtures("no_boot")
def test_one_image_for_two_drives_is_refused_whatever_its_names(
    capsys: Capture, tmp_path: Path
) -> None:
    image, link = tmp_path / "a.img", tmp_path / "b.img"
    image.write_bytes(bytes(MIB))
    link.symlink_to(image)
    assert f"{link} is given twice" in refused(capsys, f"--sd={image}", f"--nvme={link}")


@pytest.mark.usefixtures("no_boot")
def test_an_empty_file_is_refused_and_left_as_it_is(capsys: Capture, tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.touch()
    assert "has no bytes" in refused(capsys, f"--nvme={image}")
    assert image.stat().st_size == 0


def test_what_is_asked_for_is_what_boots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    booted: list[tuple[MachineOptions, Wishes]] = []

    def boot(options: MachineOptions, wishes: Wishes) -> int:
        booted.append((options, wishes))
        return 0

    monkeypatch.setattr("emulator.session.unattended", boot)
    image = tmp_path / "a.img"
    image.write_bytes(bytes(MIB))
    words = f"run --no-terminal --sd 512M --nvme 2 --nvme {image} --slow 4M --udcs 0 --disks 0"
    assert main(words.split()) == 0
    options, wishes = booted[0]
    assert options.sd is not None
    assert options.sd.size_bytes == 512 * MIB
    assert [drive.size_bytes for drive in options.nvme] == [GIB, GIB, None]
    assert options.nvme[2].path == image
    assert {drive.write_bytes_per_s for drive in options.nvme} == {4 * MIB}
    assert (options.udcs, wishes.disks) == (0, 0)


def test_qemus_own_words_come_without_its_chatter() -> None:
    said = (
        "char device redirected to /dev/pts/3 (label uart)\n"
        "2026-11-22T22:00:00.5Z qemu-system-aarch64: -drive if=none: Failed to get "
        '"write" lock\nIs another process using the image [a.img]?\n'
    )
    assert complaint(said).splitlines() == [
        '-drive if=none: Failed to get "write" lock',
        "Is another process using the image [a.img]?",
        "  hint: another program, an emulated board perhaps, has the image open",
    ]
    assert complaint("char device redirected to /dev/pts/3 (label uart)\n") == ""
