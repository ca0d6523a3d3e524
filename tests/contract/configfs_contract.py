"""What gadgetd relies on in configfs, and what configfs.py makes of it.

Each promise is a function of a Bench. The unit tests keep them on the fake; on a board with a real
kernel this file runs by itself, with nothing but Python's standard library and gadgetd:

    modprobe -a libcomposite usb_f_mass_storage usb_f_acm dummy_hcd null_blk
    python3 -m tests.contract.configfs_contract --disk /dev/nullb0 --disk /dev/nullb1 \
        --udc dummy_udc.0 --udc dummy_udc.1 --empty /dev/loop0

It prints `ok NAME`, `skip NAME: WHY` or `FAIL NAME: WHY` for each and ends with status 1 if any
failed. Disks are opened, never written. Gadgets that exist already are left alone, but a
controller that is given must be free. What is about the USB host needs one on the same machine, as
behind a dummy_udc.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from gadgetd.configfs import ROOT, ConfigFs
from gadgetd.errors import GadgetError
from gadgetd.usb.gadget import LUNS_PER_FUNCTION, Function, Gadget, Lun, deal
from gadgetd.usb.kernelfs import Kernel
from gadgetd.usb.steps import ETOOSMALL
from tests.contract.faulty import FaultyKernel, Killed

NAME = "gadgetd"
OTHER = "stranger"
HOST_S = 30.0


class Skip(Exception):  # noqa: N818 - it is no error
    """The bench lacks what the promise is about."""


@dataclass(frozen=True)
class Bench:
    """Where promises are tried out: a kernel, at least two disks and one free controller."""

    kernel: Kernel
    disks: tuple[Path, ...]
    udcs: tuple[str, ...]
    root: Path = ROOT
    empty_disk: Path | None = None
    """A disk of size 0."""
    no_disk: Path = Path("/dev/null")
    """Something in /dev that is no disk."""

    @property
    def fs(self) -> ConfigFs:
        return ConfigFs(self.root, self.kernel)

    @property
    def gadgets(self) -> Path:
        return self.root / "usb_gadget"

    @property
    def top(self) -> Path:
        return self.gadgets / NAME

    @property
    def lun0(self) -> Path:
        return self.top / "functions/mass_storage.0/lun.0"

    def gadget(self, luns: int = 2, *, acm: bool = False, most: int = 1) -> Gadget:
        """Describe a gadget with so many LUNs, the disks taking turns in them."""
        files = [self.disks[n % len(self.disks)] for n in range(luns)]
        return gadget(files, acm=acm, most=most)


def gadget(files: list[Path | None] | list[Path], *, acm: bool = False, most: int = 1) -> Gadget:
    """Describe a gadget with these disks, in `most` mass_storage functions."""
    luns = [Lun(n, file, f"{'board':8}{f'disk {n}':16}{'0.1':4}") for n, file in enumerate(files)]
    functions = [*deal(luns, most)]
    if acm:
        functions.append(Function("acm.usb0"))
    return Gadget(
        vendor_id=0x0A5C,
        product_id=0x0104,
        device_version=0x0100,
        manufacturer="Raspberry Pi",
        product="Raspberry Pi multi-function USB device",
        serial="10000000a1b2c3d4",
        max_power_ma=250,
        functions=tuple(functions),
        name=NAME,
    )


class Host:
    """What the USB host makes of LUN 0 of our bound gadget: this machine's, or the fake's."""

    def __init__(self, bench: Bench) -> None:
        self._fake: Any = getattr(bench.kernel, "lun", None)
        if self._fake is not None:
            return
        self._disk = soon(self._find, "the disk of LUN 0 at the host")
        # Whoever looks at a new disk has it open for that.
        soon(lambda: self._is_free(bench), "nobody at the host who has LUN 0 open")

    @staticmethod
    def _is_free(bench: Bench) -> bool:
        try:
            return not bench.fs.is_locked(NAME, 0)
        except GadgetError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            return False  # The gadget's thread is busy with what the host asks.

    @staticmethod
    def _find() -> Path | None:
        for disk in Path("/sys/block").glob("sd*"):
            place = str((disk / "device").resolve())
            ours = "/dummy_hcd." in place and place.endswith(":0")
            if ours and int((disk / "size").read_text()) and Path("/dev", disk.name).exists():
                return disk
        return None

    @contextmanager
    def opens(self) -> Iterator[Callable[[], object]]:
        """Have the disk open, which locks the medium; gives what reads a sector, past all caches.

        Once the gadget has told the host of another medium, the read fails with EIO: what was
        opened is not there any more. Source: scsi_io_completion_action and sd_init_command.
        """
        if self._fake is not None:
            self._fake(NAME).locked = True
            yield lambda: None
            self._fake(NAME).locked = False
            return
        fd = os.open(f"/dev/{self._disk.name}", os.O_RDONLY | os.O_DIRECT)
        try:
            yield lambda: os.preadv(fd, [mmap.mmap(-1, mmap.PAGESIZE)], 0)
        finally:
            os.close(fd)

    def media(self) -> int | None:
        """Count the media that the host has had in this drive; the fake does not know it."""
        return None if self._fake is not None else int((self._disk / "diskseq").read_text())


def soon(look: Callable[[], Any], what: str) -> Any:
    """Wait for what `look` finds. Skip if it does not come."""
    deadline = time.monotonic() + HOST_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise Skip(f"there is not {what} within {HOST_S:g} s")


Promise = Callable[[Bench], None]
PROMISES: list[Promise] = []


def promise(function: Promise) -> Promise:
    """Add a function to the contract."""
    PROMISES.append(function)
    return function


@contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect the kernel to answer with this errno."""
    given = 0
    try:
        yield
    except OSError as error:
        given = error.errno or 0
    assert given == number, f"errno {given}, where {number} was promised"


