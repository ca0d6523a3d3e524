"""What the vm tests are given: a board, emulated anew or on the bench, and logs if they fail."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from emulator import Drive, EmulatorError, HostShell, Machine, MachineOptions, UartShell
from tests.vm.board import BOOT_S, Board, LocalHost, Pattern

MIB = 1 << 20
SD_SIZE, NVME_SIZE = 64 * MIB, 100 * MIB
WRITTEN_OUTSIDE = Pattern(1_000_000, MIB)
"""Stands in the standard board's NVMe image before the board boots, a MiB from its begin."""
WRITTEN_OUTSIDE_AT = MIB


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for a board on the bench; docs/testing.md has them for people."""
    group = parser.getgroup("gadgetd", "a real Compute Module instead of an emulated one")
    group.addoption(
        "--board", metavar="PORT", help="serial port of a board that runs gadgetd (/dev/ttyUSB0)"
    )
    group.addoption(
        "--board-disks",
        metavar="SERIAL",
        help="USB serial number of its disks on this machine (default: the UART is asked)",
    )
    group.addoption(
        "--kills",
        type=int,
        default=1,
        metavar="N",
        help="how often the board, the PC and the cable between them are taken away (default: 1)",
    )
    group.addoption(
        "--board-write",
        action="store_true",
        help="also run tests that write to the board's disks; they put back what was there",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, for --strict-markers."""
    config.addinivalue_line("markers", "emulated: needs an emulated board; not run with --board")
    config.addinivalue_line("markers", "writes: writes to disks; with --board only if allowed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --board, leave out what a board on the bench cannot or may not do."""
    if not config.getoption("--board"):
        return
    not_run = {"emulated"} if config.getoption("--board-write") else {"emulated", "writes"}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        ours = Path(__file__).parent in item.path.parents
        marked = any(mark.name in not_run for mark in item.iter_markers())
        (left_out if ours and marked else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


class Bench:
    """Where boards are booted, one at a time, and what is kept of them."""

    def __init__(self, config: pytest.Config) -> None:
        self._port: str | None = config.getoption("--board")
        self._serial: str | None = config.getoption("--board-disks")
        self._writes_allowed = not self._port or bool(config.getoption("--board-write"))
        # Below .pytest_cache, in the checkout, which git does not look at.
        self._kept = Path(config.cache.mkdir("vm")) if config.cache else Path("vm")
        self.board: Board | None = None
        self.boots: list[tuple[str, float]] = []

    @property
    def real(self) -> bool:
        """The board is on the bench."""
        return self._port is not None

    def directory(self, name: str) -> Path:
        """A new, empty directory to keep something of a test in."""
        path = self._kept / re.sub(r"[^\w.-]+", "_", name).strip("_")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def boot(
        self,
        name: str,
        options: MachineOptions,
        prepare: Callable[[Machine], None] = lambda _: None,
        *,
        login: bool = True,
    ) -> Board:
        """Boot an emulated board; the one before is switched off. `prepare` runs before power-on.

        `login` waits for the root shell on its UART. Raises EmulatorError if it does not come.
        """
        self.switch_off()
        machine = Machine(options)
        machine.start()
        try:
            prepare(machine)
            directory = self.directory(name)
            uart = UartShell(machine.uart_path, log=directory / "uart.log")
            host = HostShell(machine.host_path)
            self.board = Board(uart, host, directory, machine, options)
        except BaseException:
            machine.kill()
            raise
        begin = time.monotonic()
        machine.go()
        if login:
            uart.login(timeout_s=BOOT_S)
            self.boots.append((name, time.monotonic() - begin))
        return self.board

    def log_in(self) -> Board:
        """Log in on the board of --board, whose disks are this machine's."""
        assert self._port is not None
        if self.board is None:
            directory = self.directory("board")
            try:
                uart = UartShell(self._port, log=directory / "uart.log")
                uart.login(timeout_s=BOOT_S)
            except EmulatorError as error:
                # Without a board no test can pass: one sentence, not one for each of them.
                pytest.exit(f"there is no board on --board: {error}", pytest.ExitCode.USAGE_ERROR)
            serial = self._serial
            if serial is None:
                serial = uart.check("tr -d '\\0' </proc/device-tree/serial-number").strip()
            host = LocalHost(serial)
            self.board = Board(uart, host, directory, writes_allowed=self._writes_allowed)
        return self.board

    def switch_off(self) -> None:
        """End the emulated board, if there is one."""
        board, self.board = self.board, None
        if board is not None:
            board.uart.close()
            board.host.close()
            if board.emulated is not None:
                board.emulated.kill()

    def keep(self, name: str) -> Path | None:
        """Keep what may tell why a test failed: UART, HDMI, gadgetd's log and the kernel's."""
        board = self.board
        if board is None:
            return None
        kept = board.directory
        if kept.name != re.sub(r"[^\w.-]+", "_", name).strip("_"):
            kept = self.directory(name)
            (kept / "uart.log").write_text(board.uart.line.text())
        commands = (
            "gadgetd log; gadgetd status; cat /var/log/gadgetd* 2>/dev/null; dmesg | tail -n 60"
        )
        ask = board.run
        if board.emulated is not None:
            with suppress(EmulatorError):
                board.emulated.screendump(kept / "hdmi.png")
            ask = board.host.run  # which answers even if the UART is what is wrong
        with suppress(EmulatorError):
            (kept / "gadgetd.log").write_text(ask(f"{{ {commands}; }} 2>&1", 30)[1])
        return kept


_BENCH = pytest.StashKey[Bench]()


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The one bench of a test run."""
    bench = Bench(request.config)
    request.config.stash[_BENCH] = bench
    yield bench
    bench.switch_off()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Have the report of a failed test name the directory with what was kept."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    bench = item.config.stash.get(_BENCH, None)
    if report.failed and call.when != "teardown" and bench is not None:
        kept = bench.keep(item.name)
        if kept is not None:
            report.sections.append(
                ("the board", f"UART, HDMI and gadgetd's log are kept in {kept}")
            )
    return report  # type: ignore[return-value]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how long each vm test took."""
    bench = config.stash.get(_BENCH, None)
    if bench is None:
        return
    spent: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and "/vm/" in report.nodeid:
                spent[report.nodeid] = spent.get(report.nodeid, 0) + report.duration
    write = terminalreporter.write_line
    terminalreporter.write_sep("=", "seconds on the board")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        write(f"{seconds:6.1f}  {name.partition('::')[2]}")
    boots = [seconds for _, seconds in bench.boots]
    write(f"{sum(spent.values()):6.1f}  all; {len(boots)} boots to a shell took {sum(boots):.1f}")


Boot = Callable[..., Board]


@pytest.fixture
def boot(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Boots an emulated board: `boot(MachineOptions(…))`. It is switched off after the test."""

    def start(options: MachineOptions, **more: object) -> Board:
        return bench.boot(request.node.name, options, **more)  # type: ignore[arg-type]

    yield start
    bench.switch_off()


@pytest.fixture(scope="module")
def board(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Board]:
    """The standard board, shared by a module's tests: SD card and NVMe disk, or the real one."""
    if bench.real:
        yield bench.log_in()
        return
    options = MachineOptions(
        sd=Drive(SD_SIZE), nvme=(Drive(NVME_SIZE, serial="NVMESER1"),), spare_ports=1
    )
    yield bench.boot(request.module.__name__.rpartition(".")[2], options, _write_outside)
    bench.switch_off()


def _write_outside(machine: Machine) -> None:
    with machine.image_path("nvme0").open("r+b") as image:
        image.seek(WRITTEN_OUTSIDE_AT)
        image.write(WRITTEN_OUTSIDE.data)
