"""The scan on a mocked sysfs: which disks there are, which never go out, which are on their way."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pyudev
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gadgetd.blockscan import _SUBSYSTEMS, NO_MEDIUM, BlockScan, _uses
from gadgetd.disks.disk import Disk, Found, Kind, Pending
from gadgetd.usb.gadget import UsbIdentity
from tests.unit.fakes import open_fds
from tests.unit.mocked_board import MockedBoard

CM4 = (Path(__file__).parents[1] / "data" / "cm4.umockdev").read_text()
MMC = "/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0"
PCI = "/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0"
NVME = f"{PCI}/0000:01:00.0"

Boards = Callable[..., MockedBoard]


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Boards]:
    made: list[MockedBoard] = []

    def make(*recordings: str) -> MockedBoard:
        made.append(MockedBoard(*recordings, proc=tmp_path))
        return made[-1]

    yield make
    for board in made:
        board.close()


def block(path: str, size: int = 1 << 20, *lines: str, ro: int = 0) -> str:
    name = path.rpartition("/")[2]
    return "\n".join(
        [
            f"P: {path}",
            f"N: {name}",
            "E: SUBSYSTEM=block",
            "E: DEVTYPE=disk",
            f"A: size={size // 512}\\n",
            f"A: ro={ro}\\n",
            *lines,
            "\n",
        ]
    )


def device(path: str, subsystem: str, *lines: str) -> str:
    return "\n".join([f"P: {path}", f"E: SUBSYSTEM={subsystem}", *lines, "\n"])


def scsi(
    target: str, name: str, *, vendor: str = "ATA", model: str = "Disk", size: int = 1 << 30
) -> str:
    return device(
        target,
        "scsi",
        f"A: vendor={vendor:8}\\n",
        f"A: model={model:16}\\n",
    ) + block(f"{target}/block/{name}", size, f"L: device=../../../{target.rpartition('/')[2]}")


def usb_disk(name: str, vendor: str, product: str, serial: str | None, port: str = "1-1") -> str:
    usb = f"{PCI}/0000:01:00.0/usb1/{port}"
    lines = [f"A: idVendor={vendor}\\n", f"A: idProduct={product}\\n", "E: DEVTYPE=usb_device"]
    if serial is not None:
        lines.append(f"A: serial={serial}\\n")
    return (
        device(f"{PCI}/0000:01:00.0", "pci", "A: class=0x0c0330\\n", "E: DRIVER=xhci_hcd")
        + device(usb, "usb", *lines)
        + scsi(f"{usb}/{port}:1.0/host0/target0:0:0/0:0:0:0", name, vendor="Maker", model="Stick")
    )


def refusals(board: MockedBoard, *own: UsbIdentity) -> dict[str, str]:
    return {name: found.refusal for name, found in board.disks(own).items()}


# The board as it is


def test_a_cm4s_disks_are_found_and_nothing_else_is_offered(boards: Boards) -> None:
    board = boards(CM4)
    assert refusals(board) == {
        "mmcblk0": "",
        "nvme0n1": "",
        "mmcblk0boot0": "boot area of an eMMC: never exported",
        "mmcblk0boot1": "boot area of an eMMC: never exported",
        "mmcblk0rpmb": "replay-protected area of an eMMC: never exported",
        "loop0": "loop device: never exported",
        "ram0": "RAM disk: never exported",
    }
    assert board.pending() == ()


def test_a_cm4s_disks_are_described_as_the_kernel_has_them(boards: Boards) -> None:
    found = boards(CM4).disks()
    assert found["mmcblk0"].disk == Disk(
        "mmcblk0",
        Kind.EMMC,
        Path("/dev/mmcblk0"),
        31_268_536_320,
        model="BJTD4R",
        serial="0x1f2e3d4c",
        location="fe340000.mmc",
    )
    assert found["nvme0n1"].disk == Disk(
        "nvme0n1",
        Kind.NVME,
        Path("/dev/nvme0n1"),
        500_107_862_016,
        model="Samsung SSD 980 500GB",
        serial="S64DNX0R123456",
        location="0000:01:00.0 n1",
    )


def test_an_sd_card_is_no_emmc(boards: Boards) -> None:
    host = "/devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0"
    board = boards(
        device(host, "mmc_host")
        + device(f"{host}/mmc0:aaaa", "mmc", "A: type=SD\\n", "A: name=SC32G\\n")
        + block(f"{host}/mmc0:aaaa/block/mmcblk0", 1 << 35, "L: device=../../../mmc0:aaaa", ro=1)
    )
    disk = board.disks()["mmcblk0"].disk
    assert (disk.kind, disk.model, disk.serial, disk.read_only) == (Kind.SD, "SC32G", "", True)


def test_an_emmcs_general_purpose_areas_are_left_out(boards: Boards) -> None:
    board = boards(CM4 + "\n" + block(f"{MMC}/mmc0:0001/block/mmcblk0/mmcblk0gp3"))
    assert refusals(board)["mmcblk0gp3"] == "general-purpose area of an eMMC: never exported"


def test_a_4kn_disk_keeps_its_block_size(boards: Boards) -> None:
    board = boards(
        block(f"{NVME}/nvme/nvme0/nvme0n1", 1 << 30, "A: queue/logical_block_size=4096\\n")
    )
    disk = board.disks()["nvme0n1"].disk
    assert (disk.block_size, disk.size_bytes) == (4096, 1 << 30)


def test_a_hidden_path_of_a_multipath_disk_is_left_out_and_the_disk_is_not(boards: Boards) -> None:
    # With multipath the disk hangs below its subsystem, and each path below its controller.
    subsystem = "/devices/virtual/nvme-subsystem/nvme-subsys0"
    board = boards(
        device(NVME, "pci", "A: class=0x010802\\n", "E: DRIVER=nvme")
        + device(f"{NVME}/nvme/nvme0", "nvme", "A: state=live\\n")
        + block(f"{NVME}/nvme/nvme0/nvme0c0n1", 1 << 30, "A: hidden=1\\n").replace(
            "N: nvme0c0n1\n", ""
        )
        + device(subsystem, "nvme-subsystem", "A: model=Model X   \\n", "A: serial=S1   \\n")
        + block(f"{subsystem}/nvme0n1", 1 << 30, "A: hidden=0\\n", "L: device=../../nvme-subsys0")
    )
    assert refusals(board) == {"nvme0c0n1": "hidden path of a multipath NVMe disk", "nvme0n1": ""}
    disk = board.disks()["nvme0n1"].disk
    assert (disk.kind, disk.model, disk.serial) == (Kind.NVME, "Model X", "S1")
    assert board.pending() == ()


def test_two_namespaces_of_one_controller_have_two_locations(boards: Boards) -> None:
    board = boards(
        device(NVME, "pci", "A: class=0x010802\\n")
        + block(f"{NVME}/nvme/nvme0/nvme0n1", 1 << 30, "A: nsid=1\\n")
        + block(f"{NVME}/nvme/nvme0/nvme0n2", 1 << 30, "A: nsid=2\\n")
    )
    assert len({found.disk.location for found in board.disks().values()}) == 2


def test_a_usb_disk_behind_pcie_is_a_usb_disk_with_the_sticks_serial_number(boards: Boards) -> None:
    found = boards(usb_disk("sda", "0781", "5581", "4C530001")).disks()["sda"]
    assert found.refusal == ""
    assert (found.disk.kind, found.disk.model, found.disk.serial) == (
        Kind.USB,
        "Maker Stick",
        "4C530001",
    )


def test_a_sata_disk_is_a_sata_disk(boards: Boards) -> None:
    target = f"{NVME}/ata1/host0/target0:0:0/0:0:0:0"
    board = boards(device(NVME, "pci", "A: class=0x010601\\n") + scsi(target, "sda"))
    found = board.disks()["sda"]
    assert found.refusal == ""
    assert (found.disk.kind, found.disk.model) == (Kind.SATA, "ATA Disk")


def test_another_scsi_disk_is_of_no_known_kind_and_may_be_asked_for(boards: Boards) -> None:
    board = boards(scsi("/devices/pseudo_0/adapter0/host0/target0:0:0/0:0:0:0", "sda"))
    found = board.disks()["sda"]
    assert (found.refusal, found.disk.kind) == ("", Kind.OTHER)


def test_a_card_reader_without_a_card_is_left_out(boards: Boards) -> None:
    recording = usb_disk("sda", "05e3", "0749", "0001").replace("A: size=2097152", "A: size=0")
    assert refusals(boards(recording)) == {"sda": NO_MEDIUM}


def test_what_is_no_disk_of_a_known_kind_is_left_out(boards: Boards) -> None:
    names = ("sr0", "dm-0", "md0", "nbd0", "zd0", "fd0", "mtdblock0", "pmem0")
    board = boards("".join(block(f"/devices/virtual/block/{name}") for name in names))
    assert refusals(board) == dict.fromkeys(names, "not an eMMC, SD, NVMe, SATA or USB disk")


def test_zram_is_left_out(boards: Boards) -> None:
    board = boards(block("/devices/virtual/block/zram0"))
    assert refusals(board) == {"zram0": "compressed RAM disk: never exported"}


def test_a_disk_without_any_attribute_is_no_error(boards: Boards) -> None:
    board = boards("P: /devices/virtual/block/nvme9n1\nE: SUBSYSTEM=block\nE: DEVTYPE=disk\n")
    assert board.disks()["nvme9n1"] == Found(
        Disk("nvme9n1", Kind.NVME, Path("/dev/nvme9n1"), 0), "no medium (size 0)"
    )


# Our own gadget

OWN = UsbIdentity(0x0A5C, 0x0104, "10000000a1b2c3d4")


def test_a_disk_that_comes_back_through_our_own_gadget_is_never_exported(boards: Boards) -> None:
    board = boards(usb_disk("sda", "0a5c", "0104", OWN.serial))
    assert refusals(board, OWN) == {"sda": "comes from this gadget itself"}


def test_our_own_gadget_is_known_by_what_it_was_and_by_what_it_will_be(boards: Boards) -> None:
    # While another identity waits for the host, and just after it has come.
    new = UsbIdentity(0x1D6B, 0x0104, "bench-7")
    ours = {"sda": "comes from this gadget itself"}
    board = boards(usb_disk("sda", "0a5c", "0104", OWN.serial))
    assert refusals(board, OWN, new) == refusals(board, OWN) == ours
    assert refusals(board, new) == refusals(board) == {"sda": ""}
    board = boards(usb_disk("sda", "1d6b", "0104", "bench-7"))
    assert refusals(board, OWN, new) == refusals(board, new) == ours
    assert refusals(board, OWN) == {"sda": ""}


@pytest.mark.parametrize(
    ("vendor", "product", "serial"),
    [
        ("0a5c", "0104", "10000000ffffffff"),
        ("0a5c", "0104", None),
        ("0a5c", "0105", OWN.serial),
        ("1d6b", "0104", OWN.serial),
    ],
)
def test_a_disk_that_only_looks_like_our_gadget_may_be_exported(
    boards: Boards, vendor: str, product: str, serial: str | None
) -> None:
    # Such as another board of the same kind, plugged into this one.
    board = boards(usb_disk("sda", vendor, product, serial))
    assert refusals(board, OWN) == {"sda": ""}


# Disks in use

MOUNTINFO = """\
21 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw
35 1 179:2 / / rw,relatime shared:1 - ext4 /dev/mmcblk0p2 rw
36 35 259:0 / /mnt/a\\040disk rw - ext4 /dev/nvme0n1 rw
37 35 0:30 / /tmp rw master:1 propagate_from:2 - tmpfs tmpfs rw
"""


def test_a_mounted_disk_is_never_exported(boards: Boards, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(MOUNTINFO)
    told = refusals(boards(CM4))
    assert told["mmcblk0"] == "mounted at /"
    assert told["nvme0n1"] == "mounted at /mnt/a\\040disk"


def test_a_disk_with_swap_is_never_exported(boards: Boards, tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text(
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        "/dev/mmcblk0p1                          partition\t1048572\t0\t-2\n"
    )
    assert refusals(boards(CM4))["mmcblk0"] == "in use as swap"


def test_a_disk_that_is_part_of_another_is_never_exported(boards: Boards) -> None:
    board = boards(CM4)
    board.change(f"{MMC}/mmc0:0001/block/mmcblk0/mmcblk0p2", "holders/dm-0", "")
    board.change(f"{NVME}/nvme/nvme0/nvme0n1", "holders/md127", "")
    told = refusals(board)
    assert told["mmcblk0"] == "in use by dm-0"
    assert told["nvme0n1"] == "in use by md127"


def test_why_a_disk_never_goes_out_comes_before_its_use(boards: Boards, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text("36 35 7:0 / /mnt rw - ext4 /dev/loop0 rw\n")
    assert refusals(boards(CM4))["loop0"] == "loop device: never exported"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mountinfo=st.text(st.sampled_from(" -/\n\t\\devabc019"), max_size=80),
    swaps=st.text(st.sampled_from(" /\n\tdev01"), max_size=60),
)
def test_no_table_of_mounts_or_swaps_is_an_error(
    tmp_path: Path, mountinfo: str, swaps: str
) -> None:
    (tmp_path / "self").mkdir(exist_ok=True)
    (tmp_path / "self" / "mountinfo").write_text(mountinfo)
    (tmp_path / "swaps").write_text(swaps)
    _uses(tmp_path)


# Disks on their way


def test_an_nvme_function_without_its_namespace_is_a_disk_on_its_way(boards: Boards) -> None:
    board = boards(device(NVME, "pci", "A: class=0x010802\\n"))
    expected = (Pending("0000:01:00.0", Kind.NVME, "NVMe at 0000:01:00.0"),)
    assert board.pending() == expected
    board.plug(device(f"{NVME}/nvme/nvme0", "nvme", "A: state=connecting\\n"))
    assert board.pending() == expected
    board.plug(block(f"{NVME}/nvme/nvme0/nvme0n1"))
    assert board.pending() == ()


@pytest.mark.parametrize(
    ("state", "awaited"), [("live", 1), ("new", 1), ("dead", 0), ("deleting", 0)]
)
def test_an_nvme_controller_that_is_dead_is_not_waited_for(
    boards: Boards, state: str, awaited: int
) -> None:
    board = boards(
        device(NVME, "pci", "A: class=0x010802\\n")
        + device(f"{NVME}/nvme/nvme0", "nvme", f"A: state={state}\\n")
    )
    assert len(board.pending()) == awaited


def test_other_pci_functions_are_not_waited_for(boards: Boards) -> None:
    board = boards(
        device(PCI, "pci", "A: class=0x060400\\n")
        + device(f"{PCI}/0000:01:00.0", "pci", "A: class=0x0c0330\\n")
        + device(f"{PCI}/0000:02:00.0", "pci", "A: class=0x020000\\n")
        + device(f"{PCI}/0000:03:00.0", "pci")
    )
    assert board.pending() == ()


def test_a_host_of_cards_that_looks_empty_so_far_may_have_one(boards: Boards) -> None:
    board = boards(device(MMC, "mmc_host"))
    assert board.pending() == (Pending("mmc0", Kind.SD, "card in mmc0", certain=False),)


@pytest.mark.parametrize("card", ["MMC", "SD"])
def test_a_card_without_its_disk_is_on_its_way(boards: Boards, card: str) -> None:
    board = boards(
        device(MMC, "mmc_host") + device(f"{MMC}/mmc0:0001", "mmc", f"A: type={card}\\n")
    )
    assert board.pending() == (Pending("mmc0:0001", Kind.SD, "card mmc0:0001"),)


def test_an_sdio_radio_is_no_card_and_leaves_no_slot_to_wait_for(boards: Boards) -> None:
    board = boards(device(MMC, "mmc_host") + device(f"{MMC}/mmc0:0001", "mmc", "A: type=SDIO\\n"))
    assert board.pending() == ()


def test_a_card_host_on_pcie_without_its_driver_may_have_a_card(boards: Boards) -> None:
    path = f"{PCI}/0000:02:00.0"
    board = boards(device(path, "pci", "A: class=0x080501\\n"))
    assert board.pending() == (
        Pending("0000:02:00.0", Kind.SD, "SD host at 0000:02:00.0", certain=False),
    )
    assert (
        boards(device(path, "pci", "A: class=0x080501\\n", "L: driver=../sdhci-pci")).pending()
        == ()
    )


# Uevents


def test_a_disk_that_appears_between_the_start_and_the_look_is_not_lost(boards: Boards) -> None:
    board = boards()
    board.plug(block(f"{NVME}/nvme/nvme0/nvme0n1"))
    assert board.drain(5) == frozenset(("block",))
    assert list(board.disks()) == ["nvme0n1"]


def test_a_disk_that_leaves_is_told(boards: Boards) -> None:
    board = boards(CM4)
    board.unplug(f"{NVME}/nvme/nvme0/nvme0n1")
    assert board.drain(5) == frozenset(("block",))
    assert "nvme0n1" not in board.disks()


def test_many_events_are_one_look(boards: Boards) -> None:
    board = boards(CM4)
    for _ in range(5):
        board.uevent(f"{NVME}/nvme/nvme0/nvme0n1", "change")
        board.uevent(f"{MMC}/mmc0:0001", "change")
    assert board.drain(5) == frozenset(
        (
            "block",
            "mmc",
        )
    )
    assert board.drain(0) is None


def test_events_of_what_cannot_matter_wake_nobody(boards: Boards) -> None:
    board = boards(device("/devices/virtual/net/eth0", "net"))
    board.uevent("/devices/virtual/net/eth0", "add")
    assert not board.drain(0.1)


class FakeMonitor:
    """A monitor whose `poll` gives what the test says; an error is raised."""

    def __init__(self, *answers: object, fd: int = -1) -> None:
        self._answers = list(answers)
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def poll(self, timeout: float) -> object:
        assert timeout == 0, "a drain never waits"
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def scan_with(monitor: Any) -> BlockScan:
    scan = BlockScan()
    scan.listen(monitor)
    return scan


def ready(fd: int) -> int:
    """Give what poll(2) reports at once, 0 for nothing."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return next((events for _, events in poll.poll(0)), 0)


