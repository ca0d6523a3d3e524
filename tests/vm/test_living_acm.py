"""The serial console over the USB cable: a root login for the host, beside the disks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from emulator import Drive, HostBlock, MachineOptions, UartShell
from tests.vm.board import WAIT_S, Board, inquiry, until, yaml_file
from tests.vm.conftest import Bench
from tests.vm.living import (
    FILES,
    HOSTSIDE,
    MIB,
    PYTHON,
    assert_host_undisturbed,
    mark,
    traffic,
)

pytestmark = pytest.mark.emulated

SIZES = [32 * MIB, 48 * MIB]
PORT = "acm"
"""A way out of the board for the host's /dev/ttyACM0, to where pyserial is."""
TTY = "readlink /proc/self/fd/1"


@pytest.fixture(scope="module")
def board(bench: Bench) -> Iterator[Board]:
    sd, nvme = SIZES
    port = ("-chardev", f"pty,id={PORT}", "-device", f"virtserialport,chardev={PORT},name={PORT}")
    options = MachineOptions(
        sd=Drive(sd),
        nvme=(Drive(nvme),),
        files={**FILES, **yaml_file("usb:\n  acm: true\n")},
        qemu_arguments=port,
    )
    board = bench.boot("living_acm", options)
    board.expect_phase("exported")
    yield board
    bench.switch_off()


@pytest.fixture
def blocks(board: Board) -> list[HostBlock]:
    return board.host.wait_for_blocks(2, WAIT_S)


@contextmanager
def cable(board: Board) -> Iterator[UartShell]:
    """The host's serial port, opened with pyserial. The terminal may end it before we do."""
    devices = board.machine.monitor.execute("query-chardev")
    (path,) = (each["filename"] for each in devices if each["label"] == PORT)
    until("the host has a serial port", lambda: board.host.run("ls /dev/ttyACM0")[0] == 0)
    bridge = f"{PYTHON} {HOSTSIDE} bridge /dev/ttyACM0 /dev/vport0p2"
    pid = board.host.check(f"{bridge} >/tmp/bridge 2>&1 & echo $!").strip()
    shell = UartShell(path.removeprefix("pty:"), log=board.directory / "acm.log")
    try:
        until("the port is open", lambda: "open" in board.host.check("cat /tmp/bridge"))
        shell.line.send(b"\n")
        yield shell
    finally:
        shell.close()
        board.host.run(f"kill {pid}")
        until("the host closes its serial port", lambda: board.host.run(f"kill -0 {pid}")[0])


def test_the_disks_enumerate_as_without_it(board: Board, blocks: list[HostBlock]) -> None:
    assert [block.inquiry for block in blocks] == [inquiry("SD mmcblk0"), inquiry("NVMe nvme0n1")]
    assert [block.size_bytes for block in blocks] == SIZES
    assert [(block.function, block.lun) for block in blocks] == [(0, 0), (1, 0)]
    assert (blocks[0].id_vendor, blocks[0].id_product) == ("0a5c", "0104")
    for name, want in (("bNumInterfaces", "4"), ("bDeviceClass", "00")):
        assert board.host.check(f"cat /sys/bus/usb/devices/1-1/{name}").strip() == want
    drivers = board.host.check(
        "for each in /sys/bus/usb/devices/1-1:1.*/driver; do readlink $each; done"
    ).split()
    assert [path.rpartition("/")[2] for path in drivers] == [*["usb-storage"] * 2, *["cdc_acm"] * 2]


def test_it_is_announced_on_both_consoles(board: Board) -> None:
    board.expect_event(0, event="serial_console", name="ttyGS0")
    board.expect_on_both("Serial console on the USB cable: log in as root, after Enter")
    assert board.status()["serial_console"] == "ttyGS0"


def test_root_logs_in_over_the_cable_while_the_disks_are_in_use(
    board: Board, blocks: list[HostBlock]
) -> None:
    begin = mark(board)
    with cable(board) as shell, traffic(board, blocks[0]) as writing:
        shell.login(WAIT_S)
        assert shell.check(f"{TTY}; id -u", WAIT_S).split() == ["/dev/ttyGS0", "0"]
        assert "gadgetd is not" not in shell.check("gadgetd status", WAIT_S)
        said = shell.line.text()
        assert "login: root" in said
        assert "assword:" not in said
    assert writing.wrong_on_medium(board.machine.image_path("sd")) == []
    assert_host_undisturbed(board, begin)


def test_stop_and_start_do_not_wait_for_an_open_login(board: Board) -> None:
    with cable(board) as shell:
        shell.login(WAIT_S)
        # What does not hear a hang-up, and has the terminal open.
        shell.check("trap '' HUP; (trap '' HUP; sleep 10000) & ", WAIT_S)
        since = board.uart.line.position
        board.check("gadgetd stop")
        board.expect_event(since, event="serial_console", name=None)
        assert board.check("ls /sys/kernel/config/usb_gadget").split() == []
        assert board.host.run("ls /dev/ttyGS0")[0] != 0
    board.check("gadgetd start")
    board.host.wait_for_blocks(2, WAIT_S)
    with cable(board) as shell:
        shell.login(WAIT_S)
        assert shell.check(TTY, WAIT_S).strip() == "/dev/ttyGS0"


def test_a_daemon_killed_with_a_login_open_gives_a_new_one_and_disturbs_no_disk(
    board: Board, blocks: list[HostBlock]
) -> None:
    begin = mark(board)
    with traffic(board, blocks[1]):
        with cable(board) as shell:
            shell.login(WAIT_S)
            board.expect_phase("exported", board.restart("KILL"))
        with cable(board) as shell:
            shell.login(WAIT_S)
            assert shell.check(TTY, WAIT_S).strip() == "/dev/ttyGS0"
        gettys = board.host.check("ps -o args | grep -c '[g]etty.*ttyGS0\\|[l]ogin.*root' || true")
        assert int(gettys) <= 2, "the UART's login and this one"
    assert_host_undisturbed(board, begin)
    board.check("gadgetd stop")
    board.check("gadgetd start")
    board.host.wait_for_blocks(2, WAIT_S)
