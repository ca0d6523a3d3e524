"""Signals as events of the poll loop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping

from gadgetd.loop import Loop


def watch_signals(loop: Loop, actions: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """Call an action from the loop whenever its signal comes, for the rest of the process's life.

    Several signals that come at once are handled in the order of `actions`. What was blocked so
    far comes now.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in actions:
        # The handler does nothing: Python writes the number to the descriptor by itself.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, actions)

    def arrived() -> None:
        # The writer is named here to keep it open as long as this function is.
        numbers = reader.recv(64) if writer.fileno() >= 0 else b""
        for number, action in actions.items():
            if number in numbers:
                action()

    loop.watch(reader.fileno(), arrived)