@pytest.mark.parametrize(
    "lost",
    [
        OSError(errno.ENOBUFS, "No buffer space available"),
        OSError("Error while polling"),
        # What the image's libudev, eudev's, makes of an event that it leaves out.
        ValueError("Invalid argument"),
        OverflowError("Value too large for defined data type"),
        MemoryError("Cannot allocate memory"),
    ],
)
def test_an_error_of_the_monitor_counts_as_an_event_of_everything(lost: Exception) -> None:
    scan = scan_with(FakeMonitor(SimpleNamespace(subsystem="block"), lost))
    assert scan.drain() == set(_SUBSYSTEMS)


def test_an_error_of_the_socket_is_taken_off_it_so_that_it_is_told_once() -> None:
    one, other = socket.socketpair()
    with one, other:
        # What the peer has not read when it closes is an error on this end.
        one.send(b"x")
        other.close()
        assert ready(one.fileno()) & select.POLLERR
        before = open_fds()
        scan_with(FakeMonitor(OSError("Error while polling"), fd=one.fileno())).drain()
        assert not ready(one.fileno()) & select.POLLERR
        assert open_fds() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may send uevents")
def test_a_real_overflow_is_an_event_of_everything_and_then_over() -> None:
    # What pyudev makes of it, on the kernel's own netlink socket.
    monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor.start()
    netlink = socket.AF_NETLINK, socket.SOCK_RAW, 15  # NETLINK_KOBJECT_UEVENT
    with socket.socket(fileno=os.dup(monitor.fileno())) as receiver, socket.socket(*netlink) as us:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        # Nobody takes these for the kernel's, for they do not come from it.
        for _ in range(60):
            us.sendto(b"add@/x\0ACTION=add\0DEVPATH=/x\0SUBSYSTEM=x\0SEQNUM=1\0", (0, 1))
    assert ready(monitor.fileno()) & select.POLLERR
    scan = scan_with(monitor)
    assert scan.drain() == set(_SUBSYSTEMS)
    assert not ready(monitor.fileno()) & select.POLLERR
    for _ in range(60):
        assert scan.drain() == frozenset()
    assert not ready(monitor.fileno())


