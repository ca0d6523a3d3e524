"""Puts the daemon together out of its parts, on the real system, and runs it."""

from __future__ import annotations

import os
import signal
import sys
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import partial
from pathlib import Path

from gadgetd import __version__
from gadgetd.blockscan import BlockScan
from gadgetd.board import read_board
from gadgetd.daemon import Daemon
from gadgetd.disks import dirty_limits
from gadgetd.disks.kernel_log import KernelLog
from gadgetd.errors import GadgetdError
from gadgetd.eventloop import Loop, watch_signals
from gadgetd.export.exporter import Exporter
from gadgetd.usb.serial_login import Login

LOCK = Path("/run/gadgetd/lock")
LED_MEMORY = Path("/run/gadgetd/led")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(config: Path) -> None:
    """Export the disks until SIGTERM or SIGINT. Raises GadgetdError if another daemon does."""
    lock = _lock(LOCK)
    # Whoever ends us from here on ends us in order: what an earlier run left may be with a host.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    loop = Loop()
    board = read_board()
    # An inquiry string has four characters for the revision: the version without its last part.
    exporter = Exporter(board, __version__.rpartition(".")[0], loop.clock)
    daemon = Daemon(
        loop, config, board, __version__, BlockScan(), exporter, Login(loop), KernelLog()
    )
    ended = partial(daemon.stop, loop.stop)
    watch_signals(loop, dict(zip(_SIGNALS, (ended, ended, daemon.reload), strict=True)))
    dirty_limits.remember()
    daemon.start()
    # The host looks at its disks while we import what they did not have to wait for.
    from gadgetd import oom
    from gadgetd.console import Panel

    oom.set_score(oom.LAST)
    panel = Panel(loop, board.model, led_memory=LED_MEMORY)
    daemon.go_on(panel)
    from gadgetd.control.commands import Commands
    from gadgetd.control.server import SOCKET, Server

    try:
        server = Server(loop, Commands(daemon, panel.log).handle)
    except OSError as error:
        # The disks matter more than the commands.
        server = None
        print(f"gadgetd: no commands: {SOCKET.parent}: {error.strerror}", file=sys.stderr)
    loop.run()
    if not exporter.udc:  # Else the host can go on writing.
        dirty_limits.put_back()
    if server is not None:
        server.close()
    panel.close()
    os.close(lock)


def _lock(path: Path) -> int:
    """Take the lock that only one daemon can have. It goes with the process, however it ends."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GadgetdError(
            f"cannot open {path}: {error.strerror}", hint="gadgetd run needs root"
        ) from error
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise GadgetdError(
            "another one is running already", hint="see gadgetd status; to pause it: gadgetd stop"
        ) from error
    return fd
