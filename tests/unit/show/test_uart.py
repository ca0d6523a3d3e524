"""Lines on the UART, and what becomes of them while somebody uses it."""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gadgetd.show.events import Event, Fields
from gadgetd.show.tty import (
    Foreground,
    Owner,
    Watch,
    has_tty_driver,
    is_terminal,
    open_terminal,
)
from gadgetd.show.uart import Uart

BUSYBOX = shutil.which("busybox")
ECHO = Event("the disks are exported", {"event": "phase", "phase": "exported"})
DEVICE = os.makedev(204, 64)
"""ttyAMA0."""


def tty_nr(device: int) -> int:
    major, minor = os.major(device), os.minor(device)
    number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
    return number - (1 << 32) if number >= 1 << 31 else number


class Proc:
    """A /proc with the processes of one terminal, and others."""

    def __init__(self, path: Path, device: int = DEVICE) -> None:
        self.path, self.device = path, device
        self.add(1, "init", 0, -1)
        self.add(2, "kthreadd (x) y", 0, -1)

    def add(
        self,
        pid: int,
        comm: str,
        device: int | None = None,
        foreground: int = 0,
        state: str = "S",
    ) -> None:
        number = tty_nr(self.device) if device is None else device
        (self.path / str(pid)).mkdir(exist_ok=True)
        (self.path / str(pid) / "stat").write_text(
            f"{pid} ({comm}) {state} 1 {pid} {pid} {number} {foreground} 4194560 0 0\n"
        )

    def end(self, pid: int) -> None:
        shutil.rmtree(self.path / str(pid))


# --- who has the terminal -------------------------------------------------------------------


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def look(proc: Proc, own_group: int = 1) -> Foreground:
    return Watch(proc.device, proc.path, own_group).look()


def test_nobody_has_a_terminal_without_processes(proc: Proc) -> None:
    assert look(proc).owner is Owner.NOBODY


@pytest.mark.parametrize("comm", ["getty", "login", "agetty"])
def test_a_login_prompt_is_told_from_a_shell(proc: Proc, comm: str) -> None:
    proc.add(50, comm, foreground=50)
    assert look(proc) == Foreground(Owner.LOGIN, 50)


@pytest.mark.parametrize("comm", ["sh", "-sh", "ash", "busybox", "bash"])
def test_a_shell_in_the_foreground_is_found(proc: Proc, comm: str) -> None:
    proc.add(50, comm, foreground=50)
    proc.add(60, "dd", foreground=50)
    assert look(proc) == Foreground(Owner.SHELL, 50, waits=True)


@pytest.mark.parametrize("comm", ["vi", "dd", "a) R 1 2 3 4", ""])
def test_a_program_in_the_foreground_is_found_whatever_its_name(proc: Proc, comm: str) -> None:
    proc.add(50, "sh", foreground=60)
    proc.add(60, comm, foreground=60)
    assert look(proc).owner is Owner.PROGRAM


def test_a_pipeline_whose_first_program_ended_still_has_the_terminal(proc: Proc) -> None:
    proc.add(50, "sh", foreground=60)
    proc.add(61, "gzip", foreground=60)
    assert look(proc).owner is Owner.PROGRAM


def test_the_daemon_itself_in_the_foreground_disturbs_nobody(proc: Proc) -> None:
    proc.add(50, "sh", foreground=70)
    proc.add(70, "gadgetd", foreground=70)
    assert look(proc, own_group=70).owner is Owner.NOBODY


def test_other_terminals_do_not_count(proc: Proc) -> None:
    proc.add(50, "vi", tty_nr(os.makedev(4, 1)), 50)
    assert look(proc).owner is Owner.NOBODY


def test_a_new_session_is_found_after_the_old_one_ended(proc: Proc) -> None:
    watch = Watch(proc.device, proc.path, 1)
    proc.add(50, "getty", foreground=50)
    assert watch.look().owner is Owner.LOGIN
    proc.end(50)
    assert watch.look().owner is Owner.NOBODY
    proc.add(51, "sh", foreground=51)
    assert watch.look() == Foreground(Owner.SHELL, 51, waits=True)
    # The number is somebody else's now.
    proc.add(51, "vi", tty_nr(os.makedev(4, 1)), 51)
    proc.add(52, "getty", foreground=52)
    assert watch.look() == Foreground(Owner.LOGIN, 52)


