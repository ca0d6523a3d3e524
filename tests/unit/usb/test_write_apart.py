"""Attributes that wait for a command of the host are written beside the loop."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

import pytest

from gadgetd.configfs import ConfigFs
from gadgetd.errors import GadgetError
from gadgetd.usb.kernelfs import Kernel
from gadgetd.usb.steps import explain
from tests.unit.fakes import open_fds


@pytest.fixture
def lun(tmp_path: Path) -> Path:
    """Give a LUN whose `file` takes no write until somebody reads: a FIFO is the busy thread."""
    path = tmp_path / "usb_gadget" / "gadgetd" / "functions" / "mass_storage.0" / "lun.0"
    path.mkdir(parents=True)
    os.mkfifo(path / "file")
    (path / "ro").write_text("0\n")
    (path / "inquiry_string").write_text("x\n")
    return path


def test_an_answer_that_is_there_is_given(lun: Path) -> None:
    Kernel().write_apart(lun / "ro", "1")
    assert (lun / "ro").read_text() == "1\n"
    with pytest.raises(IsADirectoryError):
        Kernel().write_apart(lun, "1")


def test_nothing_waits_for_one_that_is_not_there_nor_behind_it(lun: Path) -> None:
    before, kernel = open_fds(), Kernel()
    with pytest.raises(TimeoutError):
        kernel.write_apart(lun / "file", "x", 0.05)
    for ask in (
        lambda: kernel.read(lun / "file"),
        lambda: kernel.read(lun / "ro"),
        lambda: kernel.write(lun / "file", "y"),
        lambda: kernel.write_apart(lun / "file", "y"),
    ):
        with pytest.raises(TimeoutError):
            ask()
    assert kernel.read(lun / "inquiry_string") == "x\n"
    # It is over, and so is the waiting.
    assert (lun / "file").read_text() == "x"
    assert kernel._under_way[lun.parent][0].child.over(5)
    assert kernel.read(lun / "ro") == "0\n"
    assert open_fds() == before


def test_a_forced_eject_is_begun_behind_whatever_is_under_way(lun: Path) -> None:
    before, kernel = open_fds(), Kernel()
    os.mkfifo(lun / "forced_eject")
    for name in ("file", "forced_eject"):
        with pytest.raises(TimeoutError):
            kernel.write_apart(lun / name, "1", 0.05)
    assert len(kernel._under_way[lun.parent]) == 2
    assert (lun / "file").read_text() == "1"
    with pytest.raises(TimeoutError):
        kernel.read(lun / "ro")
    assert (lun / "forced_eject").read_text() == "1"
    assert all(each.child.over(5) for each in kernel._under_way[lun.parent])
    assert kernel.read(lun / "ro") == "0\n"
    assert open_fds() == before


@pytest.mark.parametrize("name", ["file", "forced_eject", "ro", "cdrom"])
def test_what_does_not_answer_is_told_in_words(name: str) -> None:
    error = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    step = f"write functions/mass_storage.0/lun.0/{name}"
    assert explain(step, error)[0] == "the disk does not answer"
    assert explain("read functions/mass_storage.0/lun.0", error)[0] == "the disk does not answer"


def test_a_gadget_that_does_not_answer_is_no_gadget_that_is_not_there(lun: Path) -> None:
    kernel = Kernel()
    fs = ConfigFs(lun.parents[4], kernel)
    with pytest.raises(GadgetError, match="the disk does not answer"):
        fs.is_locked("gadgetd", 0)
    with pytest.raises(GadgetError, match="the disk does not answer"):
        fs.lun_file("gadgetd", 0)
    assert (lun / "file").read_text()
    assert kernel._under_way[lun.parent][0].child.over(5)
    kernel.read(lun / "ro")


def test_what_is_asked_for_twice_is_begun_once(lun: Path) -> None:
    before, kernel = open_fds(), Kernel()
    os.mkfifo(lun / "forced_eject")
    for _ in range(2):
        with pytest.raises(TimeoutError):
            kernel.write_apart(lun / "forced_eject", "1", 0.05)
    assert len(kernel._under_way[lun.parent]) == 1
    assert (lun / "forced_eject").read_text() == "1"
    assert kernel._under_way[lun.parent][0].child.over(5)
    assert kernel.under_way == frozenset()
    assert open_fds() == before


def test_the_end_of_a_write_can_be_waited_for_though_it_has_been_noticed(lun: Path) -> None:
    kernel, late = Kernel(), list[int]()
    kernel.late = lambda fd: late.append(os.dup(fd))
    with pytest.raises(TimeoutError):
        kernel.write_apart(lun / "file", "x", 0.05)
    poll = select.poll()
    poll.register(late[0], select.POLLIN)
    assert poll.poll(0) == []
    assert (lun / "file").read_text() == "x"
    assert poll.poll(5000)
    assert kernel.under_way == frozenset()
    assert poll.poll(0)
    os.close(late[0])


def test_an_unbind_that_goes_on_keeps_from_the_whole_gadget(lun: Path) -> None:
    kernel, gadget = Kernel(), lun.parents[2]
    os.mkfifo(gadget / "UDC")
    with pytest.raises(TimeoutError):
        kernel.write_apart(gadget / "UDC", "\n", 0.05)
    for ask in (
        lambda: kernel.read(gadget / "UDC"),
        lambda: kernel.write(gadget / "UDC", "x"),
        lambda: kernel.mkdir(gadget / "functions" / "mass_storage.1"),
        lambda: kernel.rmdir(lun),
        lambda: kernel.symlink(lun.parent, gadget / "configs"),
        lambda: kernel.unlink(gadget / "configs"),
        lambda: kernel.read_apart(gadget, [lun / "ro"]),
    ):
        with pytest.raises(TimeoutError):
            ask()
    assert kernel.read(lun / "inquiry_string") == "x\n"
    # Another gadget does not wait.
    kernel.mkdir(gadget.parent / "other")
    assert (gadget / "UDC").read_text() == "\n"
    assert kernel._under_way[gadget][0].child.over(5)
    kernel.mkdir(gadget / "functions" / "mass_storage.1")


def test_a_write_that_somebody_else_began_is_noticed(lun: Path) -> None:
    before, kernel = open_fds(), Kernel()
    gadget = lun.parents[2]
    kernel.read_apart(gadget, [lun / "ro", lun / "is_not_there"])
    with pytest.raises(TimeoutError):
        kernel.read_apart(gadget, [lun / "file"], 0.05)
    with pytest.raises(TimeoutError):
        kernel.read(lun / "ro")
    (lun / "file").write_text("x")
    assert kernel._under_way[gadget][0].child.over(5)
    assert kernel.read(lun / "ro") == "0\n"
    assert open_fds() == before
