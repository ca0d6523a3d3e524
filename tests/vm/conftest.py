"""What the vm tests are given: a board, emulated anew or on the bench, and logs if they fail."""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

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
    image,
)
from emulator import base as base_layer
from tests.vm import processes
from tests.vm.board import BOOT_S, Board, LocalHost, Pattern
from tests.vm.living import FILES
from tests.vm.pair import Pair

MIB = 1 << 20
SD_SIZE, NVME_SIZE = 64 * MIB, 100 * MIB
PAIR_SIZES = 16 * MIB, 16 * MIB
"""SD card and NVMe disk of the board that has a PC."""
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
        "--host",
        choices=("same", "pc"),
        help="the USB host of the tests that look at its side: the board's own kernel, or a second"
        " machine (default: the one on which each tells most)",
    )
    group.addoption(
        "--kills",
        type=int,
        default=1,
        metavar="N",
        help="how often the board, the PC and the cable between them are taken away (default: 1)",
    )
    group.addoption(
        "--long",
        action="store_true",
        help="also run what is marked long, which `make test` has no time for",
    )
    group.addoption(
        "--board-write",
        action="store_true",
        help="also run tests that write to the board's disks; they put back what was there",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, for --strict-markers."""
    config.addinivalue_line("markers", "emulated: needs an emulated board; not run with --board")
    config.addinivalue_line(
        "markers", "hosts(*kinds): looks at the host's side; without --host, run with these hosts"
    )
    config.addinivalue_line(
        "markers", "one_host(kind, reason): one of those that cannot run with another host, and why"
    )
    config.addinivalue_line("markers", "long: takes minutes; run with --long alone")
    config.addinivalue_line("markers", "writes: writes to disks; with --board only if allowed")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """With --board, run all in this process: there is one board."""
    if config.getoption("--board"):
        config.option.numprocesses = 0  # which pytest-xdist reads after this


def pytest_sessionstart(session: pytest.Session) -> None:
    """Show the progress of tests that run in other processes."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    in_processes = processes.in_processes(session.config)
    if terminal and in_processes and session.config.get_verbosity() == 0:
        session.config.pluginmanager.register(processes.Progress(session, terminal))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing of machines whose process was ended with the run, by -x or Ctrl-C."""
    if not processes.is_worker(config):
        cache.remove_left_runs()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort for several processes; leave out what is long, and what a --board may not do."""
    if processes.is_worker(config):
        items[:] = processes.longest_first(items)
    not_run = set() if config.getoption("--long") else {"long"}
    if config.getoption("--board"):
        not_run |= {"emulated"} if config.getoption("--board-write") else {"emulated", "writes"}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        ours = Path(__file__).parent in item.path.parents
        marked = any(mark.name in not_run for mark in item.iter_markers())
        (left_out if ours and marked else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that looks at the host's side with the hosts where it tells most, or --host's."""
    marker = metafunc.definition.get_closest_marker("hosts")
    if marker is None:
        return
    chosen = metafunc.config.getoption("--host")
    only = metafunc.definition.get_closest_marker("one_host")
    kinds = []
    for kind in [chosen] if chosen else marker.args:
        barred = only is not None and kind != only.args[0]
        kinds.append(
            pytest.param(kind, marks=pytest.mark.skip(only.args[1])) if only and barred else kind
        )
    metafunc.parametrize("usb_host", kinds, indirect=True, scope="module")


class Bench:
    """Where boards are booted, one at a time, and what is kept of them."""

    def __init__(self, config: pytest.Config) -> None:
        self._port: str | None = config.getoption("--board")
        self._serial: str | None = config.getoption("--board-disks")
        self._writes_allowed = not self._port or bool(config.getoption("--board-write"))
        # Below .pytest_cache, in the checkout, which git does not look at.
        self._kept = Path(config.cache.mkdir("vm")) if config.cache else Path("vm")
        self.board: Board | None = None
        self.pair: Pair | None = None
        self._pc: tuple[Pc, PcShell] | None = None
        self.boots: list[float] = []
        """Seconds from power-on to a shell, of boards that have not been reported yet."""

    @property
    def real(self) -> bool:
        """The board is on the bench."""
        return self._port is not None

    def directory(self, name: str) -> Path:
        """A new, empty directory to keep something of a test in."""
        path = self._kept / _file_name(name)
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
        host: str = "same",
    ) -> Board:
        """Boot an emulated board; the one before is switched off. `prepare` runs before power-on.

        `login` waits for the root shell on its UART; `host` is what --host says. Raises
        EmulatorError if the shell does not come.
        """
        self.switch_off(pc_too=host == "same")
        pc = None
        if host == "pc":
            cable, pc = self._plugged_in()
            options = replace(options, cable=cable)
        machine = Machine(options)
        machine.start()
        try:
            prepare(machine)
            directory = self.directory(name)
            uart = UartShell(machine.uart_path, log=directory / "uart.log")
            shell = HostShell(machine.host_path)
            self.board = (
                Board(uart, pc, directory, machine, options, second=shell)
                if pc
                else Board(uart, shell, directory, machine, options)
            )
        except BaseException:
            machine.kill()
            raise
        begin = time.monotonic()
        machine.go()
        if login:
            uart.login(timeout_s=BOOT_S)
            self.boots.append(time.monotonic() - begin)
        return self.board

    def _plugged_in(self) -> tuple[Path, PcShell]:
        """A PC that has seen no board yet, as far as its kernel's log goes, with the cable in.

        Also gives the directory of the cable, for MachineOptions.
        """
        if self._pc is None:
            pc = Pc(cache.run_directory())
            pc.start()
            shell = PcShell(pc.host_path)
            self._pc = pc, shell
            pc.go()
            shell.wait_until_ready(BOOT_S)
            for path, source in FILES.items():
                text = base64.b64encode(source.read_bytes()).decode()
                shell.check(f"echo {text} | base64 -d >{path}")
        pc, shell = self._pc
        shell.check("dmesg --clear")
        shell.plug()
        return pc.cable, shell

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

    def connect(self, name: str, options: MachineOptions) -> Pair:
        """Boot a board and a PC, and put the cable in. What ran before is switched off."""
        self.switch_off()
        self.pair = pair = Pair(self.directory(name), options)
        pair.boot_pc()
        begin = time.monotonic()
        pair.boot_board()
        self.boots.append(time.monotonic() - begin)
        pair.plug()
        return pair

    def switch_off(self, *, pc_too: bool = True) -> None:
        """End the emulated board, and the PC, if there are any."""
        board, self.board = self.board, None
        pair, self.pair = self.pair, None
        if pair is not None:
            pair.close()
        if board is not None:
            board.uart.close()
            if board.emulated is None:
                board.host.close()
            else:
                board.inside.close()
                board.emulated.kill()
        if self._pc is None:
            return
        pc, shell = self._pc
        if pc_too:
            self._pc = None
            shell.close()
            pc.kill()
            shutil.rmtree(pc.cable, ignore_errors=True)
        elif board is not None:
            shell.unplug()

    def keep(self, name: str) -> Path | None:
        """Keep what may tell why a test failed: UART, HDMI, gadgetd's log and the kernels'."""
        if self.pair is not None:
            kept = self.directory(name)
            self.pair.keep(kept)
            return kept
        board = self.board
        if board is None:
            return None
        kept = board.directory
        if kept.name != _file_name(name):
            kept = self.directory(name)
            (kept / "uart.log").write_text(board.uart.line.text())
        board.keep(kept)
        return kept


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


_BENCH = pytest.StashKey[Bench]()
BOOT = "seconds to a shell"


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The one bench of a test run."""
    bench = Bench(request.config)
    if not bench.real:
        # Another process may be at it. What fails here fails once, and not in each test.
        image.project_layer(base_layer.get())
    request.config.stash[_BENCH] = bench
    yield bench
    bench.switch_off()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Have the report of a failed test name the directory with what was kept.

    Reports come from other processes too: the seconds of the boots go with a test's last one.
    """
    bench = item.config.stash.get(_BENCH, None)
    if bench is not None and call.when == "teardown":
        item.user_properties += [(BOOT, seconds) for seconds in bench.boots]
        bench.boots.clear()
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed and call.when != "teardown" and bench is not None:
        kept = bench.keep(item.name)
        if kept is not None:
            report.sections.append(
                ("the board", f"UART, HDMI and gadgetd's log are kept in {kept}")
            )
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long each vm test took."""
    spent: defaultdict[str, float] = defaultdict(float)
    boots: list[float] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and processes.is_of_board(report.nodeid):
                spent[report.nodeid] += report.duration
                if report.when == "teardown":
                    boots += [float(str(s)) for what, s in report.user_properties if what == BOOT]
    if not spent:
        return
    write = terminalreporter.write_line
    if not terminalreporter.config.getoption("--long"):
        write("tests marked long were left out: make test-vm ARGS=--long runs them too")
    terminalreporter.write_sep("=", "seconds on the board")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        write(f"{seconds:6.1f}  {name.partition('::')[2]}")
    write(f"{sum(spent.values()):6.1f}  all; {len(boots)} boots to a shell took {sum(boots):.1f}")


Boot = Callable[..., Board]


@pytest.fixture(scope="module")
def usb_host(request: pytest.FixtureRequest) -> str:
    """What the board is plugged into: "same", its own kernel, or "pc", a second machine."""
    return getattr(request, "param", "same")


@pytest.fixture
def boot(bench: Bench, usb_host: str, request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Boots an emulated board: `boot(MachineOptions(…))`. It is switched off after the test."""

    def start(options: MachineOptions, **more: object) -> Board:
        return bench.boot(request.node.name, options, host=usb_host, **more)  # type: ignore[arg-type]

    yield start
    bench.switch_off(pc_too=False)


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


@pytest.fixture(scope="module")
def pair(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A board and a PC that are two machines, the cable in, shared by a module's tests."""
    sd, nvme = PAIR_SIZES
    options = MachineOptions(sd=Drive(sd), nvme=(Drive(nvme),))
    yield bench.connect(request.module.__name__.rpartition(".")[2], options)
    bench.switch_off()


def _write_outside(machine: Machine) -> None:
    with machine.image_path("nvme0").open("r+b") as image:
        image.seek(WRITTEN_OUTSIDE_AT)
        image.write(WRITTEN_OUTSIDE.data)
