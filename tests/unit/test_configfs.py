from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gadgetd.configfs import ConfigFs
from gadgetd.errors import GadgetError
from gadgetd.usb.attributes import FUNCTION_ROWS, LUN_ROWS, TABLES
from gadgetd.usb.gadget import Function, Gadget, Lun, compare, deal
from gadgetd.usb.kernelfs import Kernel
from tests.contract import configfs_contract as contract
from tests.contract.configfs_contract import NAME, Bench, failure
from tests.contract.faulty import FaultyKernel, Killed
from tests.fake_configfs import ROOT, FakeDisk, FakeKernel, FakeUdc

DISKS = (Path("/dev/mmcblk0"), Path("/dev/nvme0n1"), Path("/dev/nvme1n1"))
UDCS = ("dummy_udc.0", "dummy_udc.1")


def new_kernel() -> FakeKernel:
    disks = {str(disk): FakeDisk() for disk in DISKS}
    disks |= {"/dev/loop0": FakeDisk(size_bytes=0), "/dev/null": FakeDisk(device=False)}
    return FakeKernel(disks=disks, udcs={name: FakeUdc() for name in UDCS})


@pytest.fixture
def kernel() -> FakeKernel:
    return new_kernel()


@pytest.fixture
def fs(kernel: FakeKernel) -> ConfigFs:
    return ConfigFs(ROOT, kernel)


@pytest.fixture
def bench(kernel: FakeKernel) -> Bench:
    return Bench(kernel=kernel, disks=DISKS[:2], udcs=UDCS, empty_disk=Path("/dev/loop0"))


@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda each: each.__name__)
def test_the_fake_keeps_the_contract(bench: Bench, promise: contract.Promise) -> None:
    contract.keep(bench, promise)


def gadget(files: Sequence[Path | None] = DISKS) -> Gadget:
    return contract.gadget(list(files))


# Words.


def test_an_empty_disk_is_said_to_be_empty(fs: ConfigFs) -> None:
    error = failure(lambda fs: fs.build(gadget([Path("/dev/loop0")])), fs)
    assert error is not None
    assert error.message == (
        "cannot write functions/mass_storage.0/lun.0/file (/dev/loop0): the disk is empty"
    )
    assert error.hint


def test_a_missing_function_names_the_module_to_load(kernel: FakeKernel, fs: ConfigFs) -> None:
    kernel.functions = ("acm",)
    with pytest.raises(GadgetError, match="no such USB function") as raised:
        fs.build(gadget())
    assert "modprobe usb_f_mass_storage" in raised.value.hint
    assert kernel.tree() == []


def test_a_medium_that_the_host_locked_stays_until_it_is_forced_out(
    kernel: FakeKernel, fs: ConfigFs
) -> None:
    fs.build(gadget())
    kernel.lun(NAME).locked = True
    with pytest.raises(GadgetError, match="the host has locked the medium") as raised:
        fs.take_out(NAME, 0)
    assert raised.value.errno == errno.EBUSY
    changed = Lun(0, DISKS[2], "x" * 28, read_only=True)
    with pytest.raises(GadgetError, match="the host has locked the medium"):
        fs.set_lun(NAME, changed)
    assert fs.read_back(NAME) == gadget()
    fs.force_eject(NAME, 0)
    assert fs.lun_file(NAME, 0) is None
    fs.set_lun(NAME, changed)
    assert fs.lun(NAME, 0) == changed


def test_an_ejected_lun_reads_back_empty_and_takes_its_disk_again(
    kernel: FakeKernel, fs: ConfigFs
) -> None:
    fs.build(gadget())
    kernel.lun(NAME, number=1).host_ejects()
    assert fs.lun_file(NAME, 1) is None
    standing = fs.read_back(NAME)
    assert standing == gadget([DISKS[0], None, DISKS[2]])
    for lun in compare(standing, gadget()).luns:
        fs.set_lun(NAME, lun)
    assert fs.read_back(NAME) == gadget()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_disk_that_the_kernel_opens_read_only_by_itself_is_refused(
    kernel: FakeKernel, fs: ConfigFs, number: int
) -> None:
    kernel.disks["/dev/nvme0n1"].open_errno = number
    with pytest.raises(GadgetError, match="was to be writable and came out read-only") as raised:
        fs.build(gadget())
    assert "/dev/nvme0n1" in raised.value.message
    assert kernel.tree() == []
    fs.build(gadget([DISKS[0], None]))
    with pytest.raises(GadgetError, match="came out read-only"):
        fs.set_lun(NAME, fs.lun(NAME, 1)._replace(file=DISKS[1]))
    assert fs.lun_file(NAME, 1) is None
    fs.set_lun(NAME, gadget().luns[1]._replace(read_only=True))
    assert fs.lun(NAME, 1).read_only