@contextmanager
def refused_in_words(number: int, step: str) -> Iterator[None]:
    """Expect configfs.py to fail at this step, with this errno."""
    given = GadgetError("no error")
    try:
        yield
    except GadgetError as error:
        given = error
    assert (given.errno, given.step) == (number, step), f"{given}: {given.errno}, {given.step!r}"
    assert step in given.message, given.message


def failure(action: Callable[[ConfigFs], None], fs: ConfigFs) -> GadgetError | None:
    """Give the error that an action ends with, or None."""
    try:
        action(fs)
    except GadgetError as error:
        return error
    return None


def dies(bench: Bench, number: int, action: Callable[[ConfigFs], None]) -> bool:
    """Tell whether the action came as far as the call at which the process is killed."""
    try:
        action(ConfigFs(bench.root, FaultyKernel(bench.kernel, kill_at=number)))
    except Killed:
        return True
    return False


def make(bench: Bench, *places: str) -> None:
    """Make directories below the gadget, and the gadget itself first."""
    for place in ("", *places):
        bench.kernel.mkdir(bench.top / place)


def link(bench: Bench, name: str = "mass_storage.0") -> None:
    """Link a function into the configuration c.1."""
    bench.kernel.symlink(bench.top / "functions" / name, bench.top / "configs/c.1" / name)


def udc_of(bench: Bench) -> str:
    """Read the controller that the gadget is bound to."""
    return bench.kernel.read(bench.top / "UDC").strip()


# The kernel's rules.


@promise
def a_new_gadget_has_four_default_groups(bench: Bench) -> None:
    make(bench)
    groups = {"configs", "functions", "os_desc", "strings"}
    assert set(bench.kernel.directories(bench.top)) == groups
    for group in groups:
        with refused(errno.EPERM):
            bench.kernel.rmdir(bench.top / group)
    with refused(errno.EPERM):
        bench.kernel.mkdir(bench.top / "more")
    with refused(errno.EEXIST):
        bench.kernel.mkdir(bench.top)


@promise
def a_missing_attribute_is_enoent(bench: Bench) -> None:
    make(bench)
    for place in ("nothing", "nothing/at/all"):
        with refused(errno.ENOENT):
            bench.kernel.write(bench.top / place, "1")
        with refused(errno.ENOENT):
            bench.kernel.read(bench.top / place)
        with refused(errno.ENOENT):
            bench.kernel.directories(bench.top / place)
    with refused(errno.ENOENT):
        bench.kernel.unlink(bench.top / "nothing")
    with refused(errno.ENOENT):
        bench.kernel.rmdir(bench.top / "nothing")
    with refused(errno.ENOTDIR):
        bench.kernel.directories(bench.top / "UDC")
    with refused(errno.EPERM):
        bench.kernel.unlink(bench.top / "UDC")


@promise
def numbers_read_back_as_hexadecimal(bench: Bench) -> None:
    make(bench)
    for text in ("0x0a5c", "2652", "0xA5C\n", "05134"):
        bench.kernel.write(bench.top / "idVendor", text)
        assert bench.kernel.read(bench.top / "idVendor") == "0x0a5c\n"
    for text in ("hello", "-1", "0x", "12 ", "\n"):
        with refused(errno.EINVAL):
            bench.kernel.write(bench.top / "idVendor", text)
    with refused(errno.ERANGE):
        bench.kernel.write(bench.top / "idVendor", "0x10000")
    with refused(errno.EINVAL):
        bench.kernel.write(bench.top / "bcdDevice", "0x00a0")
    with refused(errno.EFAULT):
        bench.kernel.write(bench.top / "idVendor", "")
    assert bench.kernel.read(bench.top / "idVendor") == "0x0a5c\n"


@promise
def a_string_holds_126_bytes(bench: Bench) -> None:
    make(bench, "strings/0x409")
    path = bench.top / "strings/0x409/serialnumber"
    assert bench.kernel.read(path) == "\n"
    for text in ("a" * 126, "\u00fc" * 63, " in\nner ", "one"):
        bench.kernel.write(path, text)
        assert bench.kernel.read(path) == f"{text}\n"
    for text in ("a" * 127, "\u00fc" * 63 + "\n"):
        with refused(errno.EOVERFLOW):
            bench.kernel.write(path, text)
    bench.kernel.write(path, "\n")
    assert bench.kernel.read(path) == "\n"


