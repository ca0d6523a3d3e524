"""The boards of the benchmark: one kernel, one root, one set of disks; who exports them differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import kmsg
from emulator import Drive, HostShell, Machine, MachineOptions, UartShell
from emulator.options import MIB

HERE = Path(__file__).parent
BOOT_S = 240
"""Patience: a busy machine is slow."""
READY_S = 90
DISK = Drive(64 * MIB)
PYTHON = "python3 -I -S"
TOOLS = "/usr/lib/bench"
GADGETD, PEER = "gadgetd", "peer"

UDEV = (
    "udev",
    "libacl1",
    "libblkid1",
    "libcap2",
    "libkmod2",
    "libselinux1",
    "libpcre2-8-0",
    "libzstd1",
)
"""The peer's udevd, Debian's. It lies in gadgetd's root too, where nobody starts it."""

ON_BOARD: Mapping[str, bytes | Path] = {
    "/sbin/init": HERE / "board/init",
    "/etc/init.d/S10udev": HERE / "peer/S10udev",
    "/etc/init.d/S99gadget": HERE / "peer/S99gadget",
    **{
        f"{TOOLS}/{name}": HERE / "board" / name
        for name in sorted(path.name for path in (HERE / "board").glob("*.py"))
    },
}

NO_HOST = "modprobe usbip-vudc\n"
"""A controller with no host on its cable: a bind is the end of it, nothing is enumerated."""
NEITHER: Mapping[str, bytes | Path] = {"/etc/inittab": HERE / "board/inittab"}
"""Files of a board whose init starts neither side."""
PEER_FILES: Mapping[str, bytes | Path] = {"/etc/inittab": HERE / "peer/inittab"}


@dataclass(frozen=True)
class Booted:
    """A board that runs."""

    machine: Machine
    uart: UartShell
    host: HostShell

    def log(self) -> list[kmsg.Stamp]:
        """The kernel's log so far."""
        return kmsg.parse(self.host.check("dmesg"))

    def wait_for_attached(self, count: int, timeout_s: float = BOOT_S) -> bool:
        """Whether the host has attached so many disks by then, without looking all the time."""
        command = f"grep -m {count} -E '{kmsg.ATTACHED.replace('?:', '')}' /dev/kmsg"
        self.host.wait_until_ready(BOOT_S)
        # `timeout` of its own: a peer that has missed a disk is a result, not an error.
        status, _ = self.host.run(f"timeout {timeout_s:.0f} {command}", timeout_s + 10)
        return status == 0

    def wait_until(self, condition: str, timeout_s: float = READY_S) -> None:
        """Wait until a shell condition holds on the board."""
        self.host.check(f"until {condition}; do usleep 100000; done", timeout_s)


def options(side: str | None, **more: object) -> MachineOptions:
    """A board with an SD card and an NVMe disk on which one side is started by init, or neither."""
    files = {None: NEITHER, PEER: PEER_FILES, GADGETD: {}}[side]
    base = MachineOptions(
        sd=DISK,
        nvme=(DISK,),
        packages=UDEV,
        # Nothing that anybody says is thrown away, on either side.
        cmdline="printk.devkmsg=on printk.time=1 log_buf_len=1M",
    )
    given = replace(base, **more)  # type: ignore[arg-type]
    return replace(given, files={**ON_BOARD, **files, **given.files})


@contextmanager
def booted(
    options: MachineOptions, prepare: Callable[[Machine], None] | None = None
) -> Iterator[Booted]:
    """Boot a board and give it as soon as it runs; it is switched off at the end."""
    with Machine(options) as machine:
        if prepare:
            prepare(machine)
        uart, host = UartShell(machine.uart_path), HostShell(machine.host_path)
        try:
            machine.go()
            host.wait_until_ready(BOOT_S)
            yield Booted(machine, uart, host)
        finally:
            uart.close()
            host.close()