def test_a_controller_in_use_is_said_by_which_gadget(fs: ConfigFs) -> None:
    fs.build(gadget()._replace(name="camera"))
    fs.bind("camera", UDCS[0])
    fs.build(gadget())
    with pytest.raises(GadgetError, match="gadget camera is bound to it") as raised:
        fs.bind(NAME, UDCS[0])
    assert raised.value.errno == errno.EBUSY
    fs.bind(NAME, UDCS[1])
    with pytest.raises(GadgetError, match="gadget gadgetd is bound to it"):
        fs.bind(NAME, UDCS[1])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_refusal_for_want_of_rights_says_root(kernel: FakeKernel, number: int) -> None:
    fs = ConfigFs(ROOT, FaultyKernel(kernel, fail={0: number}))
    with pytest.raises(GadgetError, match="not permitted") as raised:
        fs.build(gadget())
    assert "root" in raised.value.hint


def test_an_errno_without_words_of_ours_has_the_system_s(kernel: FakeKernel) -> None:
    fs = ConfigFs(ROOT, FaultyKernel(kernel, fail={0: errno.ENOMEM}))
    with pytest.raises(GadgetError, match="Cannot allocate memory"):
        fs.build(gadget())


# Mounting.


def test_configfs_is_mounted_if_it_is_not(kernel: FakeKernel, fs: ConfigFs) -> None:
    kernel.mounted = False
    assert fs.leftovers() == ()
    for _ in range(2):
        fs.mount()
        assert kernel.mounted
    fs.build(gadget())


def test_a_kernel_without_configfs_is_told(kernel: FakeKernel, fs: ConfigFs) -> None:
    kernel.mounted = kernel.configfs = False
    with pytest.raises(GadgetError, match="this kernel has no configfs") as raised:
        fs.mount()
    assert "modprobe configfs" in raised.value.hint


@pytest.mark.parametrize("mounted", [True, False])
def test_a_configfs_without_gadgets_is_told(
    kernel: FakeKernel, fs: ConfigFs, mounted: bool
) -> None:
    kernel.mounted, kernel.libcomposite = mounted, False
    with pytest.raises(GadgetError, match="no USB gadgets") as raised:
        fs.mount()
    assert "modprobe libcomposite" in raised.value.hint
    assert fs.leftovers() == ()
    assert fs.other_gadgets() == {}
    assert fs.read_back() is None
    fs.teardown(NAME)


# Undoing.


def test_an_undo_step_that_fails_is_told_and_the_rest_is_still_undone(kernel: FakeKernel) -> None:
    # The write of the second disk fails, and so does taking away the LUN it was for: what is
    # above that LUN cannot go either, all beside it is gone.
    wanted = gadget([DISKS[0], Path("/dev/null")])
    calls = FaultyKernel(kernel)
    assert failure(lambda fs: fs.build(wanted), ConfigFs(ROOT, calls)) is not None
    removal = next(
        number
        for number, (verb, path) in enumerate(calls.calls)
        if verb == "rmdir" and path.name == "lun.1"
    )
    error = failure(
        lambda fs: fs.build(wanted), ConfigFs(ROOT, FaultyKernel(kernel, fail={removal: 5}))
    )
    assert error is not None
    assert error.step == "write functions/mass_storage.0/lun.1/file"
    assert "not all of it could be undone: cannot remove functions/mass_storage.0/lun.1: " in str(
        error
    )
    assert "cannot remove functions/mass_storage.0: something is left in it" in str(error)
    assert kernel.tree() == [
        "gadgetd",
        "gadgetd/functions/mass_storage.0",
        "gadgetd/functions/mass_storage.0/lun.1",
    ]
    ConfigFs(ROOT, kernel).teardown(NAME)
    assert kernel.tree() == []


