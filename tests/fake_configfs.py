"""A configfs in memory that keeps the kernel's rules and gives the kernel's errnos.

It stands in for `gadgetd.usb.kernelfs.Kernel`. What it promises is in tests/contract, whose tests
pass on it and on a real kernel (Debian 12's 6.1).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from gadgetd.child import Child
from gadgetd.usb.kernelfs import WAITING, Kernel
from gadgetd.usb.steps import ETOOSMALL

ROOT = Path("/sys/kernel/config")
MAX_LUNS = 16
MAX_LANGUAGES = 2
MAX_STRING_BYTES = 126
MAX_NAME_BYTES = 40
INQUIRY_LENGTH = 28

Show = Callable[[], str]
Store = Callable[[str], None]


def refuse(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


@dataclass
class FakeDisk:
    """What stands behind a path. `device` False is something that is no disk at all."""

    size_bytes: int = 1 << 20
    device: bool = True
    open_errno: int = 0
    """The answer to an open for writing: EROFS and EACCES make the kernel fall back to reading."""


@dataclass
class FakeUdc:
    """A controller. Each function takes an IN endpoint, ACM two."""

    in_endpoints: int = 9
    gadget: GadgetGroup | None = None


@dataclass
class FakeKernel(Kernel):
    """The kernel with the disks and controllers that it knows."""

    disks: dict[str, FakeDisk] = field(default_factory=dict)
    udcs: dict[str, FakeUdc] = field(default_factory=dict)
    root: Path = ROOT
    mounted: bool = True
    configfs: bool = True
    libcomposite: bool = True
    functions: tuple[str, ...] = ("mass_storage", "acm", "ecm")

    thread_busy: bool = False
    """The gadget's threads are busy with a command of the host that does not end."""
    busy_functions: set[str] = field(default_factory=set)
    """Those of which that is so, if not of all."""

    def __post_init__(self) -> None:
        super().__init__()
        self.behind: list[FakeWrite] = []
        self.top = GadgetsGroup(self)

    # The calls of gadgetd.kernelfs.Kernel.

    def mkdir(self, path: Path) -> None:
        self._enter(path, item=True)
        parent = self.group(path.parent)
        if path.name in parent.names():
            refuse(errno.EEXIST)
        parent.groups[path.name] = parent.make(path.name)

    def rmdir(self, path: Path) -> None:
        self._enter(path, item=True)
        parent, group = self.group(path.parent), self.group(path)
        if group.default:
            refuse(errno.EPERM)
        if group.linked:
            refuse(errno.EBUSY)
        if any(not each.default or each.holds_items() for each in group.groups.values()):
            refuse(errno.ENOTEMPTY)
        if group.links:
            refuse(errno.ENOTEMPTY)
        parent.drop(group)
        del parent.groups[path.name]

    def symlink(self, target: Path, path: Path) -> None:
        self._enter(path, item=True)
        parent, group = self.group(path.parent), self.group(target)
        if path.name in parent.names():
            refuse(errno.EEXIST)
        parent.allow_link(group)
        parent.links[path.name] = group
        group.linked += 1

    def unlink(self, path: Path) -> None:
        self._enter(path, item=True)
        parent = self.group(path.parent)
        if path.name in parent.attributes:
            refuse(errno.EPERM)
        if path.name in parent.groups:
            refuse(errno.EISDIR)
        if path.name not in parent.links:
            refuse(errno.ENOENT)
        group = parent.links[path.name]
        parent.drop_link(group)
        del parent.links[path.name]
        group.linked -= 1

    def directories(self, path: Path) -> list[str]:
        # The kernel lists the newest first.
        return list(reversed(self.group(path).groups))

    def links(self, path: Path) -> list[str]:
        return list(reversed(self.group(path).links))

    def read(self, path: Path) -> str:
        self._enter(path)
        show = self._attribute(path)[0]
        if show is None:
            refuse(errno.EACCES)
        return show()

    def write(self, path: Path, text: str) -> None:
        self._enter(path)
        if path.name in WAITING and self._is_busy(path):
            raise AssertionError(f"the daemon waits for a command of the host's: write {path}")
        self._store(path, text)

    def _begin(self, path: Path, text: str) -> Child:
        lun = self.group(path.parent)
        locked = isinstance(lun, LunGroup) and lun.locked and lun.file
        # Of a lock fsg_store_file tells before it waits.
        waits = self._is_busy(path) and not (path.name == "file" and locked)
        write = FakeWrite(self, path, text)
        if waits:
            self.behind.append(write)
        else:
            write.carry_out()
        return write

    def _begin_reading(self, paths: Iterable[Path]) -> Child:
        waits = any(
            each.path and each.path.parent in path.parents for each in self.behind for path in paths
        )
        write = FakeWrite(self, None)
        if waits:
            self.behind.append(write)
        else:
            write.carry_out()
        return write

    def _enter(self, path: Path, *, item: bool = False) -> None:
        self._keep_from_waiting(path, item=item)
        for each in self.behind:
            if each.path and (item or path.name in WAITING) and each.blocks(path):
                raise AssertionError(f"the daemon waits behind a write: {path}")

    def _is_busy(self, path: Path) -> bool:
        """Tell whether a write to an attribute would wait for a thread."""
        if path.name == "UDC":
            gadget = self.group(path.parent)
            assert isinstance(gadget, GadgetGroup)
            return bool(gadget.udc) and (self.thread_busy or bool(self.busy_functions))
        return self.thread_busy or path.parent.parent.name in self.busy_functions

    def _store(self, path: Path, text: str) -> None:
        store = self._attribute(path)[1]
        if store is None:
            refuse(errno.EACCES)
        if not text:
            refuse(errno.EFAULT)
        store(text)

    def thread_goes_on(self) -> None:
        """End the host's command that kept the gadget's thread."""
        self.thread_busy = False
        self.busy_functions.clear()
        behind, self.behind = self.behind, []
        for write in behind:
            write.carry_out()

    def lose_daemon(self) -> None:
        """Note that the daemon was killed: what it began goes on, and nobody knows of it."""
        for writes in self._under_way.values():
            for write in writes:
                assert isinstance(write.child, FakeWrite)
                write.child.close()
        self._under_way.clear()
        self.late = lambda _fd: None

    def forget_behind(self) -> None:
        """End the processes that were to write, without their having written."""
        behind, self.behind = self.behind, []
        for write in behind:
            write.end()

    def mount_configfs(self, path: Path) -> None:
        assert path == self.root
        if not self.configfs:
            refuse(errno.ENODEV)
        if self.mounted:
            refuse(errno.EBUSY)
        self.mounted = True

    # What a test does to it.

    def tree(self) -> list[str]:
        """List everything below usb_gadget that somebody made."""
        return sorted(self.top.walk())

    def lun(self, gadget: str, function: str = "mass_storage.0", number: int = 0) -> LunGroup:
        """Reach the host's side of a LUN."""
        lun = self.group(
            self.root / "usb_gadget" / gadget / "functions" / function / f"lun.{number}"
        )
        assert isinstance(lun, LunGroup)
        return lun

    def group(self, path: Path) -> Group:
        """Look up a directory."""
        if not self.mounted or not path.is_relative_to(self.root):
            refuse(errno.ENOENT)
        parts = path.relative_to(self.root).parts
        if not parts:
            refuse(errno.EINVAL)
        if parts[0] != "usb_gadget" or not self.libcomposite:
            refuse(errno.ENOENT)
        group: Group = self.top
        for part in parts[1:]:
            below = group.groups.get(part) or group.links.get(part)
            if below is None:
                refuse(errno.ENOTDIR if part in group.attributes else errno.ENOENT)
            group = below
        return group

    def _attribute(self, path: Path) -> tuple[Show | None, Store | None]:
        attributes = self.group(path.parent).attributes
        if path.name not in attributes:
            refuse(errno.ENOENT)
        return attributes[path.name]