@given(st.integers(1, 4095), st.integers(0, (1 << 20) - 1))
def test_every_device_number_is_decoded(major: int, minor: int) -> None:
    # A context manager: hypothesis runs many examples in one call.
    with pytest.MonkeyPatch.context() as patch:
        line = f"5 (sh) S 1 5 5 {tty_nr(os.makedev(major, minor))} 5 0\n".encode()
        patch.setattr(os, "scandir", lambda _: [type("Entry", (), {"name": "5"})])
        patch.setattr(os, "open", lambda *_: 99)
        patch.setattr(os, "read", lambda *_: line)
        patch.setattr(os, "close", lambda _: None)
        found = Watch(os.makedev(major, minor), Path("/proc"), 1).look()
    assert found.owner is Owner.SHELL


@pytest.mark.parametrize("content", ["", "garbage", "5 (sh", "5 (sh) S 1 5 5 x y", "5 (sh) S 1"])
def test_a_stat_that_makes_no_sense_is_nobody(proc: Proc, content: str) -> None:
    proc.add(50, "sh")
    (proc.path / "50" / "stat").write_text(content)
    assert look(proc).owner is Owner.NOBODY


# --- the Uart on a real terminal, with an invented /proc --------------------------------------


class Bench:
    """A terminal with its far end, a Uart on it, and a /proc that says who has it."""

    def __init__(self, tmp_path: Path, proc: Path | None = None, lines: str = "both") -> None:
        self.far, self.near = os.openpty()
        os.set_blocking(self.far, False)
        self.path = os.ttyname(self.near)
        self.proc = Proc(tmp_path, os.fstat(self.near).st_rdev)
        self.signals: list[tuple[int, int]] = []
        self.stuck = False
        self.errors: list[OSError] = []
        self.room = 1 << 20
        self.uart = Uart(
            self.path,
            proc=proc or self.proc.path,
            own_group=1,
            write=self.write,
            kill=lambda pid, number: self.signals.append((pid, number)),
            text=lines != "json",
            json=lines != "text",
        )

    def write(self, fd: int, data: bytes) -> int:
        if self.errors:
            raise self.errors.pop(0)
        if self.room <= 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        count = os.write(fd, data[: self.room])
        self.room -= count
        return count

    def read(self) -> str:
        output = b""
        try:
            while True:
                output += os.read(self.far, 1 << 20)
        except BlockingIOError:
            return output.decode("ascii")

    def mode(self, *, editing: bool = False, translates: bool = True) -> None:
        """Set the terminal as a line editor at a prompt does, or as a command finds it."""
        attributes = termios.tcgetattr(self.near)
        attributes[1] |= termios.OPOST | termios.ONLCR
        if not translates:
            attributes[1] &= ~termios.ONLCR
        attributes[3] |= termios.ICANON | termios.ECHO
        if editing:
            attributes[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self.near, termios.TCSANOW, attributes)

    def close(self) -> None:
        self.uart.close()
        os.close(self.near)
        os.close(self.far)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def parsed(output: str) -> list[dict[str, object]]:
    lines = [line for line in output.split("\r\n") if line.startswith("@gadgetd ")]
    return [json.loads(line.removeprefix("@gadgetd ")) for line in lines]


def numbered(number: int) -> Event:
    return Event(f"number {number}", {"event": "test", "number": number})


LINES = (
    'gadgetd: the disks are exported\r\n@gadgetd {"event":"phase","phase":"exported","seq":1}\r\n'
)


def test_with_nobody_there_the_lines_are_written_at_once(bench: Bench) -> None:
    bench.uart.post([ECHO], 0.0)
    assert bench.read() == "\r\x1b[K" + LINES
    assert bench.signals == []
    assert not bench.uart.pending
    assert bench.uart.next_poll(0.0) is None


