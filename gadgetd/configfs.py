"""Turns the gadget as a value into directories below /sys/kernel/config, and back.

Everything is done with an undo stack: a step that fails takes back all steps before it. Nothing
here decides what to export. Source: Documentation/usb/gadget_configfs.rst and the kernel's
drivers/usb/gadget.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gadgetd.errors import GadgetError
from gadgetd.sysfs import natural_key
from gadgetd.usb.attributes import CONFIGURATION, FUNCTION_ROWS, LUN_ROWS, TABLES, Attribute, parse
from gadgetd.usb.gadget import MASS_STORAGE, NAME, Function, Gadget, Lun, is_storage, lun_places
from gadgetd.usb.kernelfs import Kernel
from gadgetd.usb.steps import Steps, Undo, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = Path("/sys/kernel/config")

NO_FILE = "/dev/.gadgetd/asks-whether-the-medium-is-locked"
"""The name of no file, see `is_locked`."""
_NOT_THERE = (errno.ENOENT, errno.ENODEV)


class ConfigFs(Steps):
    """The USB gadgets of configfs below `root`. Its methods raise GadgetError and nothing else."""

    def __init__(self, root: Path = ROOT, kernel: Kernel | None = None) -> None:
        super().__init__(root / "usb_gadget", kernel or Kernel())
        self._root = root
        self._luns: dict[str, Mapping[int, Path]] = {}
        """By gadget, where each of its LUNs is, as long as that is known."""

    def mount(self) -> None:
        """Mount configfs where it is not mounted yet, and see that it knows USB gadgets."""
        if self._listed(self._gadgets) is not None:
            return
        try:
            self._kernel.mount_configfs(self._root)
        except OSError as error:
            if error.errno != errno.EBUSY:
                refuse(f"mount configfs at {self._root}", error)
        if self._listed(self._gadgets) is None:
            raise GadgetError(
                "this kernel's configfs has no USB gadgets",
                step=f"list {self._gadgets}",
                hint="load the module: modprobe libcomposite (CONFIG_USB_CONFIGFS)",
            )

    def build(self, gadget: Gadget) -> None:
        """Make the whole gadget, not bound to a controller yet.

        A step that fails is named, and all steps before it are undone in reverse.
        """
        top = self._gadgets / gadget.name
        with Undo() as undo:
            for place, rows in TABLES.items():
                self._make(undo, top / place)
                self._write_rows(top / place, rows, gadget)
            for function in gadget.functions:
                self._make_function(undo, top, function)
            for function in gadget.functions:
                self._link(undo, top, function.name)
            undo.pop_all()

    def extend(self, gadget: Gadget) -> None:
        """Add the functions and LUNs that the gadget lacks; those that exist stay as they are.

        The kernel lets a function grow only while it is not linked, so a bound gadget is unbound
        for it and bound again: every disk is disconnected for a moment, though its file stays
        open. A step that fails brings back what was.
        """
        top = self._gadgets / gadget.name
        wanted = [function.name for function in gadget.functions]
        with Undo() as undo:
            udc = self.bound_udc(gadget.name)
            if udc:
                self.unbind(gadget.name)
                undo.add(f"bind to {udc}", self._kernel.write, top / "UDC", udc)
            linked = self._linked(top)
            # Interfaces are numbered in the order of linking, so all functions are linked anew.
            for name in reversed(linked):
                link = top / CONFIGURATION / name
                self._do("unlink", link, self._kernel.unlink)
                undo.add(f"link {name}", self._kernel.symlink, top / "functions" / name, link)
            for function in gadget.functions:
                self._make_function(undo, top, function)
            for name in (*wanted, *(name for name in linked if name not in wanted)):
                self._link(undo, top, name)
            if udc:
                self.bind(gadget.name, udc)
            undo.pop_all()

    def bind(self, name: str, udc: str) -> None:
        """Attach the gadget to the USB device controller; hosts see it from here on.

        GadgetError has errno EBUSY if the controller is unknown, taken, or cannot carry so many
        functions: the kernel gives one answer to all three. Some kernels say ENODEV for unknown.
        """
        try:
            self._write(self._gadgets / name / "UDC", udc)
        except GadgetError as error:
            for user in self._names():
                if self.bound_udc(user) == udc:
                    raise GadgetError(
                        f"cannot {error.step} ({udc}): gadget {user} is bound to it",
                        step=error.step,
                        errno=error.errno,
                        hint=f"unbind it, or set usb.udc to another controller than {udc}",
                    ) from error
            raise

    def unbind(self, name: str) -> None:
        """Detach the gadget from its controller; no error if it has none, or does not exist.

        With ETIMEDOUT the host has lost the disks, and a command of its goes on.
        """
        try:
            self._write(self._gadgets / name / "UDC", "\n", apart=True)
        except GadgetError as error:
            if error.errno not in _NOT_THERE:
                raise

    def bound_udc(self, name: str) -> str:
        """Tell the controller that the gadget is attached to; empty for none."""
        try:
            return str(self._do("read", self._gadgets / name / "UDC", self._text))
        except GadgetError as error:
            if error.errno not in _NOT_THERE:
                raise
            return ""

    def teardown(self, name: str) -> None:
        """Remove the gadget, whole or half-built, with whatever others have put into it.

        Every step is tried even if one before it fails; the error names the first that did. The
        order is the kernel's: links before what they point at, items before their parents.
        """
        top = self._gadgets / name
        self._luns.clear()
        if self._listed(top) is None:
            return
        failures: list[GadgetError] = []
        try:
            self.unbind(name)
        except GadgetError as error:
            if error.errno == errno.ETIMEDOUT:
                raise
            failures.append(error)
        groups = [top / group for group in ("os_desc", "configs", "functions", "strings")]
        for group in groups:
            self._unlink_below(group, failures)
        for group in groups:
            self._remove_below(group, failures)
        self._attempt("remove", top, self._kernel.rmdir, failures)
        if not failures and self._listed(top) is not None:
            raise GadgetError(
                f"cannot take down gadget {name}: it is still there", step=f"remove gadget {name}"
            )
        if failures:
            first = failures[0]
            raise GadgetError(
                f"cannot take down gadget {name}: {first.message}",
                step=first.step,
                errno=first.errno,
                hint=first.hint,
            ) from first

    def leftovers(self, name: str = NAME) -> tuple[str, ...]:
        """List the gadgets that are ours by name: `gadgetd`, or `gadgetd.` and something."""
        return tuple(each for each in self._names() if _is_ours(each, name))

    def other_gadgets(self, name: str = NAME) -> Mapping[str, str]:
        """Map each gadget that is not ours to the controller it holds, empty for none."""
        others = [each for each in self._names() if not _is_ours(each, name)]
        return {each: self.bound_udc(each) for each in others}

    def lun_file(self, name: str, number: int) -> Path | None:
        """Tell the disk in a LUN; None if it is empty, which is what a host's eject leaves.

        The node of a disk that has left the board reads `/dev/nvme0n1 (deleted)`.
        """
        text: str = self._do("read", self._lun(name, number) / "file", self._text)
        return Path(text) if text else None

    def take_out(self, name: str, number: int) -> None:
        """Take the disk out of a LUN. Errors are those of `set_lun`."""
        self._write(self._lun(name, number) / "file", "\n", apart=True)

    def set_lun(self, name: str, lun: Lun) -> None:
        """Make an existing LUN what is wanted; if that fails it is again what it was.

        To the host it is a change of medium, for the kernel takes `ro` only while no file is
        open; the other LUNs notice nothing. GadgetError has errno EBUSY if the host has locked
        the medium, see `force_eject`, and ETIMEDOUT if a step goes on: then nothing is undone.
        """
        path = self._lun(name, lun.number)
        now = self.lun(name, lun.number)
        with Undo() as undo:
            if now.inquiry != lun.inquiry:
                self._rewrite(undo, path / "inquiry_string", now.inquiry, lun.inquiry)
            try:
                if (now.file, now.read_only) != (lun.file, lun.read_only):
                    self._rewrite(undo, path / "file", str(now.file or ""), "")
                    self._rewrite(undo, path / "ro", f"{now.read_only:d}", f"{lun.read_only:d}")
                    if lun.file is not None:
                        self._rewrite(undo, path / "file", "", str(lun.file))
                        self._check_read_only(path, lun)
            except GadgetError as error:
                if error.errno == errno.ETIMEDOUT:
                    undo.pop_all()
                raise
            undo.pop_all()

    def force_eject(self, name: str, number: int) -> None:
        """Take the disk out even if the host has locked it."""
        self._write(self._lun(name, number) / "forced_eject", "1", apart=True)

    def is_locked(self, name: str, number: int) -> bool:
        """Ask whether the host has locked the medium, changing nothing. Errors: GadgetError.

        The name of no file gives EBUSY or ENOENT, the latter with a line in the kernel's log
        (source: fsg_store_file, fsg_lun_open in drivers/usb/gadget/function/storage_common.c).
        """
        try:
            self._write(self._lun(name, number) / "file", NO_FILE, apart=True)
        except GadgetError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT):
                raise
            return error.errno == errno.EBUSY
        raise GadgetError(f"{NO_FILE} is there", hint="remove it: gadgetd asks with it for a lock")

    def lun(self, name: str, number: int) -> Lun:
        """Read one LUN as it stands."""
        rows = [row for row in LUN_ROWS if row.field]
        return Lun(number, **self._do("read", self._lun(name, number), self._read_rows, rows))

    def on_late(self, call: Callable[[int], None]) -> None:
        """Have `call` called with a descriptor for each write that goes on; see kernelfs."""
        self._kernel.late = call

    def silent(self, name: str) -> frozenset[str]:
        """Give the functions that a write waits for; the gadget's own name if one unbinds it."""
        top = self._gadgets / name
        return frozenset(p.name for p in self._kernel.under_way if p.is_relative_to(top))

    def check_readable(self, name: str) -> None:
        """Raise GadgetError, ETIMEDOUT, if a write that somebody else began keeps us waiting."""
        top = self._gadgets / name
        functions = [top / "functions" / each for each in self._listed(top / "functions") or ()]
        luns = [each / lun for each in functions for lun in self._listed(each) or ()]
        paths = [top / "UDC", *(lun / "file" for lun in luns if lun.name.startswith("lun."))]
        self._do("read", top, self._kernel.read_apart, paths)

    def read_back(self, name: str = NAME, known: Gadget | None = None) -> Gadget | None:
        """Read the gadget that stands; None if there is none, or not one that `build` finished.

        A LUN that the host ejected is empty. Of a function that does not answer it gives what
        is `known` of it, and raises GadgetError, ETIMEDOUT, if that is nothing.
        """
        top = self._gadgets / name
        before = {function.name: function for function in known.functions} if known else {}
        found: dict[str, Any] = {}
        try:
            for place, rows in TABLES.items():
                found |= self._read_rows(top / place, rows)
            linked, there = self._linked(top), self._functions(name)
            if not linked or {*linked} != {*there}:
                return None
            silent = before.keys() & self.silent(name)
            functions = tuple(
                before[each] if each in silent else self._read_function(name, each)
                for each in linked
            )
        except (OSError, ValueError, GadgetError) as error:
            if isinstance(error, TimeoutError):
                refuse("read file", error)
            return None  # Not ours, or not finished; a strange value gives ValueError.
        return Gadget(**found, functions=functions, name=name)

    def _make_function(self, undo: Undo, top: Path, function: Function) -> None:
        path = top / "functions" / function.name
        there = self._listed(path)
        if there is None:
            self._make(undo, path)
            if function.luns:
                self._write_rows(path, FUNCTION_ROWS, function)
        for index, lun in enumerate(function.luns):
            lun_path = path / f"lun.{index}"
            if there is not None and lun_path.name in there:
                continue
            if index:  # lun.0 came with the function.
                self._make(undo, lun_path)
            try:
                self._write_rows(lun_path, LUN_ROWS, lun)
            except GadgetError as error:
                error.lun = lun.number if error.step.endswith("/file") else -1
                raise
            self._check_read_only(lun_path, lun)

    def _check_read_only(self, path: Path, lun: Lun) -> None:
        # The kernel falls back to read-only by itself where it may not open a disk for writing.
        text = self._do("read", path / "ro", self._text)
        if text != f"{lun.read_only:d}":
            states = {"0": "writable", "1": "read-only"}
            raise GadgetError(
                f"{lun.file} was to be {states[f'{lun.read_only:d}']} and came out "
                f"{states.get(text, text)}",
                step=f"read {self._where(path / 'ro')}",
                hint="see /sys/block/*/ro; set read_only: true for this disk",
            )

    def _functions(self, name: str) -> dict[str, list[str]]:
        """List a gadget's functions with the LUNs of each, and note where each LUN is.

        ValueError if it is no gadget of ours.
        """
        top = self._gadgets / name / "functions"
        there = {each: self._listed(top / each) or [] for each in self._listed(top) or ()}
        self._luns[name] = {number: top / place for number, place in lun_places(there).items()}
        return there

    def _read_function(self, name: str, function: str) -> Function:
        path = self._gadgets / name / "functions" / function
        if is_storage(function):
            self._read_rows(path, FUNCTION_ROWS)
        luns = [(number, lun) for number, lun in self._luns[name].items() if lun.parent == path]
        return Function(
            function, tuple(Lun(n, **self._read_rows(lun, LUN_ROWS)) for n, lun in luns)
        )

    def _read_rows(self, path: Path, rows: Sequence[Attribute]) -> dict[str, Any]:
        return parse(rows, lambda name: self._text(path / name))

    def _write_rows(self, path: Path, rows: Sequence[Attribute], owner: object) -> None:
        for row in rows:
            text = row.text(owner)
            # The kernel answers EFAULT to a write of nothing, and empty is what new trees are.
            if text:
                self._write(path / row.name, text)

    def _make(self, undo: Undo, path: Path) -> None:
        self._luns.clear()
        self._do("make", path, self._kernel.mkdir)
        undo.add(f"remove {self._where(path)}", self._kernel.rmdir, path)

    def _link(self, undo: Undo, top: Path, name: str) -> None:
        link = top / CONFIGURATION / name
        self._do("link", link, lambda path: self._kernel.symlink(top / "functions" / name, path))
        undo.add(f"unlink {self._where(link)}", self._kernel.unlink, link)

    def _names(self) -> Sequence[str]:
        return self._listed(self._gadgets) or ()

    def _linked(self, top: Path) -> list[str]:
        """List the linked functions in the order in which `build` links them."""
        names: list[str] = self._do("list", top / CONFIGURATION, self._kernel.links)
        return sorted(names, key=lambda name: (not is_storage(name), natural_key(name)))

    def _lun(self, name: str, number: int) -> Path:
        if name not in self._luns:
            with suppress(ValueError):
                self._functions(name)
        # One that is not there fails where it would be, with a function of its own.
        place = self._gadgets / name / "functions" / f"{MASS_STORAGE}.{number}" / "lun.0"
        return self._luns.get(name, {}).get(number, place)


def _is_ours(name: str, ours: str) -> bool:
    return name == ours or name.startswith(f"{ours}.")