@promise
def languages_are_few_and_have_a_number(bench: Bench) -> None:
    make(bench, "strings/0x409", "strings/0x407")
    with refused(errno.EOVERFLOW):
        bench.kernel.mkdir(bench.top / "strings/0x40c")
    for name in ("english", "0x0"):
        with refused(errno.EINVAL):
            bench.kernel.mkdir(bench.top / "strings" / name)


@promise
def a_configuration_has_a_name_and_a_number(bench: Bench) -> None:
    make(bench, "configs/c.1")
    configs = bench.top / "configs"
    for name in ("c", ".2", "c.0", "c.x"):
        with refused(errno.EINVAL):
            bench.kernel.mkdir(configs / name)
    with refused(errno.EBUSY):
        bench.kernel.mkdir(configs / "d.1")
    with refused(errno.ERANGE):
        bench.kernel.write(configs / "c.1/MaxPower", "2041")
    bench.kernel.write(configs / "c.1/MaxPower", "2040")
    assert bench.kernel.read(configs / "c.1/MaxPower") == "2040\n"
    for text in ("0x00", "0x81"):
        with refused(errno.EINVAL):
            bench.kernel.write(configs / "c.1/bmAttributes", text)
    bench.kernel.write(configs / "c.1/bmAttributes", "0xc0")
    assert bench.kernel.read(configs / "c.1/bmAttributes") == "0xc0\n"
    bench.kernel.mkdir(configs / "c.1/strings/0x409")
    with refused(errno.ENOTEMPTY):
        bench.kernel.rmdir(configs / "c.1")
    with refused(errno.EPERM):
        bench.kernel.rmdir(configs / "c.1/strings")


@promise
def a_function_is_a_known_kind_and_a_name(bench: Bench) -> None:
    make(bench)
    functions = bench.top / "functions"
    for name, number in (
        ("mass_storage", errno.EINVAL),
        ("nothing.0", errno.ENOENT),
        (f"mass_storage.{'a' * 40}", errno.ENAMETOOLONG),
    ):
        with refused(number):
            bench.kernel.mkdir(functions / name)
    bench.kernel.mkdir(functions / "mass_storage.0")
    with refused(errno.ENOTEMPTY):
        bench.kernel.rmdir(bench.top)