def test_a_build_that_is_interrupted_is_undone(
    kernel: FakeKernel, fs: ConfigFs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel, "symlink", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fs.build(gadget())
    assert kernel.tree() == []


def test_a_teardown_that_fails_goes_on_with_the_rest(kernel: FakeKernel, fs: ConfigFs) -> None:
    fs.build(gadget())
    calls = FaultyKernel(kernel)
    ConfigFs(ROOT, calls).teardown(NAME)
    number = next(n for n, call in enumerate(calls.calls) if call[0] == "unlink")
    fs.build(gadget())
    with pytest.raises(GadgetError, match="cannot take down gadget gadgetd: cannot unlink"):
        ConfigFs(ROOT, FaultyKernel(kernel, fail={number: errno.EIO})).teardown(NAME)
    assert kernel.tree() == [
        "gadgetd",
        "gadgetd/configs/c.1",
        "gadgetd/configs/c.1/mass_storage.0@",
        "gadgetd/functions/mass_storage.0",
    ]


# Reading back.


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("configs/c.1/bmAttributes", "0xc0"),
        ("functions/mass_storage.0/lun.0/nofua", "1"),
        ("functions/mass_storage.0/lun.1/removable", "0"),
    ],
)
def test_a_gadget_that_was_meddled_with_is_not_taken_for_ours(
    kernel: FakeKernel, fs: ConfigFs, place: str, text: str
) -> None:
    fs.build(gadget())
    kernel.write(ROOT / "usb_gadget" / NAME / place, text)
    assert fs.read_back(NAME) is None
    fs.set_lun(NAME, fs.lun(NAME, 0)._replace(file=DISKS[1]))
    assert fs.lun_file(NAME, 0) == DISKS[1]


@pytest.mark.parametrize(
    "place", ["functions/mass_storage.x", "functions/mass_storage.0/lun.9", "functions/acm.usb0"]
)
def test_a_tree_with_strange_directories_is_not_taken_for_ours(
    kernel: FakeKernel, fs: ConfigFs, place: str
) -> None:
    fs.build(gadget())
    top = ROOT / "usb_gadget" / NAME
    kernel.unlink(top / "configs/c.1/mass_storage.0")
    kernel.mkdir(top / place)
    kernel.symlink(top / "functions/mass_storage.0", top / "configs/c.1/mass_storage.0")
    assert fs.read_back(NAME) is None


def test_the_node_of_a_disk_that_left_is_never_equal_to_one_that_is_there(
    kernel: FakeKernel, fs: ConfigFs
) -> None:
    fs.build(gadget())
    kernel.lun(NAME).file = "/dev/mmcblk0 (deleted)"
    assert fs.lun_file(NAME, 0) != DISKS[0]
    assert [lun.number for lun in compare(fs.read_back(NAME), gadget()).luns] == [0]
    fs.set_lun(NAME, gadget().luns[0])
    assert fs.read_back(NAME) == gadget()


def test_only_gadgets_of_our_name_are_leftovers(kernel: FakeKernel, fs: ConfigFs) -> None:
    names = ("gadgetd.10", "gadgetd2", "gadgetd.2", "gadgetd", "g")
    for name in names:
        kernel.mkdir(ROOT / "usb_gadget" / name)
    assert fs.leftovers() == ("gadgetd", "gadgetd.2", "gadgetd.10")
    assert fs.other_gadgets() == {"g": "", "gadgetd2": ""}


# The attribute table.


def test_file_is_written_last_and_ro_after_cdrom() -> None:
    names = [row.name for row in LUN_ROWS]
    assert names[-1] == "file"
    assert names.index("cdrom") < names.index("ro")


def test_every_attribute_carries_a_field_or_a_constant() -> None:
    for rows in (*TABLES.values(), FUNCTION_ROWS, LUN_ROWS):
        for row in rows:
            assert bool(row.field) != (row.constant is not None), row.name


def test_every_field_of_the_plan_has_its_attribute() -> None:
    carried = {row.field for rows in TABLES.values() for row in rows if row.field}
    assert carried == {*Gadget._fields} - {"functions", "name"}
    assert {row.field for row in LUN_ROWS if row.field} == {*Lun._fields} - {"number"}