@pytest.mark.parametrize("translates", [True, False])
def test_lines_end_with_one_cr_lf_whether_or_not_the_terminal_adds_the_cr(
    bench: Bench, translates: bool
) -> None:
    bench.mode(translates=translates)
    bench.uart.post([ECHO], 0.0)
    assert bench.read() == "\r\x1b[K" + LINES


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("text", "gadgetd: the disks are exported\r\n"),
        ("json", '@gadgetd {"event":"phase","phase":"exported","seq":1}\r\n'),
    ],
)
def test_either_reader_can_have_the_line_alone(tmp_path: Path, form: str, lines: str) -> None:
    bench = Bench(tmp_path, lines=form)
    bench.uart.post([ECHO], 0.0)
    assert bench.read() == "\r\x1b[K" + lines
    bench.proc.add(50, "dd", foreground=50)
    for number in range(Uart.HELD_MAX + 1):
        bench.uart.post([numbered(number)], 1.0)
    bench.proc.end(50)
    bench.uart.pump(3.0)
    output = bench.read().removeprefix("\r\x1b[K").splitlines()
    assert len(output) == Uart.HELD_MAX + 1
    # A loss is told in the same form, and numbers go on behind it.
    assert output[0] in (
        "gadgetd: 1 earlier event was dropped, see gadgetd log",
        '@gadgetd {"event":"dropped","count":1}',
    )
    assert {line.split()[0] for line in output} == {lines.split()[0]}
    last = Uart.HELD_MAX
    assert output[-1] in (
        f"gadgetd: number {last}",
        f'@gadgetd {{"event":"test","number":{last},"seq":{last + 2}}}',
    )
    bench.close()


def test_a_login_prompt_stays_where_it_is(bench: Bench) -> None:
    bench.proc.add(50, "getty", foreground=50)
    os.write(bench.near, b"cm4 login: ro")
    bench.uart.post([ECHO], 0.0)
    assert bench.read() == "cm4 login: ro\r\n" + LINES
    assert bench.signals == []


def test_a_shell_at_its_prompt_is_asked_to_draw_it_again(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=50)
    bench.mode(editing=True)
    bench.uart.post([ECHO], 0.0)
    assert bench.read() == "\r\x1b[K" + LINES
    assert bench.signals == [(50, signal.SIGWINCH)]


def test_a_shell_that_handles_a_key_is_not_interrupted(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=50, state="R")
    bench.mode(editing=True)
    bench.uart.post([ECHO], 0.0)
    assert bench.read() == ""
    due = bench.uart.next_poll(0.0)
    assert due is not None
    assert due <= 0.05
    bench.proc.add(50, "sh", foreground=50)
    bench.uart.pump(due)
    assert bench.read() == "\r\x1b[K" + LINES
    assert bench.signals == [(50, signal.SIGWINCH)]


def test_a_program_keeps_the_terminal_to_itself_until_it_ends(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=60)
    bench.proc.add(60, "vi", foreground=60)
    for second in range(5):
        bench.uart.post([numbered(second)], float(second))
        due = bench.uart.next_poll(float(second))
        assert due == second + Uart.POLL_S
    assert bench.read() == ""
    bench.proc.end(60)
    bench.proc.add(50, "sh", foreground=50)
    bench.mode(editing=True)
    bench.uart.pump(5.0)
    assert [each["number"] for each in parsed(bench.read())] == [0, 1, 2, 3, 4]
    assert bench.signals == [(50, signal.SIGWINCH)]
    assert bench.uart.next_poll(5.0) is None


def test_the_word_safe_is_not_said_once_it_has_been_taken_back(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=60)
    bench.proc.add(60, "gadgetd", foreground=60)
    for safe in (True, False):
        words = "SAFE TO UNPLUG" if safe else "NOT safe to unplug any more"
        bench.uart.post([Event(words, {"event": "safe_to_unplug", "safe": safe})], 0.0)
    bench.proc.end(60)
    bench.proc.end(50)
    bench.uart.pump(1.0)
    assert [(each["safe"], each["seq"]) for each in parsed(bench.read())] == [(False, 1)]


def held(bench: Bench, *events: Event) -> list[dict[str, object]]:
    """What comes out of events that came one after the other while a program had the line."""
    bench.proc.add(50, "sh", foreground=60)
    bench.proc.add(60, "gadgetd", foreground=60)
    for event in events:
        bench.uart.post([event], 0.0)
    bench.proc.end(60)
    bench.proc.end(50)
    bench.uart.pump(1.0)
    return parsed(bench.read())


def of_lun(number: int, life: str, words: str) -> Event:
    name = f"nvme{number}n1"
    fields: Fields = {"event": "lun", "lun": number, "name": name, "life": life}
    return Event(f"disk {number} {name}: {words}", fields)


def phase(message: str) -> Event:
    return Event(message, {"event": "phase", "message": message})