@promise
def lun_0_comes_with_the_function_and_stays(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0")
    function = bench.lun0.parent
    assert bench.kernel.directories(function) == ["lun.0"]
    with refused(errno.EPERM):
        bench.kernel.rmdir(bench.lun0)
    with refused(errno.EEXIST):
        bench.kernel.mkdir(bench.lun0)
    bench.kernel.mkdir(function / "lun.1")
    with refused(errno.ENOTEMPTY):
        bench.kernel.rmdir(function)
    bench.kernel.rmdir(function / "lun.1")
    bench.kernel.rmdir(function)


@promise
def a_function_has_sixteen_luns_at_most(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0")
    function = bench.lun0.parent
    bench.kernel.mkdir(function / "lun.15")
    for name in ("lun.16", "lun.256"):
        with refused(errno.ERANGE):
            bench.kernel.mkdir(function / name)
    for name in ("lun.x", "lun", "lun.-1"):
        with refused(errno.EINVAL):
            bench.kernel.mkdir(function / name)
    with refused(errno.EBUSY):
        bench.kernel.mkdir(function / "lun.0x0f")


@promise
def a_new_lun_is_empty_removable_and_writable(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0")
    for name, text in (
        ("file", ""),
        ("ro", "0\n"),
        ("removable", "1\n"),
        ("cdrom", "0\n"),
        ("nofua", "0\n"),
        ("inquiry_string", "\n"),
    ):
        assert bench.kernel.read(bench.lun0 / name) == text, name
    assert bench.kernel.read(bench.lun0.parent / "stall").strip() == "0"
    with refused(errno.EACCES):
        bench.kernel.read(bench.lun0 / "forced_eject")


@promise
def an_inquiry_string_is_padded_and_cut_to_28(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0")
    path = bench.lun0 / "inquiry_string"
    for text in ("board   disk            0.1 ", "short", "  blanks  ", "x" * 40, "short\n"):
        bench.kernel.write(path, text)
        expected = text.removesuffix("\n")[:28].ljust(28)
        assert bench.kernel.read(path) == f"{expected}\n", text
    bench.kernel.write(path, "\n")
    assert bench.kernel.read(path) == "\n"


@promise
def what_is_no_disk_is_refused_and_the_disk_before_it_stays(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0")
    path = bench.lun0 / "file"
    bench.kernel.write(path, str(bench.disks[0]))
    for name, number in (
        ("/dev/there-is-none", errno.ENOENT),
        ("there-is-none", errno.ENOENT),
        (str(bench.no_disk), errno.EINVAL),
    ):
        with refused(number):
            bench.kernel.write(path, name)
        assert bench.kernel.read(path) == f"{bench.disks[0]}\n"
    bench.kernel.write(path, f"{bench.disks[1]}\n")
    assert bench.kernel.read(path) == f"{bench.disks[1]}\n"


@promise
def an_empty_disk_is_refused_with_errno_525(bench: Bench) -> None:
    if bench.empty_disk is None:
        raise Skip("no empty disk")
    make(bench, "functions/mass_storage.0")
    with refused(ETOOSMALL):
        bench.kernel.write(bench.lun0 / "file", str(bench.empty_disk))


@promise
def ro_and_cdrom_cannot_change_while_a_file_is_open(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0")
    bench.kernel.write(bench.lun0 / "file", str(bench.disks[0]))
    for name, text in (("ro", "0"), ("ro", "1"), ("cdrom", "1")):
        with refused(errno.EBUSY):
            bench.kernel.write(bench.lun0 / name, text)
    for name, text in (
        ("cdrom", "0"),
        ("removable", "1"),
        ("nofua", "0"),
        ("inquiry_string", "new"),
    ):
        bench.kernel.write(bench.lun0 / name, text)
    with refused(errno.EINVAL):
        bench.kernel.write(bench.lun0 / "ro", "2")
    bench.kernel.write(bench.lun0 / "file", "\n")
    bench.kernel.write(bench.lun0 / "ro", "1")
    bench.kernel.write(bench.lun0 / "file", str(bench.disks[0]))
    assert bench.kernel.read(bench.lun0 / "ro") == "1\n"


@promise
def a_function_is_linked_once_and_into_its_own_gadget(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0", "configs/c.1")
    config = bench.top / "configs/c.1"
    with refused(errno.ENOENT):
        link(bench, "mass_storage.1")
    with refused(errno.EINVAL):
        bench.kernel.symlink(bench.lun0, config / "lun.0")
    link(bench)
    assert bench.kernel.links(config) == ["mass_storage.0"]
    assert bench.kernel.directories(config) == ["strings"]
    for name in ("mass_storage.0", "another"):
        with refused(errno.EEXIST):
            bench.kernel.symlink(bench.lun0.parent, config / name)
    stranger = bench.gadgets / OTHER
    bench.kernel.mkdir(stranger)
    bench.kernel.mkdir(stranger / "functions/mass_storage.0")
    with refused(errno.EINVAL):
        bench.kernel.symlink(stranger / "functions/mass_storage.0", config / "another")
    with refused(errno.EPERM):
        bench.kernel.symlink(bench.lun0.parent, bench.top / "functions/another")
    with refused(errno.EPERM):
        bench.kernel.mkdir(config / "mass_storage.1")


@promise
def a_linked_function_does_not_grow(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0", "functions/mass_storage.0/lun.1", "configs/c.1")
    link(bench)
    function = bench.lun0.parent
    with refused(errno.EBUSY):
        bench.kernel.mkdir(function / "lun.2")
    with refused(errno.EBUSY):
        bench.kernel.write(function / "stall", "1")
    bench.kernel.rmdir(function / "lun.1")
    with refused(errno.EBUSY):
        bench.kernel.mkdir(function / "lun.1")
    bench.kernel.unlink(bench.top / "configs/c.1/mass_storage.0")
    bench.kernel.mkdir(function / "lun.1")
    bench.kernel.write(function / "stall", "1")


@promise
def what_is_linked_cannot_be_removed(bench: Bench) -> None:
    make(bench, "functions/mass_storage.0", "configs/c.1")
    link(bench)
    bench.kernel.symlink(bench.top / "configs/c.1", bench.top / "os_desc/c.1")
    with refused(errno.EBUSY):
        bench.kernel.rmdir(bench.lun0.parent)
    with refused(errno.EBUSY):
        bench.kernel.rmdir(bench.top / "configs/c.1")
    bench.kernel.unlink(bench.top / "os_desc/c.1")
    with refused(errno.ENOTEMPTY):
        bench.kernel.rmdir(bench.top / "configs/c.1")
    bench.kernel.unlink(bench.top / "configs/c.1/mass_storage.0")
    bench.kernel.rmdir(bench.top / "configs/c.1")


@promise
def whatever_prevents_a_bind_is_ebusy(bench: Bench) -> None:
    make(bench)
    path = bench.top / "UDC"
    with refused(errno.EBUSY):
        bench.kernel.write(path, bench.udcs[0])
    bench.kernel.mkdir(bench.top / "configs/c.1")
    with refused(errno.EBUSY):
        bench.kernel.write(path, bench.udcs[0])
    bench.kernel.mkdir(bench.top / "functions/mass_storage.0")
    link(bench)
    for text in ("there-is-none", "none"):
        with refused(errno.EBUSY):
            bench.kernel.write(path, text)
        assert udc_of(bench) == ""
    bench.kernel.write(path, bench.udcs[0])
    assert udc_of(bench) == bench.udcs[0]
    for udc in bench.udcs:
        with refused(errno.EBUSY):
            bench.kernel.write(path, udc)
    stranger = gadget([bench.disks[0]])._replace(name=OTHER)
    bench.fs.build(stranger)
    with refused(errno.EBUSY):
        bench.kernel.write(bench.gadgets / OTHER / "UDC", bench.udcs[0])


@promise
def more_functions_than_endpoints_are_ebusy(bench: Bench) -> None:
    # No controller is known that has sixteen IN endpoints to spare beside endpoint 0.
    bench.fs.build(bench.gadget(16 * LUNS_PER_FUNCTION))
    with refused_in_words(errno.EBUSY, "write UDC"):
        bench.fs.bind(NAME, bench.udcs[0])
    assert bench.fs.bound_udc(NAME) == ""


@promise
def a_function_without_endpoints_is_emptied_and_no_other(bench: Bench) -> None:
    # Each of nine has one; source: fsg_bind ends the thread of the tenth, fsg_main_thread closes.
    bench.fs.build(bench.gadget(20, most=10))
    with refused_in_words(errno.EBUSY, "write UDC"):
        bench.fs.bind(NAME, bench.udcs[0])
    empty = [number for number in range(20) if bench.fs.lun_file(NAME, number) is None]
    assert empty == [9, 19]


@promise
def a_second_unbind_is_enodev(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    with refused(errno.ENODEV):
        bench.kernel.write(bench.top / "UDC", "\n")
    bench.kernel.write(bench.top / "UDC", bench.udcs[0])
    bench.kernel.write(bench.top / "UDC", "\n")
    assert udc_of(bench) == ""
    with refused(errno.ENODEV):
        bench.kernel.write(bench.top / "UDC", "\n")


@promise
def a_bound_gadget_takes_no_link_and_loses_its_controller_with_one(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    bench.kernel.write(bench.top / "UDC", bench.udcs[0])
    bench.kernel.mkdir(bench.top / "functions/mass_storage.1")
    with refused(errno.EINVAL):
        link(bench, "mass_storage.1")
    assert udc_of(bench) == bench.udcs[0]
    bench.kernel.unlink(bench.top / "configs/c.1/mass_storage.0")
    assert udc_of(bench) == ""


@promise
def removing_a_lun_unbinds_silently(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    bench.kernel.write(bench.top / "UDC", bench.udcs[0])
    bench.kernel.rmdir(bench.lun0.parent / "lun.1")
    assert udc_of(bench) == ""


@promise
def a_medium_can_be_changed_while_bound_and_stays_after_an_unbind(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    bench.kernel.write(bench.top / "UDC", bench.udcs[0])
    path = bench.lun0 / "file"
    bench.kernel.write(bench.lun0 / "forced_eject", "1")
    assert bench.kernel.read(path) == ""
    bench.kernel.write(path, str(bench.disks[1]))
    bench.kernel.write(bench.top / "UDC", "\n")
    assert bench.kernel.read(path) == f"{bench.disks[1]}\n"


# What configfs.py makes of them.


@promise
def what_was_built_reads_back_equal(bench: Bench) -> None:
    assert bench.fs.read_back(NAME) is None
    for acm in (False, True):
        for wanted in (
            bench.gadget(1, acm=acm),
            bench.gadget(8, acm=acm),
            bench.gadget(11, acm=acm),
            bench.gadget(3, acm=acm, most=3),
            bench.gadget(8, acm=acm, most=3),
            gadget([None, bench.disks[0], None], acm=acm),
        ):
            bench.fs.build(wanted)
            assert bench.fs.read_back(NAME) == wanted
            assert bench.fs.leftovers() == (NAME,)
            bench.fs.teardown(NAME)
            assert bench.fs.leftovers() == ()
            assert bench.fs.read_back(NAME) is None


@promise
def a_gadget_with_empty_strings_reads_back_equal(bench: Bench) -> None:
    wanted = bench.gadget()._replace(manufacturer="", product="", serial="")
    bench.fs.build(wanted)
    assert bench.fs.read_back(NAME) == wanted


@promise
def a_read_only_disk_is_read_only(bench: Bench) -> None:
    wanted = bench.gadget()
    luns = (wanted.luns[0], wanted.luns[1]._replace(read_only=True))
    wanted = wanted._replace(functions=(Function("mass_storage.0", luns),))
    bench.fs.build(wanted)
    assert bench.fs.read_back(NAME) == wanted
    assert bench.kernel.read(bench.lun0.parent / "lun.1/ro") == "1\n"


@promise
def a_gadget_binds_and_unbinds(bench: Bench) -> None:
    bench.fs.unbind(NAME)
    assert bench.fs.bound_udc(NAME) == ""
    bench.fs.build(bench.gadget())
    bench.fs.unbind(NAME)
    bench.fs.bind(NAME, bench.udcs[0])
    assert bench.fs.bound_udc(NAME) == bench.udcs[0]
    assert bench.fs.read_back(NAME) == bench.gadget()
    with refused_in_words(errno.EBUSY, "write UDC"):
        bench.fs.bind(NAME, bench.udcs[0])
    bench.fs.unbind(NAME)
    bench.fs.unbind(NAME)
    assert bench.fs.bound_udc(NAME) == ""
    with refused_in_words(errno.EBUSY, "write UDC"):
        bench.fs.bind(NAME, "there-is-none")


@promise
def a_bound_gadget_is_taken_down_whole(bench: Bench) -> None:
    bench.fs.build(bench.gadget(11, acm=True))
    bench.fs.bind(NAME, bench.udcs[0])
    bench.fs.teardown(NAME)
    assert bench.fs.leftovers() == ()
    bench.fs.teardown(NAME)


@promise
def what_strangers_put_into_the_gadget_is_taken_down_with_it(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    kernel, top = bench.kernel, bench.top
    for place in (
        "functions/acm.usb0",
        "functions/acm.not-linked",
        "functions/mass_storage.other",
        "functions/mass_storage.other/lun.9",
        "strings/0x407",
        "configs/d.2",
        "configs/d.2/strings/0x407",
    ):
        kernel.mkdir(top / place)
    kernel.symlink(top / "functions/acm.usb0", top / "configs/c.1/renamed")
    kernel.symlink(top / "functions/mass_storage.other", top / "configs/d.2/mass_storage.other")
    kernel.symlink(top / "configs/c.1", top / "os_desc/c.1")
    assert bench.fs.read_back(NAME) is None
    bench.fs.bind(NAME, bench.udcs[0])
    bench.fs.teardown(NAME)
    assert bench.fs.leftovers() == ()


@promise
def a_stranger_s_gadget_is_told_and_left_alone(bench: Bench) -> None:
    stranger = gadget([bench.disks[0]])._replace(name=OTHER)
    bench.fs.build(stranger)
    assert bench.fs.other_gadgets()[OTHER] == ""
    bench.fs.bind(OTHER, bench.udcs[0])
    assert bench.fs.other_gadgets()[OTHER] == bench.udcs[0]
    bench.fs.build(bench.gadget())
    assert NAME not in bench.fs.other_gadgets()
    with refused_in_words(errno.EBUSY, "write UDC"):
        bench.fs.bind(NAME, bench.udcs[0])
    bench.fs.teardown(NAME)
    assert bench.fs.read_back(OTHER) == stranger
    assert bench.fs.bound_udc(OTHER) == bench.udcs[0]


@promise
def a_disk_that_fails_leaves_nothing_and_is_named(bench: Bench) -> None:
    files = {Path("/dev/there-is-none"): errno.ENOENT, bench.no_disk: errno.EINVAL}
    if bench.empty_disk is not None:
        files[bench.empty_disk] = ETOOSMALL
    for file, number in files.items():
        wanted = gadget([*[bench.disks[0]] * 9, file], acm=True)
        with refused_in_words(number, "write functions/mass_storage.1/lun.4/file"):
            bench.fs.build(wanted)
        assert bench.fs.leftovers() == ()


@promise
def a_gadget_that_stands_is_not_built_over(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    with refused_in_words(errno.EEXIST, f"make gadget {NAME}"):
        bench.fs.build(bench.gadget(3))
    assert bench.fs.read_back(NAME) == bench.gadget()


@promise
def luns_are_added_to_a_bound_gadget(bench: Bench) -> None:
    bench.fs.build(bench.gadget(2, acm=True, most=3))
    bench.fs.bind(NAME, bench.udcs[0])
    for luns in (3, 8, 11, 23):  # A function more, then LUNs in each of the three.
        bench.fs.extend(bench.gadget(luns, acm=True, most=3))
        assert bench.fs.read_back(NAME) == bench.gadget(luns, acm=True, most=3)
        assert bench.fs.bound_udc(NAME) == bench.udcs[0]
    bench.fs.unbind(NAME)
    bench.fs.extend(bench.gadget(24, acm=True, most=3))
    assert bench.fs.read_back(NAME) == bench.gadget(24, acm=True, most=3)
    assert bench.fs.bound_udc(NAME) == ""


@promise
def a_lun_that_cannot_be_added_leaves_all_as_it_was(bench: Bench) -> None:
    before = bench.gadget(2, acm=True, most=2)
    bench.fs.build(before)
    bench.fs.bind(NAME, bench.udcs[0])
    wanted = gadget([*bench.disks[:2], *[bench.disks[0]] * 7, bench.no_disk], acm=True, most=2)
    with refused_in_words(errno.EINVAL, "write functions/mass_storage.1/lun.4/file"):
        bench.fs.extend(wanted)
    assert bench.fs.read_back(NAME) == before
    assert bench.fs.bound_udc(NAME) == bench.udcs[0]


@promise
def a_lun_changes_in_place_and_no_other(bench: Bench) -> None:
    wanted = bench.gadget(2)
    bench.fs.build(wanted)
    bench.fs.bind(NAME, bench.udcs[0])
    first, second = wanted.luns
    for changed in (
        second._replace(read_only=True),
        second._replace(inquiry="board   something else  0.2 "),
        second._replace(file=bench.disks[0], read_only=True),
        second._replace(file=None),
        second._replace(file=None, read_only=True),
        second,
    ):
        bench.fs.set_lun(NAME, changed)
        assert bench.fs.lun(NAME, 1) == changed
        assert bench.fs.lun(NAME, 0) == first
    assert bench.fs.bound_udc(NAME) == bench.udcs[0]
    assert bench.fs.read_back(NAME) == wanted


@promise
def a_lun_that_cannot_change_stays_what_it_was(bench: Bench) -> None:
    bench.fs.build(bench.gadget(2))
    before = bench.fs.lun(NAME, 1)
    changed = before._replace(file=bench.no_disk, inquiry="x" * 28, read_only=True)
    with refused_in_words(errno.EINVAL, "write functions/mass_storage.0/lun.1/file"):
        bench.fs.set_lun(NAME, changed)
    assert bench.fs.lun(NAME, 1) == before
    with refused_in_words(errno.ENOENT, "read functions/mass_storage.7/lun.0"):
        bench.fs.set_lun(NAME, before._replace(number=7))


def change(fs: ConfigFs, number: int, **fields: Any) -> None:
    """Change a LUN and leave the rest of it as it is."""
    fs.set_lun(NAME, fs.lun(NAME, number)._replace(**fields))


@promise
def a_disk_is_taken_out_and_put_in_again(bench: Bench) -> None:
    bench.fs.build(bench.gadget(9))
    ways: tuple[Callable[[], None], ...] = (
        lambda: bench.fs.take_out(NAME, 8),
        lambda: bench.fs.force_eject(NAME, 8),
    )
    for take_out in ways:
        for _ in range(2):
            take_out()
            assert bench.fs.lun_file(NAME, 8) is None
        for _ in range(2):
            change(bench.fs, 8, file=bench.disks[1])
            assert bench.fs.lun_file(NAME, 8) == bench.disks[1]
    for read_only in (True, True, False):
        change(bench.fs, 8, read_only=read_only)
        assert bench.fs.lun(NAME, 8).read_only is read_only
        assert bench.fs.lun_file(NAME, 8) == bench.disks[1]
    with refused_in_words(errno.ENOENT, "read functions/mass_storage.9/lun.0/file"):
        bench.fs.lun_file(NAME, 9)


@promise
def luns_that_fill_one_function_after_the_other_are_found_by_their_numbers(bench: Bench) -> None:
    wanted = bench.gadget(11)
    functions = tuple(
        Function(f"mass_storage.{n}", wanted.luns[start : start + LUNS_PER_FUNCTION])
        for n, start in enumerate(range(0, 11, LUNS_PER_FUNCTION))
    )
    wanted = wanted._replace(functions=functions)
    bench.fs.build(wanted)
    assert bench.fs.read_back(NAME) == wanted
    assert [bench.fs.lun(NAME, lun.number) for lun in wanted.luns] == [*wanted.luns]
    bench.fs.take_out(NAME, 9)
    assert bench.kernel.read(bench.top / "functions/mass_storage.1/lun.1/file") == ""


@promise
def a_lock_is_asked_for_without_changing_anything(bench: Bench) -> None:
    wanted = bench.gadget()
    bench.fs.build(wanted)
    bench.fs.bind(NAME, bench.udcs[0])
    host = Host(bench)
    with host.opens():
        media = host.media()
    for _ in range(2):
        with host.opens() as read:
            assert bench.fs.is_locked(NAME, 0)
            assert bench.fs.lun(NAME, 0) == wanted.luns[0]
            read()
        assert not bench.fs.is_locked(NAME, 0)
        assert bench.fs.read_back(NAME) == wanted
        assert bench.fs.bound_udc(NAME) == bench.udcs[0]
    # The next open would tell the host of another medium.
    with host.opens() as read:
        read()
        assert host.media() == media
        # As it does for one that was really changed, or this would show nothing.
        bench.fs.force_eject(NAME, 0)
        change(bench.fs, 0, file=bench.disks[0])
        if media is not None:
            with refused(errno.EIO):
                read()
    with host.opens():
        assert media is None or host.media() != media
    # An empty LUN holds nothing.
    bench.fs.take_out(NAME, 1)
    assert not bench.fs.is_locked(NAME, 1)
    assert bench.fs.lun_file(NAME, 1) is None


@promise
def every_step_of_a_build_that_fails_leaves_nothing_and_is_named(bench: Bench) -> None:
    wanted = bench.gadget(9, acm=True)
    for number in count():
        kernel = FaultyKernel(bench.kernel, fail={number: errno.EIO})
        error = failure(lambda fs: fs.build(wanted), ConfigFs(bench.root, kernel))
        if error is None:
            assert number == len(kernel.calls), f"call {number} failed and nobody noticed"
            assert bench.fs.read_back(NAME) == wanted
            return
        assert error.errno == errno.EIO, error
        assert kernel.calls[number][1].name in error.step, error
        assert bench.fs.leftovers() == (), error


@promise
def every_step_of_an_extension_that_fails_brings_back_what_was(bench: Bench) -> None:
    before, wanted = bench.gadget(2, acm=True, most=3), bench.gadget(9, acm=True, most=3)
    bench.fs.build(before)
    bench.fs.bind(NAME, bench.udcs[0])
    for number in count():
        kernel = FaultyKernel(bench.kernel, fail={number: errno.EIO})
        error = failure(lambda fs: fs.extend(wanted), ConfigFs(bench.root, kernel))
        assert bench.fs.bound_udc(NAME) == bench.udcs[0], error
        if error is None:
            assert number == len(kernel.calls), f"call {number} failed and nobody noticed"
            assert bench.fs.read_back(NAME) == wanted
            return
        assert error.errno == errno.EIO, error
        assert bench.fs.read_back(NAME) == before, error


@promise
def every_step_of_a_change_that_fails_brings_back_what_was(bench: Bench) -> None:
    bench.fs.build(bench.gadget())
    before = bench.fs.lun(NAME, 1)
    wanted = Lun(1, bench.disks[0], "x" * 28, read_only=True)
    for number in count():
        kernel = FaultyKernel(bench.kernel, fail={number: errno.EIO})
        error = failure(lambda fs: fs.set_lun(NAME, wanted), ConfigFs(bench.root, kernel))
        if error is None:
            assert number == len(kernel.calls), f"call {number} failed and nobody noticed"
            assert bench.fs.lun(NAME, 1) == wanted
            return
        assert error.errno == errno.EIO, error
        assert bench.fs.lun(NAME, 1) == before, error


@promise
def every_step_of_a_teardown_that_fails_is_told_and_the_next_finishes(bench: Bench) -> None:
    for number in count():
        bench.fs.build(bench.gadget(9, acm=True))
        bench.fs.bind(NAME, bench.udcs[0])
        kernel = FaultyKernel(bench.kernel, fail={number: errno.EIO})
        error = failure(lambda fs: fs.teardown(NAME), ConfigFs(bench.root, kernel))
        if error is None:
            assert number == len(kernel.calls), f"call {number} failed and nobody noticed"
            assert bench.fs.leftovers() == ()
            return
        bench.fs.teardown(NAME)
        assert bench.fs.leftovers() == (), error


@promise
def a_build_killed_at_any_step_is_taken_down_and_never_taken_for_whole(bench: Bench) -> None:
    wanted = bench.gadget(9, acm=True)
    for number in count():
        killed = dies(bench, number, lambda fs: fs.build(wanted))
        assert (bench.fs.read_back(NAME) is None) is killed, number
        bench.fs.teardown(NAME)
        assert bench.fs.leftovers() == (), number
        if not killed:
            return


@promise
def a_teardown_killed_at_any_step_is_finished_by_the_next(bench: Bench) -> None:
    for number in count():
        bench.fs.build(bench.gadget(9, acm=True))
        bench.fs.bind(NAME, bench.udcs[0])
        killed = dies(bench, number, lambda fs: fs.teardown(NAME))
        bench.fs.teardown(NAME)
        assert bench.fs.leftovers() == (), number
        if not killed:
            return


@promise
def an_extension_killed_at_any_step_is_taken_down(bench: Bench) -> None:
    before, wanted = bench.gadget(2, acm=True, most=3), bench.gadget(9, acm=True, most=3)
    for number in count():
        bench.fs.build(before)
        bench.fs.bind(NAME, bench.udcs[0])
        killed = dies(bench, number, lambda fs: fs.extend(wanted))
        assert bench.fs.read_back(NAME) in (None, before, wanted), number
        bench.fs.teardown(NAME)
        assert bench.fs.leftovers() == (), number
        if not killed:
            return


@promise
def a_change_killed_at_any_step_is_finished_by_the_next(bench: Bench) -> None:
    wanted = Lun(1, bench.disks[0], "x" * 28, read_only=True)
    for number in count():
        bench.fs.build(bench.gadget())
        killed = dies(bench, number, lambda fs: fs.set_lun(NAME, wanted))
        bench.fs.set_lun(NAME, wanted)
        assert bench.fs.lun(NAME, 1) == wanted, number
        bench.fs.teardown(NAME)
        if not killed:
            return


def keep(bench: Bench, each: Promise) -> None:
    """Try one promise, and leave nothing behind whatever comes of it."""
    try:
        each(bench)
    finally:
        for name in (*bench.fs.leftovers(), *bench.fs.leftovers(OTHER)):
            bench.fs.teardown(name)
    assert bench.fs.leftovers() == ()


def main(arguments: list[str]) -> int:
    """Keep all promises on the running kernel."""
    given: dict[str, list[str]] = {"--disk": [], "--udc": [], "--empty": []}
    for option, value in zip(arguments[::2], arguments[1::2], strict=True):
        given[option].append(value)
    empty = [Path(value) for value in given["--empty"]]
    bench = Bench(
        kernel=Kernel(),
        disks=tuple(Path(value) for value in given["--disk"]),
        udcs=tuple(given["--udc"]),
        empty_disk=empty[0] if empty else None,
    )
    bench.fs.mount()
    failed = 0
    for each in PROMISES:
        name = each.__name__
        try:
            keep(bench, each)
        except Skip as reason:
            print(f"skip {name}: {reason}")
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}")
            traceback.print_exc()
        else:
            print(f"ok {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
