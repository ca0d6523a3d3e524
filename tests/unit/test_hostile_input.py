"""What comes from a disk, a client or the kernel's log may be anything: the daemon lives with it.

What each module does with odd bytes is in its own tests. Here they go through all of it: from the
attribute in sysfs to the terminal, and from the socket to the disks.
"""

from __future__ import annotations

import itertools
import json
import socket
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

from gadgetd.config.load import SIZE_LIMIT, parse
from gadgetd.control.client import from_json, scan_lines, verdict_to_json
from gadgetd.control.commands import Commands
from gadgetd.control.server import Server
from gadgetd.disks.disk import Kind, Verdict
from gadgetd.errors import ConfigError
from gadgetd.export.drives import TICK_S
from gadgetd.show.events import events
from gadgetd.show.layout import to_text
from gadgetd.status import to_json
from tests.soak import SEED, count
from tests.unit.fakes import MIB, Bench
from tests.unit.mocked_board import MockedBoard
from tests.unit.statuses import HOSTILE

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)

# What a person can see, in one line. What a terminal obeys begins below the space or above 126.
PRINTABLE = set(map(chr, range(0x20, 0x7F)))


@contextmanager
def board() -> Iterator[Bench]:
    """A board for one example."""
    with (
        tempfile.TemporaryDirectory() as directory,
        pytest.MonkeyPatch.context() as patch,
        Bench(Path(directory), patch) as bench,
    ):
        yield bench


# The configuration


UNITS = st.sampled_from([
    "[", "{", "{a: ", "- ", "- - ", "? ", "&a [", "a: &b [*b]\n", "&a *a ", "!!str ", "'", '"',
    "\\", "#", "\n", " \n", "a: b\n", "a:\n  ", "[[[[", "x" * 100, "- name: \"*[a-z]*\"\n", "*a*",
    "disks:\n", "  - name: x\n", "1_0", "0x", "e1", "|\n ", ">\n ", "%YAML 1.1\n", "---\n",
    "...\n",
    "\u00e9", "\U0001f600", "a, ", "[a, ", "~: ", "<<: *a\n", "? [a]\n: b\n",
])  # fmt: skip