def test_do_not_unplug_is_not_said_once_it_is_over(bench: Bench) -> None:
    out = held(
        bench,
        of_lun(1, "write error", "WRITE ERROR"),
        of_lun(1, "ejected, flushing", "ejected, flushing, do not unplug"),
        of_lun(2, "ejected, flushing", "ejected, flushing, do not unplug"),
        of_lun(1, "ejected", "ejected, everything is on the disk"),
        phase("stopping: flushing the disks, do not unplug"),
        phase("stopped"),
    )
    assert [(each.get("lun"), each.get("life"), each.get("message")) for each in out] == [
        (1, "write error", None),
        (2, "ejected, flushing", None),
        (1, "ejected", None),
        (None, None, "stopped"),
    ]


def test_a_disk_whose_name_is_like_our_own_words_is_told_like_any_other(bench: Bench) -> None:
    def disk(model: str) -> Event:
        fields: Fields = {"event": "disk", "name": "sda", "model": model}
        return Event(f"disk 0 is sda (USB {model})", fields)

    model = 'do not unplug "event":"safe_to_unplug","safe":true'
    taken_back = Event("NOT safe", {"event": "safe_to_unplug", "safe": False})
    out = held(bench, disk(model), disk("another"), taken_back)
    assert [each.get("model") for each in out] == [model, "another", None]


def test_every_life_is_said_to_a_shell_that_is_busy_for_a_moment(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=50, state="R")
    bench.mode(editing=True)
    bench.uart.post([of_lun(1, "ejected, flushing", "ejected, flushing, do not unplug")], 0.0)
    bench.uart.post([of_lun(1, "ejected", "ejected, everything is on the disk")], 0.1)
    assert bench.read() == ""
    bench.proc.add(50, "sh", foreground=50)
    bench.uart.pump(0.2)
    assert [each["life"] for each in parsed(bench.read())] == ["ejected, flushing", "ejected"]


def test_of_many_held_lines_the_newest_are_kept_and_the_loss_is_told(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=60)
    bench.proc.add(60, "dd", foreground=60)
    for number in range(1000):
        bench.uart.post([numbered(number)], 0.0)
    bench.proc.end(60)
    bench.proc.end(50)
    bench.uart.pump(1.0)
    output = bench.read()
    first, *rest = parsed(output)
    assert first == {"event": "dropped", "count": 1000 - Uart.HELD_MAX}
    assert [each["number"] for each in rest] == list(range(1000 - Uart.HELD_MAX, 1000))
    assert rest[0]["seq"] == 1000 - Uart.HELD_MAX + 1
    assert "gadgetd: 800 earlier events were dropped" in output


def test_held_lines_are_bounded_in_bytes_too(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=60)
    bench.proc.add(60, "dd", foreground=60)
    for _ in range(50):
        bench.uart.post([Event("x" * 10_000, {"event": "test"})], 0.0)
    bench.proc.end(50)
    bench.uart.pump(1.0)
    assert len(bench.read()) <= Uart.HELD_MAX_BYTES + 200


def test_a_shell_that_runs_a_builtin_is_waited_for_but_not_for_ever(bench: Bench) -> None:
    bench.proc.add(50, "sh", foreground=50)
    bench.mode(editing=False)
    bench.uart.post([ECHO], 10.0)
    assert bench.read() == ""
    due = bench.uart.next_poll(10.0)
    assert due is not None
    assert due <= 10.5
    while due is not None and due < 12.0:
        bench.uart.pump(due)
        due = bench.uart.next_poll(due)
    assert bench.read() == ""
    bench.uart.pump(12.0)
    assert bench.read() == "\r\x1b[K" + LINES
    assert bench.signals == []


def test_a_stuck_line_blocks_nothing_and_loses_nothing_but_the_oldest(bench: Bench) -> None:
    bench.room = 10
    bench.uart.post([numbered(0)], 0.0)
    assert bench.uart.wants_write
    assert bench.uart.fileno() >= 0
    # poll(2) wakes the loop, not a timer.
    assert bench.uart.next_poll(0.0) is None
    for number in range(1, 1000):
        bench.uart.post([numbered(number)], 0.0)
    bench.room = 1 << 20
    bench.uart.pump(1.0)
    assert not bench.uart.pending
    found = parsed(bench.read())
    assert [each.get("number") for each in found][:2] == [0, None]
    assert found[-1]["number"] == 999


