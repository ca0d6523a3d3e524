"""A board and a PC that are two machines: each can be killed, and the cable pulled, on its own.

    pair.plug(); blocks = pair.host.wait_for_blocks(2)
    pair.host.run("dd …")      on the PC: exit status and output
    pair.board.check("…")      on the board's UART; pair.inside: the board's second channel
    pair.kill_board(); pair.boot_board()

The disks' images outlive the machines.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from emulator import (
    Drive,
    EmulatorError,
    HostShell,
    Machine,
    MachineOptions,
    Pc,
    PcShell,
    UartShell,
    cache,
)
from tests.vm.board import BOOT_S, Board

VUDC = "usbip-vudc.0"


class Pair:
    """The two machines, and the cable between them, which is out at first."""

    def __init__(self, kept: Path, options: MachineOptions) -> None:
        """Nothing boots yet. Logs go to `kept`; images lie with the cable in a run directory."""
        self.kept = kept
        self.directory = cache.run_directory()
        self.options = replace(
            options,
            cable=self.directory,
            sd=self._kept_drive("sd", options.sd),
            nvme=tuple(
                replace(drive, path=self.directory / f"nvme{index}.img")
                for index, drive in enumerate(options.nvme)
            ),
        )
        self._pc_directory = kept / "pc"
        self._machine: Machine | None = None
        self._pc: Pc | None = None
        self._board: Board | None = None
        self._inside: HostShell | None = None
        self._host: PcShell | None = None

    def _kept_drive(self, name: str, drive: Drive | None) -> Drive | None:
        return drive and replace(drive, path=self.directory / f"{name}.img")

    @property
    def board(self) -> Board:
        """The board, with the PC as its `host`."""
        assert self._board, "the board is off"
        return self._board

    @property
    def host(self) -> PcShell:
        """The PC's shell."""
        assert self._host, "the PC is off"
        return self._host

    @property
    def inside(self) -> HostShell:
        """A root shell on the board beside its UART."""
        assert self._inside, "the board is off"
        return self._inside

    def pc_console(self) -> str:
        """What came out of the PC's serial port, /dev/ttyAMA0 there, since it was switched on.

        That of a PC that was killed stays until the next is switched on.
        """
        return (self._pc_directory / "pc.log").read_text(errors="replace")

    def boot_pc(self) -> None:
        """Switch the PC on; the cable is out. Returns when it takes commands."""
        self._pc = Pc(self.directory, self._pc_directory)
        self._pc.start()
        self._host = PcShell(self._pc.host_path)
        if self._board:
            self._board.host = self._host
        self._pc.go()
        self._host.wait_until_ready(BOOT_S)

    def boot_board(self) -> Board:
        """Switch the board on and log in on its UART."""
        self._machine = Machine(self.options)
        self._machine.start()
        uart = UartShell(self._machine.uart_path, log=self.kept / "uart.log")
        self._inside = HostShell(self._machine.host_path)
        self._board = Board(
            uart, self.host, self.kept, self._machine, self.options, second=self._inside
        )
        self._machine.go()
        uart.login(timeout_s=BOOT_S)
        return self._board

    def plug(self) -> None:
        """Put the cable in."""
        self.host.plug()

    def unplug(self) -> None:
        """Pull the cable."""
        self.host.unplug()

    def kill_board(self) -> None:
        """SIGKILL to the board's QEMU: its supply is cut, and the PC's port has nobody at it."""
        assert self._machine
        self._machine.kill()
        self._close_board()
        if self._host:
            self._host.unplug()

    def kill_pc(self) -> None:
        """SIGKILL to the PC's QEMU: its supply is cut, and so is that of the cable."""
        assert self._pc
        self._pc.kill()
        self.host.close()
        self._host = self._pc = None
        if self._inside:  # what a controller that sees VBUS go does: VUDC_EVENT_DOWN
            self._inside.run(f"echo -1 >/sys/devices/platform/{VUDC}/usbip_sockfd")

    def keep(self, directory: Path) -> None:
        """Keep what may tell why a test failed, of those machines that are on."""
        with suppress(FileNotFoundError):
            shutil.copy(self.kept / "uart.log", directory)
        if self._board:
            self._board.keep(directory)
        with suppress(FileNotFoundError):
            (directory / "pc.log").write_text(self.pc_console())

    def close(self) -> None:
        """End both; nothing is left but the logs."""
        for machine in (self._machine, self._pc):
            if machine:
                machine.kill()
        self._close_board()
        if self._host:
            self._host.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _close_board(self) -> None:
        with suppress(EmulatorError):
            if self._board:
                self._board.uart.close()
            if self._inside:
                self._inside.close()
        self._board = self._inside = self._machine = None
