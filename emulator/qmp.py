"""QEMU's monitor (QMP) for callers without an event loop: the qemu.qmp library on a thread."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

from qemu.qmp import ExecuteError, QMPClient, QMPError

from emulator.errors import EmulatorError

Result = TypeVar("Result")
Event = dict[str, Any]


class Monitor:
    """A connection to a running QEMU; keeps every event that QEMU has sent."""

    def __init__(self, connection: socket.socket, timeout_s: float = 30) -> None:
        """Greet QEMU at the other end of `connection`.

        Raises EmulatorError if QEMU ends first or does not answer within `timeout_s`.
        """
        self.events: list[Event] = []
        self._arrived = threading.Condition()
        self._collector: asyncio.Task[None] | None = None
        self._client = QMPClient("emulator")
        self._client.logger.setLevel("CRITICAL")  # its errors reach us as exceptions
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        try:
            self._run(self._greet(connection), timeout_s)
        except (QMPError, OSError, TimeoutError) as error:
            self.close()
            raise EmulatorError(f"QEMU's monitor does not answer: {error!r}") from error

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, timeout_s: float = 30
    ) -> Any:
        """Send a command and return QEMU's answer.

        Raises EmulatorError if QEMU refuses, has gone, or takes longer than `timeout_s`.
        """
        try:
            return self._run(self._client.execute(command, arguments), timeout_s)
        except ExecuteError as error:
            raise EmulatorError(f"QEMU refuses {command}: {error}") from error
        except (QMPError, OSError, TimeoutError) as error:
            raise EmulatorError(f"QEMU did not answer {command}: {error!r}") from error

    def wait_for_event(
        self, name: str, accept: Callable[[Event], bool], since: int, timeout_s: float
    ) -> Event:
        """The first event `name` that `accept` likes, of those after the first `since` ones.

        Take `since = len(monitor.events)` before the command that brings the event about.
        Raises EmulatorError after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        with self._arrived:
            while True:
                for event in self.events[since:]:
                    if event["event"] == name and accept(event):
                        return event
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    raise EmulatorError(f"QEMU sent no event {name} in {timeout_s:.0f} s")

    def close(self) -> None:
        """Hang up; never fails."""
        with contextlib.suppress(Exception):
            self._run(self._client.disconnect(), 5)
        with contextlib.suppress(Exception):
            self._run(self._end_collecting(), 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _greet(self, connection: socket.socket) -> None:
        await self._client.connect(connection)
        self._collector = asyncio.create_task(self._collect())

    async def _end_collecting(self) -> None:
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)

    async def _collect(self) -> None:
        async for event in self._client.events:
            with self._arrived:
                self.events.append(cast(Event, event))
                self._arrived.notify_all()

    def _run(self, coroutine: Coroutine[Any, Any, Result], timeout_s: float) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)