def test_nothing_to_read_is_no_event() -> None:
    assert scan_with(FakeMonitor()).drain() == frozenset()


def test_nobody_listens_before_he_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes longer than to give the host what is there.
    calls: list[str] = []
    monitor = SimpleNamespace(
        filter_by=lambda name: calls.append(name),
        set_receive_buffer_size=lambda size: calls.append(f"{size >> 20} MiB"),
        start=lambda: calls.append("start"),
        fileno=lambda: 7,
    )

    def from_netlink(_context: object, source: str) -> SimpleNamespace:
        calls.append(source)
        return monitor

    monkeypatch.setattr(pyudev.Monitor, "from_netlink", from_netlink)
    scan = BlockScan()
    assert (scan.fileno(), scan.drain(), calls) == (-1, frozenset(), [])
    scan.listen()
    assert calls == ["kernel", *_SUBSYSTEMS, "4 MiB", "start"]
    assert scan.fileno() == 7


def test_a_buffer_that_the_kernel_does_not_enlarge_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[bool] = []

    def refuse(_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monitor = SimpleNamespace(
        filter_by=lambda _: None,
        set_receive_buffer_size=refuse,
        start=lambda: started.append(True),
    )
    monkeypatch.setattr(pyudev.Monitor, "from_netlink", lambda *_, **__: monitor)
    BlockScan().listen()
    assert started


def test_a_device_that_vanishes_during_the_look_is_looked_around(tmp_path: Path) -> None:
    # Of one there is no more than the link to it, of the other the directory is half gone.
    (tmp_path / "class" / "block").mkdir(parents=True)
    for name in ("sda", "sdb"):
        (tmp_path / "class" / "block" / name).symlink_to(f"../../devices/x/block/{name}")
    (tmp_path / "devices" / "x" / "block" / "sdb").mkdir(parents=True)
    assert BlockScan(sys=tmp_path).disks() == ()


def test_a_partition_whose_disk_has_just_left_is_no_error(tmp_path: Path) -> None:
    partition = tmp_path / "devices" / "x" / "block" / "sda" / "sda1"
    partition.mkdir(parents=True)
    (partition / "uevent").write_text("DEVNAME=sda1\nDEVTYPE=partition\nPARTN=1\n")
    (tmp_path / "class" / "block").mkdir(parents=True)
    (tmp_path / "class" / "block" / "sda1").symlink_to("../../devices/x/block/sda/sda1")
    assert BlockScan(sys=tmp_path).disks() == ()