class FakeWrite(Child):
    """A write, or a read, in a process of its own, that is over when the fake says so."""

    def __init__(self, kernel: FakeKernel, path: Path | None, text: str = "") -> None:
        self._kernel, self.path, self._text = kernel, path, text
        self._reader, self._writer = os.pipe()
        self._done = self._closed = False
        self._errno = 0

    def blocks(self, path: Path) -> bool:
        """Tell whether an attribute or item would wait behind it."""
        assert self.path is not None
        unbinds = self.path.name == "UDC"
        return path.is_relative_to(self.path.parent if unbinds else self.path.parent.parent)

    def carry_out(self) -> None:
        try:
            if self.path is not None:
                self._kernel._store(self.path, self._text)
        except OSError as error:
            self._errno = error.errno or 255
        self.end()

    def end(self) -> None:
        self._done = True
        if not self._closed:
            os.write(self._writer, b"\n")

    def close(self) -> None:
        """Leave it alone, as a daemon does that is killed: it goes on."""
        if not self._closed:
            self._closed = True
            os.close(self._reader)
            os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def over(self, wait_s: float = 0.0) -> bool:
        del wait_s
        return self._done

    def result(self) -> int:
        assert self._done, "nobody may wait for the end"
        self.close()
        return self._errno


class Group:
    """A directory of configfs: groups, links, and attributes with their two functions."""

    default = False
    """It came with its parent, and goes with it."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.groups: dict[str, Group] = {}
        self.links: dict[str, Group] = {}
        self.attributes: dict[str, tuple[Show | None, Store | None]] = {}
        self.linked = 0

    def make(self, name: str) -> Group:
        del name
        refuse(errno.EPERM)

    def drop(self, group: Group) -> None:
        """Take note that an item of this group is being removed."""

    def allow_link(self, group: Group) -> None:
        del group
        refuse(errno.EPERM)

    def drop_link(self, group: Group) -> None:
        """Take note that a link in this group is being removed."""

    def names(self) -> set[str]:
        return {*self.groups, *self.links, *self.attributes}

    def holds_items(self) -> bool:
        if self.links:
            return True
        return any(not each.default or each.holds_items() for each in self.groups.values())

    def walk(self, prefix: str = "") -> Iterator[str]:
        for name in self.links:
            yield f"{prefix}{name}@"
        for name, group in self.groups.items():
            if not group.default:
                yield prefix + name
            yield from group.walk(f"{prefix}{name}/")

    def add_default(self, name: str, group: Group) -> None:
        group.default = True
        self.groups[name] = group


class GadgetsGroup(Group):
    def make(self, name: str) -> Group:
        return GadgetGroup(self.kernel, name)

    def drop(self, group: Group) -> None:
        assert isinstance(group, GadgetGroup)
        group.unbind()


class GadgetGroup(Group):
    def __init__(self, kernel: FakeKernel, name: str) -> None:
        super().__init__(kernel)
        self.name = name
        self.udc = ""
        self.functions = FunctionsGroup(self)
        self.configs = ConfigsGroup(self)
        self.attributes = {
            "idVendor": number_attribute(16),
            "idProduct": number_attribute(16),
            "bcdDevice": number_attribute(16, 0x0601, check=check_bcd),
            "bcdUSB": number_attribute(16, check=check_bcd),
            "bDeviceClass": number_attribute(8),
            "UDC": (lambda: f"{self.udc}\n", self.store_udc),
        }
        self.add_default("functions", self.functions)
        self.add_default("configs", self.configs)
        self.add_default(
            "strings", StringsGroup(kernel, ("manufacturer", "product", "serialnumber"))
        )
        self.add_default("os_desc", OsDescGroup(self))

    def store_udc(self, text: str) -> None:
        name = text.removesuffix("\n")
        if not name:
            if not self.udc:
                refuse(errno.ENODEV)
            self.unbind()
            return
        udc = self.kernel.udcs.get(name)
        # One answer to all: bound already, unknown, taken, nothing to bind, too much to bind.
        if self.udc or udc is None or udc.gadget is not None or not self.configs.complete():
            refuse(errno.EBUSY)
        without = self.configs.without_endpoints(udc.in_endpoints)
        if without is not None:
            # The thread of a function that is not bound ends, and closes what it had open.
            for lun in without.groups.values():
                if isinstance(lun, LunGroup):
                    lun.file = ""
            refuse(errno.EBUSY)
        self.udc, udc.gadget = name, self

    def unbind(self) -> None:
        if self.udc in self.kernel.udcs:
            self.kernel.udcs[self.udc].gadget = None
        self.udc = ""


class FunctionsGroup(Group):
    def __init__(self, gadget: GadgetGroup) -> None:
        super().__init__(gadget.kernel)
        self.gadget = gadget

    def make(self, name: str) -> Group:
        if len(name) >= MAX_NAME_BYTES:
            refuse(errno.ENAMETOOLONG)
        kind, dot, _ = name.partition(".")
        if not dot:
            refuse(errno.EINVAL)
        if kind not in self.kernel.functions:
            refuse(errno.ENOENT)
        if kind == "mass_storage":
            return MassStorageGroup(self.gadget)
        return FunctionGroup(self.gadget, in_endpoints=2)


class FunctionGroup(Group):
    def __init__(self, gadget: GadgetGroup, in_endpoints: int) -> None:
        super().__init__(gadget.kernel)
        self.gadget = gadget
        self.in_endpoints = in_endpoints


class MassStorageGroup(FunctionGroup):
    def __init__(self, gadget: GadgetGroup) -> None:
        super().__init__(gadget, in_endpoints=1)
        self.stall = False
        # The only attribute that the kernel prints without a newline.
        self.attributes = {"stall": (lambda: f"{self.stall:d}", self.store_stall)}
        self.add_default("lun.0", LunGroup(self, 0))

    def store_stall(self, text: str) -> None:
        if self.linked:
            refuse(errno.EBUSY)
        self.stall = parse_bool(text)

    def make(self, name: str) -> Group:
        _, dot, digits = name.partition(".")
        if not dot:
            refuse(errno.EINVAL)
        number = parse_number(digits, 8)
        if number >= MAX_LUNS:
            refuse(errno.ERANGE)
        numbers = {lun.number for lun in self.groups.values() if isinstance(lun, LunGroup)}
        if self.linked or number in numbers:
            refuse(errno.EBUSY)
        return LunGroup(self, number)

    def drop(self, group: Group) -> None:
        del group
        if self.linked:
            self.gadget.unbind()


class LunGroup(Group):
    def __init__(self, function: MassStorageGroup, number: int) -> None:
        super().__init__(function.kernel)
        self.number = number
        self.file = ""
        self.locked = False
        """The host holds the medium: PREVENT MEDIUM REMOVAL."""
        self.asked_read_only = self.read_only = False
        self.cdrom = self.nofua = False
        self.removable = True
        self.inquiry = ""
        self.attributes = {
            "cdrom": (lambda: f"{self.cdrom:d}\n", self.store_cdrom),
            "ro": (self.show_ro, self.store_ro),
            "removable": (lambda: f"{self.removable:d}\n", self.store_removable),
            "nofua": (lambda: f"{self.nofua:d}\n", self.store_nofua),
            "inquiry_string": (lambda: f"{self.inquiry}\n", self.store_inquiry),
            "file": (lambda: f"{self.file}\n" if self.file else "", self.store_file),
            "forced_eject": (None, self.store_forced_eject),
        }

    def host_ejects(self) -> None:
        """Act as a host that sends START STOP UNIT with the eject bit."""
        self.file, self.locked = "", False

    def show_ro(self) -> str:
        return f"{(self.read_only if self.file else self.asked_read_only):d}\n"

    def store_ro(self, text: str) -> None:
        value = parse_bool(text)
        if self.file:
            refuse(errno.EBUSY)
        self.asked_read_only = self.read_only = value

    def store_cdrom(self, text: str) -> None:
        value = parse_bool(text)
        if value:
            self.store_ro("1")
        self.cdrom = value

    def store_removable(self, text: str) -> None:
        self.removable = parse_bool(text)

    def store_nofua(self, text: str) -> None:
        self.nofua = parse_bool(text)

    def store_inquiry(self, text: str) -> None:
        line = text.removesuffix("\n")
        self.inquiry = line[:INQUIRY_LENGTH].ljust(INQUIRY_LENGTH) if line else ""

    def store_file(self, text: str) -> None:
        if self.locked and self.file:
            refuse(errno.EBUSY)
        name = text.removesuffix("\n")
        if not name:
            self.file = ""
            return
        disk = self.kernel.disks.get(name)
        if disk is None:
            refuse(errno.ENOENT)
        read_only = self.asked_read_only
        if not read_only and disk.open_errno:
            if disk.open_errno not in (errno.EROFS, errno.EACCES):
                refuse(disk.open_errno)
            read_only = True
        if not disk.device:
            refuse(errno.EINVAL)
        if not disk.size_bytes:
            refuse(ETOOSMALL)
        self.file, self.read_only = name, read_only

    def store_forced_eject(self, text: str) -> None:
        del text
        self.locked = False
        self.store_file("\n")


class ConfigsGroup(Group):
    def __init__(self, gadget: GadgetGroup) -> None:
        super().__init__(gadget.kernel)
        self.gadget = gadget

    def make(self, name: str) -> Group:
        label, dot, digits = name.partition(".")
        if not dot or not label:
            refuse(errno.EINVAL)
        number = parse_number(digits, 8)
        if not number:
            refuse(errno.EINVAL)
        if number in (each.number for each in self.all()):
            refuse(errno.EBUSY)
        return ConfigGroup(self.gadget, number)

    def all(self) -> list[ConfigGroup]:
        return [each for each in self.groups.values() if isinstance(each, ConfigGroup)]

    def complete(self) -> bool:
        return bool(self.groups) and all(each.links for each in self.all())

    def without_endpoints(self, in_endpoints: int) -> FunctionGroup | None:
        """Give the first function for which there are none left."""
        for config in self.all():
            left = in_endpoints
            for each in config.links.values():
                if isinstance(each, FunctionGroup):
                    left -= each.in_endpoints
                    if left < 0:
                        return each
        return None


class ConfigGroup(Group):
    def __init__(self, gadget: GadgetGroup, number: int) -> None:
        super().__init__(gadget.kernel)
        self.gadget = gadget
        self.number = number
        self.attributes = {
            "MaxPower": number_attribute(16, 2, "{}\n", check_power),
            "bmAttributes": number_attribute(8, 0x80, "0x{:02x}\n", check_config_attributes),
        }
        self.add_default("strings", StringsGroup(gadget.kernel, ("configuration",)))

    def allow_link(self, group: Group) -> None:
        if group not in self.gadget.functions.groups.values() or self.gadget.udc:
            refuse(errno.EINVAL)
        if group in self.links.values():
            refuse(errno.EEXIST)

    def drop_link(self, group: Group) -> None:
        del group
        self.gadget.unbind()


class OsDescGroup(Group):
    def __init__(self, gadget: GadgetGroup) -> None:
        super().__init__(gadget.kernel)
        self.gadget = gadget

    def allow_link(self, group: Group) -> None:
        if group not in self.gadget.configs.groups.values():
            refuse(errno.EINVAL)
        if self.links:
            refuse(errno.EBUSY)

    def drop_link(self, group: Group) -> None:
        del group
        self.gadget.unbind()


class StringsGroup(Group):
    def __init__(self, kernel: FakeKernel, strings: tuple[str, ...]) -> None:
        super().__init__(kernel)
        self.strings = strings

    def make(self, name: str) -> Group:
        language = parse_number(name, 16)
        if not language & 0x3FF or not language >> 10:
            refuse(errno.EINVAL)
        if len(self.groups) >= MAX_LANGUAGES:
            refuse(errno.EOVERFLOW)
        group = Group(self.kernel)
        group.attributes = {string: string_attribute() for string in self.strings}
        return group


def number_attribute(
    bits: int,
    value: int = 0,
    form: str = "",
    check: Callable[[int], None] = lambda _: None,
) -> tuple[Show, Store]:
    form = form or f"0x{{:0{bits // 4}x}}\n"

    def store(text: str) -> None:
        nonlocal value
        number = parse_number(text, bits)
        check(number)
        value = number

    return lambda: form.format(value), store


def string_attribute() -> tuple[Show, Store]:
    value = ""

    def store(text: str) -> None:
        nonlocal value
        # The newline counts, though it is not kept.
        if len(text.encode()) > MAX_STRING_BYTES:
            refuse(errno.EOVERFLOW)
        value = text.removesuffix("\n")

    return lambda: f"{value}\n", store


def check_bcd(value: int) -> None:
    if not f"{value:x}".isdecimal():
        refuse(errno.EINVAL)


def check_power(value: int) -> None:
    if value > 255 * 8:
        refuse(errno.ERANGE)


def check_config_attributes(value: int) -> None:
    if not value & 0x80 or value & ~0xE0:
        refuse(errno.EINVAL)


def parse_number(text: str, bits: int) -> int:
    """Read a number as kstrtou8 and kstrtou16 do with base 0: decimal, 0x and octal."""
    digits = text.removesuffix("\n").removeprefix("+").lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    digits = digits.removeprefix("0x")
    if not digits or any(digit not in "0123456789abcdef"[:base] for digit in digits):
        refuse(errno.EINVAL)
    value = int(digits, base)
    if value >= 1 << bits:
        refuse(errno.ERANGE)
    return value


def parse_bool(text: str) -> bool:
    """Read a flag as kstrtobool does."""
    line = text.removesuffix("\n").lower()
    if line[:1] in ("y", "t", "1") or line[:2] == "on":
        return True
    if line[:1] in ("n", "f", "0") or line[:2] == "of":
        return False
    refuse(errno.EINVAL)