@seed(SEED)
@settings(max_examples=25, suppress_health_check=SLOW)
@given(st.lists(UNITS, max_size=4).map("".join), UNITS, st.lists(UNITS, max_size=3).map("".join))
@example("a: &a [", "*a, ", "]")
@example("", "[", "")
@example("exclude:\n  - name: '", "*a", "'")
def test_no_configuration_takes_longer_than_a_second(head: str, many: str, tail: str) -> None:
    room = SIZE_LIMIT - len((head + tail).encode())
    data = (head + many * (room // len(many.encode())) + tail).encode()
    count("inputs: a configuration")
    begin = time.process_time()  # not the wall's: other processes are not the file's fault
    message = ""
    try:
        parse(data, Path("gadgetd.yaml"))
    except ConfigError as error:
        message = error.message
    assert time.process_time() - begin < 1
    assert len(message) < 2000
    assert message.isprintable()


@pytest.mark.parametrize("many", ["[", "- ", "a: b\n", "{a: ", "x", "- name: x\n", "? "])
def test_no_configuration_takes_more_than_50_mb(many: str) -> None:
    data = (many * (SIZE_LIMIT // len(many))).encode()
    tracemalloc.start()
    try:
        parse(data, Path("gadgetd.yaml"))
    except ConfigError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 50_000_000


# Requests

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["mmcblk0", "nvme0n1", "0", "1", "/dev/mmcblk0", -1, 1 << 70, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
COMMANDS = st.sampled_from(
    ["status", "log", "eject", "insert", "attach", "hash", "stop", "start", "reload"]
)
REQUESTS = st.fixed_dictionaries(
    {"command": COMMANDS},
    optional=dict.fromkeys(("disk", "force", "confirmed", "pid", "x"), VALUES),
)


@seed(SEED)
@settings(max_examples=40, suppress_health_check=SLOW)
@given(st.lists(REQUESTS, min_size=1, max_size=8))
@example([{"command": "hash", "disk": "0", "pid": float("1e400")}])
def test_whatever_is_asked_of_the_daemon_it_answers_and_goes_on(requests: list[Any]) -> None:
    with board() as bench:
        bench.add("mmcblk0")
        bench.add("nvme0n1")
        daemon = bench.daemon()
        commands = Commands(daemon, bench.panel.log)
        server = Server(bench.loop, commands.handle, bench.path / "control")
        for request in requests:
            answer = ask(bench, json.dumps(request).encode() + b"\n")
            count("inputs: a request to the daemon")
            assert isinstance(json.loads(answer)["ok"], bool)
        ask(bench, b'{"command": "start"}\n')
        bench.loop.run_for(5)
        for number in ("0", "1"):
            ask(bench, b'{"command": "insert", "disk": "%s"}\n' % number.encode())
        bench.host_lets_go()
        assert sorted(filter(None, bench.files().values())) == ["mmcblk0", "nvme0n1"]
        server.close()


def ask(bench: Bench, data: bytes) -> bytes:
    """Send a request and wait for all of its answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(bench.path / "control"))
        client.sendall(data)
        client.setblocking(False)
        answer = b""
        for _ in range(200):
            bench.loop.run_for(0)
            try:
                part = client.recv(65536)
            except BlockingIOError:
                continue
            if not part:
                return answer
            answer += part
    raise AssertionError("no answer")


# Disks


DISKS = st.lists(
    st.tuples(HOSTILE, HOSTILE, HOSTILE, st.integers(512, 1 << 70), st.sampled_from(list(Kind))),
    min_size=1,
    max_size=3,
)


@seed(SEED)
@settings(max_examples=30, suppress_health_check=SLOW)
@given(DISKS)
@example([("\x1b[2J", "a\nb\t\r\n0\tshown\tx", "at\nx", 1 << 30, Kind.NVME)])
def test_nothing_of_a_disk_steers_a_terminal_or_breaks_a_line(disks: list[Any]) -> None:
    with board() as bench:
        for number, (model, serial, location, size_bytes, kind) in enumerate(disks):
            more = {"kind": kind, "size_bytes": size_bytes}
            bench.add(f"nvme{number}n1", model=model, serial=serial, location=location, **more)
        daemon = bench.daemon()
        count("inputs: a disk with an odd name", len(disks))
        said = disks[0][0].encode("utf-8", "replace").decode()
        for head in ("I/O error, dev nvme0n1, sector 8 op 0x0:(READ)", "I/O error, dev "):
            bench.log.say(f"{head}{said}")
        bench.loop.run_for(TICK_S * 3)
        statuses = [None, *bench.panel.statuses]
        for before, now in itertools.pairwise(statuses):
            assert now
            for event in events(before, now):
                assert set(event.text) <= PRINTABLE
                line = json.dumps(event.fields)
                assert set(line) <= PRINTABLE
            assert set(to_text(now)) <= PRINTABLE | {"\n"}
            assert from_json(json.loads(json.dumps(to_json(now)))) == now
        rows = daemon.status.disks
        verdicts = [Verdict(row.disk, True, row.reason) for row in rows]
        for text in scan_lines(verdicts):
            assert set(text) <= PRINTABLE
        assert [json.loads(json.dumps(verdict_to_json(each))) for each in verdicts]
        for number in bench.files():
            assert set(bench.lun(number).inquiry) <= PRINTABLE
        # The next daemon knows each disk again.
        before_kill = bench.files()
        assert sorted(filter(None, before_kill.values())) == sorted(disk_names(rows))
        bench.daemon()
        assert bench.files() == before_kill


def disk_names(rows: tuple[Any, ...]) -> list[str]:
    """Those that are exported."""
    return [row.disk.name for row in rows if row.lun is not None]


@pytest.mark.parametrize("serial", ["plain", "a\nb", "\n", "a\\nb", "a\tb", "\t0\tshown", "\udc80"])
def test_a_disk_in_doubt_stays_so_over_a_kill_whatever_it_is_called(serial: str) -> None:
    with board() as bench:
        bench.add("mmcblk0")
        bench.add("nvme0n1", serial=serial)
        bench.daemon()
        bench.traffic("nvme0n1", written=MIB)
        bench.loop.run_for(TICK_S * 1.1)
        bench.kill()
        bench.remove("nvme0n1")
        daemon = bench.daemon()
        bench.host_ejects(0)
        bench.loop.run_for(TICK_S * 1.1)
        assert not daemon.status.safe_to_unplug


# What the kernel tells of them


NVME = "/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/nvme/nvme0"
DISK = f"{NVME}/nvme0n1"
RECORDING = f"""\
P: {NVME}
E: SUBSYSTEM=nvme
A: model=Model\\n
A: serial=Serial\\n

P: {DISK}
N: nvme0n1
E: SUBSYSTEM=block
E: DEVTYPE=disk
L: device=../../nvme0
A: size=2048\\n
A: ro=0\\n
A: hidden=0\\n
A: nsid=1\\n
A: queue/logical_block_size=512\\n

"""
ATTRIBUTES = (
    *((DISK, name) for name in ("size", "ro", "hidden", "nsid", "queue/logical_block_size")),
    *((NVME, name) for name in ("model", "serial")),
)
# What ends a string in C cannot be set here, nor come from the kernel.
ODD = st.sampled_from(
    ["\u00b2", "9" * 5000, "-1", "+1", "", " ", "0x10", "1e3", "1_0", "\u0663", "1\n2", "\x1b[2J"]
) | HOSTILE.map(lambda text: text.replace("\0", "").encode("utf-8", "replace").decode())


@pytest.fixture(scope="module")
def kernel() -> Iterator[MockedBoard]:
    made = MockedBoard(RECORDING)
    yield made
    made.close()


@seed(SEED)
@settings(max_examples=60, suppress_health_check=SLOW)
@given(values=st.dictionaries(st.sampled_from(ATTRIBUTES), ODD, min_size=1))
@example(values={(DISK, "size"): "\u00b2"})
@example(values={(DISK, "queue/logical_block_size"): "9" * 5000})
def test_no_attribute_upsets_the_scan(kernel: MockedBoard, values: dict[Any, str]) -> None:
    for device, name in ATTRIBUTES:
        kernel.change(device, name, values.get((device, name), "0"))
    found = kernel.disks()["nvme0n1"]
    count("inputs: odd attributes of a disk")
    assert found.disk.size_bytes >= 0
    assert found.disk.block_size > 0
    assert isinstance(found.disk.model, str)
