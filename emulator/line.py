"""A serial line: everything that comes is read at once, kept and logged; waits have deadlines."""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import serial

from emulator.errors import EmulatorError

SHOWN_BYTES = 600  # of what came last, in an error


class Line:
    """A serial port that a thread reads all the time.

    Nobody has to be waiting for bytes to be taken off the port: an emulated board whose UART is
    not read stands still. Times are on `clock`, a monotonic clock in seconds.
    """

    def __init__(
        self,
        port: str,
        *,
        baud: int = 115200,
        log: Path | None = None,
        tap: Callable[[bytes], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the port: a pty, or a USB-serial cable's device.

        Every byte that comes goes to the file `log` and, on the reading thread, to `tap`.
        Raises EmulatorError if the port cannot be opened.
        """
        try:
            self._serial = serial.Serial(port, baud, timeout=0.2)
        except serial.SerialException as error:
            raise EmulatorError(
                f"cannot open the serial port {port}: {error}",
                hint="is it plugged in, free, and may you read and write it?",
            ) from error
        self.port = port
        self._clock = clock
        self._tap = tap
        self._log: BinaryIO | None = log.open("ab", buffering=0) if log else None
        self._received = bytearray()
        self._arrived = threading.Condition()
        self._closing = False
        self._lost: str | None = None
        self._reader = threading.Thread(target=self._read, name=f"line {port}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """The open line."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Stop reading and close the port; what came can still be asked for."""
        self._closing = True
        with contextlib.suppress(Exception):
            self._serial.cancel_read()
        self._reader.join()
        self._serial.close()
        if self._log:
            self._log.close()
            self._log = None

    @property
    def position(self) -> int:
        """How many bytes have come so far: where to look from for what comes after this moment."""
        with self._arrived:
            return len(self._received)

    def text(self, since: int = 0) -> str:
        """What has come since a position, with newlines alone; what is no UTF-8 as U+FFFD."""
        with self._arrived:
            return _clean(bytes(self._received[since:]))

    def send(self, data: bytes) -> None:
        """Write all of `data`. Raises EmulatorError if the port is gone."""
        try:
            self._serial.write(data)
        except serial.SerialException as error:
            raise EmulatorError(f"{self.port} takes no more bytes: {error}") from error

    def expect(self, pattern: str, timeout_s: float, since: int = 0) -> tuple[re.Match[str], int]:
        """Wait until the text since a position matches (re.search, MULTILINE).

        Returns the match and the position after all that had come by then. Raises EmulatorError,
        with the last of what came, after `timeout_s` seconds or when the port goes away.
        """
        compiled = re.compile(pattern, re.MULTILINE)
        deadline = self._clock() + timeout_s
        with self._arrived:
            while True:
                match = compiled.search(_clean(bytes(self._received[since:])))
                if match:
                    return match, len(self._received)
                left = deadline - self._clock()
                if self._lost is not None or left <= 0:
                    why = self._lost or f"nothing like {pattern!r} came in {timeout_s:g} s"
                    last = _clean(bytes(self._received[since:][-SHOWN_BYTES:]))
                    raise EmulatorError(
                        f"{self.port}: {why}; last it said:\n{last or '(nothing at all)'}"
                    )
                self._arrived.wait(min(left, 1.0))

    def _read(self) -> None:
        """The reading thread: everything, until the port closes or goes away."""
        while not self._closing:
            try:
                data = self._serial.read(max(1, self._serial.in_waiting))
            except (OSError, TypeError, serial.SerialException) as error:
                with self._arrived:
                    self._lost = f"the port is gone ({error})"
                    self._arrived.notify_all()
                return
            if not data:
                continue
            if self._log:
                self._log.write(data)
            if self._tap:
                self._tap(data)
            with self._arrived:
                self._received += data
                self._arrived.notify_all()


def _clean(data: bytes) -> str:
    """Text as a person reads it: no carriage returns, no escape sequences."""
    text = data.decode("utf-8", "replace").replace("\r", "")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