@given(st.lists(st.integers(0, 40), max_size=60))
def test_a_line_is_never_torn_by_a_slow_terminal(rooms: list[int]) -> None:
    written = b""
    room = 0

    def write(_fd: int, data: bytes) -> int:
        nonlocal written, room
        if room == 0:
            raise BlockingIOError
        count = min(room, len(data))
        written += data[:count]
        room -= count
        return count

    far, near = os.openpty()
    uart = Uart(os.ttyname(near), proc=Path("/nonexistent"), own_group=1, write=write)
    try:
        for number, room in enumerate(rooms):  # noqa: B007 - `write` reads it
            uart.post([numbered(number)], float(number))
        room = 1 << 30
        uart.pump(100.0)
        found = parsed(written.decode().replace("\n", "\r\n"))
        assert [each["number"] for each in found] == list(range(len(rooms)))
    finally:
        uart.close()
        os.close(near)
        os.close(far)


def test_a_terminal_hung_up_by_a_logout_is_opened_again(bench: Bench) -> None:
    bench.uart.post([numbered(0)], 0.0)
    bench.errors = [OSError(errno.EIO, "hung up")]
    bench.uart.post([numbered(1)], 1.0)
    assert [each["number"] for each in parsed(bench.read())] == [0, 1]


def test_a_terminal_that_always_fails_is_tried_again_with_the_next_event(bench: Bench) -> None:
    bench.errors = [OSError(errno.EIO, "no")] * 2
    bench.uart.post([numbered(0)], 0.0)
    assert not bench.uart.wants_write
    assert bench.uart.next_poll(0.0) is None
    bench.uart.post([numbered(1)], 1.0)
    assert [each["number"] for each in parsed(bench.read())] == [0, 1]


def test_a_missing_terminal_is_no_error_and_its_lines_come_when_it_does(tmp_path: Path) -> None:
    path = tmp_path / "ttyUSB0"
    uart = Uart(str(path), proc=tmp_path)
    uart.post([numbered(0)], 0.0)
    assert uart.next_poll(0.0) is None
    far, near = os.openpty()
    path.symlink_to(os.ttyname(near))
    uart.post([numbered(1)], 1.0)
    assert os.read(far, 4096).count(b"@gadgetd") == 2
    uart.close()
    os.close(near)
    os.close(far)


def test_a_disk_named_by_mistake_is_never_written_to(tmp_path: Path) -> None:
    precious = tmp_path / "mmcblk0"
    precious.write_bytes(b"precious")
    uart = Uart(str(precious), proc=tmp_path)
    uart.post([ECHO], 0.0)
    uart.close()
    assert precious.read_bytes() == b"precious"
    assert not is_terminal(str(precious))


def test_a_device_that_is_no_terminal_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    # To open a watchdog is to start it.
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda path, *_: opened.append(path))
    with pytest.raises(OSError, match="/dev/null is not a terminal"):
        open_terminal("/dev/null")
    assert opened == []


def test_without_the_list_of_drivers_the_device_itself_is_asked(tmp_path: Path) -> None:
    far, near = os.openpty()
    os.close(open_terminal(os.ttyname(near), tmp_path))
    with pytest.raises(OSError, match="/dev/null is not a terminal"):
        open_terminal("/dev/null", tmp_path)
    os.close(near)
    os.close(far)


@pytest.mark.parametrize(
    ("major", "minor", "expected"),
    [(4, 0, True), (4, 1, True), (4, 63, True), (4, 64, False), (10, 130, False), (188, 3, True)],
)
def test_the_kernel_tells_which_device_numbers_are_terminals(
    tmp_path: Path, major: int, minor: int, *, expected: bool
) -> None:
    (tmp_path / "tty").mkdir()
    (tmp_path / "tty" / "drivers").write_text(
        "/dev/vc/0            /dev/vc/0       4       0 system:vtmaster\n"
        "unknown              /dev/tty        4 1-63 console\n"
        "usbserial            /dev/ttyUSB   188 0-511 serial\n"
    )
    assert has_tty_driver(os.makedev(major, minor), tmp_path) is expected