# The calls to the real system that need no configfs.


def test_the_real_kernel_s_calls_do_what_their_names_say(tmp_path: Path) -> None:
    kernel = Kernel()
    with pytest.raises(FileNotFoundError):
        kernel.write(tmp_path / "missing", "1")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "attribute").write_text("0\n")
    kernel.write(tmp_path / "attribute", "1\n")
    assert kernel.read(tmp_path / "attribute") == "1\n"
    kernel.mkdir(tmp_path / "item")
    kernel.symlink(tmp_path / "item", tmp_path / "link")
    assert kernel.directories(tmp_path) == ["item"]
    assert kernel.links(tmp_path) == ["link"]
    kernel.unlink(tmp_path / "link")
    kernel.rmdir(tmp_path / "item")
    # Which errno it is depends on who runs the tests, and on what kernel.
    with pytest.raises(OSError, match=r"\[Errno \d+\]"):
        kernel.mount_configfs(tmp_path / "missing")


# Any gadget, any order of events.

texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF), max_size=40)
inquiries = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1).map(
    lambda text: text[:28].ljust(28)
)
files = st.sampled_from((None, *DISKS))


@st.composite
def gadgets(draw: st.DrawFn) -> Gadget:
    count = draw(st.integers(1, 20))
    luns = [Lun(n, draw(files), draw(inquiries), draw(st.booleans())) for n in range(count)]
    functions = [*deal(luns, draw(st.integers(1, 7)))]
    if draw(st.booleans()):
        functions.append(Function("acm.usb0"))
    version = "".join(str(draw(st.integers(0, 9))) for _ in range(4))
    return Gadget(
        vendor_id=draw(st.integers(0, 0xFFFF)),
        product_id=draw(st.integers(0, 0xFFFF)),
        device_version=int(version, 16),
        manufacturer=draw(texts),
        product=draw(texts),
        serial=draw(texts),
        max_power_ma=draw(st.integers(1, 2040)),
        functions=tuple(functions),
        name=NAME,
    )


@settings(deadline=None)
@given(gadgets())
def test_any_gadget_reads_back_equal_and_leaves_nothing(wanted: Gadget) -> None:
    kernel = new_kernel()
    fs = ConfigFs(ROOT, kernel)
    fs.build(wanted)
    assert fs.read_back(NAME) == wanted
    assert not compare(wanted, wanted)
    fs.bind(NAME, UDCS[0])
    fs.teardown(NAME)
    assert kernel.tree() == []
    assert kernel.udcs[UDCS[0]].gadget is None


@settings(deadline=None)
@given(gadgets(), st.lists(st.integers(0, 300), min_size=1, max_size=4, unique=True), st.data())
def test_whatever_fails_the_next_teardown_leaves_nothing(
    wanted: Gadget, numbers: list[int], data: st.DataObject
) -> None:
    kernel = new_kernel()
    fail = {n: data.draw(st.sampled_from((errno.EIO, errno.ENOMEM, errno.EBUSY))) for n in numbers}
    faulty = FaultyKernel(kernel, fail)
    error = failure(lambda fs: fs.build(wanted), ConfigFs(ROOT, faulty))
    fs = ConfigFs(ROOT, kernel)
    assert (fs.read_back(NAME) == wanted) is (error is None)
    if error is not None:
        undone = "could be undone" not in error.message
        assert (kernel.tree() == []) is undone
    fs.teardown(NAME)
    assert kernel.tree() == []


