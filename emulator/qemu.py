"""A QEMU process: a machine from its first instruction to its end."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from emulator import cache
from emulator.errors import EmulatorError
from emulator.qmp import Monitor

QEMU = "qemu-system-aarch64"
LOG = "qemu.log"
QEMU_PREFIX = re.compile(rf"^(?:\S+Z )?{QEMU}: ")
PR_SET_PDEATHSIG = 1


def complaint(said: str) -> str:
    """What QEMU said when it did not start, less what says nothing to a person."""
    kept = [
        QEMU_PREFIX.sub("", line)
        for line in said.splitlines()
        if "char device redirected" not in line
    ]
    text = "\n".join(kept).strip()
    if re.search(r"Failed to get .* lock", text):
        text += "\n  hint: another program, an emulated board perhaps, has the image open"
    return text


class Qemu:
    """A machine that is emulated; a context manager that never leaves a QEMU behind.

    What kind of machine it is, its class says in `_start`. QEMU ends with the thread that
    started it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Nothing happens yet. `directory` keeps images and logs; without, a temporary one."""
        self.directory = directory or Path()
        self._temporary = directory is None
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None

    def __enter__(self) -> Self:
        """Start QEMU, the CPU still stopped: open the serial ports, then `go()`."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill QEMU and remove the temporary directory."""
        self.kill()

    def start(self) -> None:
        """Build the image, make the drives and start QEMU with its CPU stopped.

        Raises EmulatorError if something is missing or QEMU does not take an option.
        """
        if self._temporary:
            self.directory = cache.run_directory()
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.kill()
            raise

    def go(self) -> None:
        """Let the CPU run: power-on."""
        self.started_at = time.time()
        self.monitor.execute("cont")

    @property
    def monitor(self) -> Monitor:
        """QEMU's monitor. Raises EmulatorError if the machine does not run."""
        if self._monitor is None:
            raise EmulatorError("the emulated board does not run")
        return self._monitor

    @property
    def running(self) -> bool:
        """Whether QEMU is there (the board may be off all the same)."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: what pulling the plug is to a board. Images keep what was written to them."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._temporary and self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def power_off(self) -> None:
        """End QEMU in good order, so that it writes out what it holds of the images."""
        with contextlib.suppress(EmulatorError):
            self.monitor.execute("quit")
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired as error:
                raise EmulatorError("QEMU did not end within 10 s of being told to") from error

    def _start(self) -> None:
        """The work of `start`."""
        raise NotImplementedError

    def _launch(self, command: list[str], descriptors: Sequence[int]) -> "subprocess.Popen[bytes]":
        """Start QEMU, which has these descriptors of ours, such that it dies with us."""
        libc = ctypes.CDLL(None)
        parent = os.getpid()

        def die_with_parent() -> None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with (self.directory / LOG).open("wb") as log:
            try:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=descriptors,
                    preexec_fn=die_with_parent,
                    start_new_session=True,  # a terminal's Ctrl-C is for the board
                )
            except FileNotFoundError as error:
                raise EmulatorError(f"{QEMU} is not installed", hint="run: make setup") from error

    def _connect(self, connection: socket.socket) -> None:
        """Greet the monitor and ask for the serial ports."""
        try:
            self._monitor = Monitor(connection)
            devices = self._monitor.execute("query-chardev")
        except EmulatorError as error:
            said = complaint((self.directory / LOG).read_text(errors="replace"))
            if said:
                raise EmulatorError(f"QEMU did not start: {said}") from error
            raise
        ports = {device["label"]: device["filename"] for device in devices}
        self.uart_path = ports["uart"].removeprefix("pty:")
        self.host_path = ports["host"].removeprefix("pty:")