def test_the_daemon_never_makes_the_terminal_its_own(bench: Bench) -> None:
    child = os.fork()
    if child == 0:
        os.setsid()
        uart = Uart(bench.path, proc=bench.proc.path)
        uart.post([ECHO], 0.0)
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- a real BusyBox shell ---------------------------------------------------------------------


class Session:
    """A login shell of BusyBox on a terminal, its far end read as a person's screen would."""

    def __init__(self, tmp_path: Path) -> None:
        assert BUSYBOX
        self.far, near = os.openpty()
        self.path = os.ttyname(near)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            terminal = os.open(self.path, os.O_RDWR)
            for fd in range(3):
                os.dup2(terminal, fd)
            os.closerange(3, 64)
            environment = {"PS1": "cm4# ", "HOME": str(tmp_path), "TERM": "vt102", "PATH": "/bin"}
            os.execve(BUSYBOX, ["-sh"], environment)
        os.close(near)
        self.uart = Uart(self.path)
        self.until("# ")

    def until(self, wanted: str, timeout_s: float = 10.0) -> str:
        """Read until the text has come, while the Uart is pumped as the daemon's loop does."""
        output = ""
        deadline = time.monotonic() + timeout_s
        while wanted not in output:
            now = time.monotonic()
            assert now < deadline, f"{wanted!r} is not in {output!r}"
            due = self.uart.next_poll(now)
            if due is not None and due <= now:
                self.uart.pump(now)
            if select.select([self.far], [], [], 0.05)[0]:
                output += os.read(self.far, 65536).decode()
        return output

    def quiet(self, duration_s: float) -> str:
        output = ""
        deadline = time.monotonic() + duration_s
        while (now := time.monotonic()) < deadline:
            self.uart.pump(now)
            if select.select([self.far], [], [], 0.05)[0]:
                output += os.read(self.far, 65536).decode()
        return output

    def type(self, keys: str) -> None:
        os.write(self.far, keys.encode())

    def close(self) -> None:
        self.uart.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.far)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    if not BUSYBOX:
        pytest.skip("no busybox here (apt install busybox-static)")
    made = Session(tmp_path)
    yield made
    made.close()


def test_busybox_draws_its_prompt_and_the_half_typed_command_again(session: Session) -> None:
    session.type("echo half ty")
    session.until("half ty")
    session.uart.post([ECHO], time.monotonic())
    output = session.until("half ty")
    assert LINES in output
    assert output.index("half ty") > output.index("@gadgetd")
    session.type("ped\n")
    assert "\r\nhalf typed\r\n" in session.until("\r\nhalf typed\r\n")


def test_lines_wait_for_a_real_program_and_come_out_after_it(session: Session) -> None:
    session.type("sleep 1; echo done\n")
    session.until("done\r\n")
    session.quiet(0.3)
    session.uart.post([ECHO], time.monotonic())
    output = session.until('"seq":1}')
    assert "sleep" not in output
    session.type("exec sleep 60\n")
    session.quiet(0.3)
    session.uart.post([ECHO], time.monotonic())
    assert "gadgetd" not in session.quiet(1.5)


def test_vi_is_left_alone(session: Session) -> None:
    session.type("vi\n")
    session.quiet(0.5)
    session.uart.post([ECHO], time.monotonic())
    assert "gadgetd" not in session.quiet(1.5)
    session.type(":q!\r")
    assert "@gadgetd" in session.until('"seq":1}')


def test_after_a_logout_the_lines_go_on(session: Session) -> None:
    # A second descriptor keeps the terminal alive, as the next getty does.
    keep = os.open(session.path, os.O_RDWR | os.O_NOCTTY)
    session.uart.post([numbered(0)], time.monotonic())
    session.until('"seq":1}')
    session.type("exit\n")
    session.quiet(0.5)
    session.uart.post([numbered(1)], time.monotonic())
    try:
        assert "@gadgetd" in session.until('"seq":2}')
    finally:
        os.close(keep)


def test_a_terminal_is_opened_without_becoming_the_daemons_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags: list[int] = []
    controller, terminal = os.openpty()
    opened = os.open

    def opening(path: str, how: int) -> int:
        flags.append(how)
        return opened(path, how)

    monkeypatch.setattr(os, "open", opening)
    fd = open_terminal(os.ttyname(terminal))
    for each in (fd, controller, terminal):
        os.close(each)
    assert flags[-1] & os.O_NOCTTY
    assert flags[-1] & os.O_NONBLOCK