class AnyOrder(RuleBasedStateMachine):
    """The gadget as configfs.py handles it, against the value that it ought to be."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = new_kernel()
        self.fs = ConfigFs(ROOT, self.kernel)
        self.standing: Gadget | None = None
        self.udc = ""

    @initialize(wanted=gadgets())
    def build_first(self, wanted: Gadget) -> None:
        self.fs.build(wanted)
        self.standing = wanted

    @precondition(lambda self: self.standing is None)
    @rule(wanted=gadgets())
    def build(self, wanted: Gadget) -> None:
        self.fs.build(wanted)
        self.standing = wanted

    @rule()
    def teardown(self) -> None:
        self.fs.teardown(NAME)
        self.standing, self.udc = None, ""

    @precondition(lambda self: self.standing is not None and not self.udc)
    @rule(udc=st.sampled_from(UDCS))
    def bind(self, udc: str) -> None:
        self.fs.bind(NAME, udc)
        self.udc = udc

    @rule()
    def unbind(self) -> None:
        self.fs.unbind(NAME)
        self.udc = ""

    @precondition(lambda self: self.standing is not None)
    @rule(number=st.integers(0, 19), force=st.booleans())
    def host_ejects(self, number: int, force: bool) -> None:
        assert self.standing is not None
        lun = self.standing.luns[number % len(self.standing.luns)]
        index, function = divmod(lun.number, len(self.standing.storage))
        host = self.kernel.lun(NAME, f"mass_storage.{function}", index)
        if force:
            host.locked = True
            self.fs.force_eject(NAME, lun.number)
        else:
            host.host_ejects()
        self._replace(lun._replace(file=None))

    @precondition(lambda self: self.standing is not None)
    @rule(number=st.integers(0, 19), file=files, inquiry=inquiries, read_only=st.booleans())
    def change(self, number: int, file: Path | None, inquiry: str, read_only: bool) -> None:
        assert self.standing is not None
        lun = Lun(number % len(self.standing.luns), file, inquiry, read_only)
        self.fs.set_lun(NAME, lun)
        self._replace(lun)

    @precondition(lambda self: self.standing is not None)
    @rule(wanted=gadgets())
    def become(self, wanted: Gadget) -> None:
        """Do what `compare` says, as the daemon does."""
        assert self.standing is not None
        changes = compare(self.fs.read_back(NAME), wanted)
        if changes.rebuild:
            self.fs.teardown(NAME)
            self.fs.build(wanted)
            self.udc = ""
        else:
            if changes.extend:
                self.fs.extend(wanted)
            for lun in changes.luns:
                self.fs.set_lun(NAME, lun)
        self.standing = wanted

    @precondition(lambda self: self.standing is not None)
    @rule(files=st.lists(files, min_size=1, max_size=9), inquiry=inquiries)
    def grow(self, files: list[Path | None], inquiry: str) -> None:
        assert self.standing is not None
        luns = list(self.standing.luns)
        luns += [Lun(len(luns) + n, file, inquiry) for n, file in enumerate(files)]
        storage = len(self.standing.storage)
        functions = [*deal(luns, 7 if len(self.standing.luns) == storage else storage)]
        if len(functions) > storage != len(self.standing.luns):
            return  # The LUNs that there are would move.
        functions += [f for f in self.standing.functions if not f.luns]
        wanted = self.standing._replace(functions=tuple(functions))
        assert compare(self.standing, wanted).extend
        self.fs.extend(wanted)
        self.standing = wanted

    @rule(wanted=gadgets(), number=st.integers(0, 300))
    def die_and_start_again(self, wanted: Gadget, number: int) -> None:
        dying = ConfigFs(ROOT, FaultyKernel(self.kernel, kill_at=number))
        try:
            dying.teardown(NAME)
            dying.build(wanted)
            dying.bind(NAME, UDCS[0])
        except Killed:
            if compare(self.fs.read_back(NAME), wanted):
                self.fs.teardown(NAME)
                self.fs.build(wanted)
        self.standing, self.udc = wanted, self.fs.bound_udc(NAME)

    def _replace(self, lun: Lun) -> None:
        assert self.standing is not None
        functions = tuple(
            function._replace(
                luns=tuple(lun if each.number == lun.number else each for each in function.luns),
            )
            for function in self.standing.functions
        )
        self.standing = self.standing._replace(functions=functions)

    @invariant()
    def what_stands_is_what_ought_to(self) -> None:
        assert self.fs.read_back(NAME) == self.standing
        assert self.fs.bound_udc(NAME) == self.udc
        assert (self.kernel.tree() == []) is (self.standing is None)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_a_usb_version_that_the_kernel_raised_is_no_reason_to_build_anew(
    fs: ConfigFs, kernel: FakeKernel
) -> None:
    fs.build(gadget())
    fs.bind(NAME, UDCS[0])
    kernel.write(ROOT / "usb_gadget" / NAME / "bcdUSB", "0x0210")  # as enumeration does
    assert not compare(fs.read_back(NAME), gadget())
