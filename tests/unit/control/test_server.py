"""The socket: whatever a client does the daemon lives, and whatever it does a client is told."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gadgetd.control.server import PATIENCE_S, RETRY_S, Server, ask
from gadgetd.errors import ControlError, DiskBusyError
from tests.unit.fakes import FakeLoop

if TYPE_CHECKING:
    from gadgetd.control.server import Reply

Request = dict[str, Any]


class Daemon:
    """A server in a loop whose clock is faked, with a handler that notes what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = FakeLoop()
        self.asked: list[Request] = []
        self.later: list[Reply] = []
        self.server = Server(self.loop, self.handle, path)

    def handle(self, request: Request, reply: Reply) -> None:
        self.asked.append(request)
        command = request.get("command")
        if command == "later":
            self.later.append(reply)
        elif command == "refuse":
            raise ControlError("not now", hint="later")
        elif command == "busy":
            raise DiskBusyError("mmcblk0 is in use")
        elif command == "fail":
            raise ValueError("invalid literal")
        else:
            reply({"ok": True, "echo": request, "padding": "x" * request.get("size", 0)})

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(10)
        client.connect(str(self.path))
        return client

    def talk(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back."""
        with self.connect() as client:
            client.sendall(data)
            self.loop.settle()
            answer = b""
            while True:
                self.loop.settle()
                try:
                    part = client.recv(65536)
                except ConnectionResetError:
                    return answer
                if not part:
                    return answer
                answer += part


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "run" / "control")
    yield made
    made.server.close()


def line(**request: Any) -> bytes:
    return json.dumps(request).encode() + b"\n"


def test_a_request_gets_its_reply(daemon: Daemon) -> None:
    answer = json.loads(daemon.talk(line(command="echo")))
    assert answer == {"ok": True, "echo": {"command": "echo"}, "padding": ""}


def test_only_root_can_open_the_socket_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run" / "control"
    modes: list[int] = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: Any) -> None:
            bind(self, address)
            modes.append(stat.S_IMODE(Path(address).stat().st_mode))

    monkeypatch.setattr(socket, "socket", Watched)
    before = os.umask(0)
    try:
        server = Server(FakeLoop(), lambda *_: None, path)
        assert os.umask(0) == 0, "the process's umask is as it was"
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    server.close()


def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    daemon = Daemon(path)
    assert json.loads(daemon.talk(line(command="echo")))["ok"]
    daemon.server.close()


def test_closing_leaves_no_socket_and_does_no_harm_twice(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "control")
    daemon.server.close()
    daemon.server.close()
    assert list(tmp_path.iterdir()) == []
    assert daemon.loop.watched == set()


def test_an_error_is_answered_with_its_sentence_and_hint(daemon: Daemon) -> None:
    assert json.loads(daemon.talk(line(command="refuse"))) == {
        "ok": False,
        "error": "not now",
        "hint": "later",
    }
    assert json.loads(daemon.talk(line(command="busy")))["error"] == "mmcblk0 is in use"


def test_a_failure_of_the_daemon_is_not_put_down_to_the_request(daemon: Daemon) -> None:
    answer = json.loads(daemon.talk(line(command="fail")))
    assert answer["error"] == "the daemon failed at it: invalid literal"
    assert answer["hint"]
    assert json.loads(daemon.talk(line(command="echo")))["ok"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"hello\n",
        b"{\n",
        b"[]\n",
        b'"stop"\n',
        b"null\n",
        b"\xff\xfe\x00\n",
        b'{"command": "\xff"}\n',
        b"[" * 50_000 + b"\n",
        b'{"a":' * 10_000 + b"\n",
        b'{"command": 1e999999}\n',
        b"9" * 10_000 + b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda garbage: garbage[:10].decode("latin-1"),
)
def test_garbage_is_refused_in_words(daemon: Daemon, garbage: bytes) -> None:
    answer = json.loads(daemon.talk(garbage))
    assert answer["ok"] in (False, True)
    if not answer["ok"]:
        assert answer["error"]
    assert json.loads(daemon.talk(line(command="echo")))["ok"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200))
def test_no_bytes_upset_the_daemon(daemon: Daemon, data: bytes) -> None:
    daemon.talk(data + b"\n")
    assert json.loads(daemon.talk(line(command="echo")))["ok"]


def test_a_request_may_come_in_pieces(daemon: Daemon) -> None:
    with daemon.connect() as client:
        for byte in line(command="echo"):
            client.send(bytes([byte]))
            daemon.loop.settle()
        assert json.loads(client.recv(65536))["ok"]


def test_half_a_request_is_given_up_after_a_while(daemon: Daemon) -> None:
    with daemon.connect() as client:
        client.send(b'{"command": ')
        daemon.loop.run_for(PATIENCE_S - 1)
        assert len(daemon.loop.watched) == 2
        daemon.loop.run_for(2)
        assert client.recv(100) == b""
    assert len(daemon.loop.watched) == 1
    assert daemon.asked == []


def test_half_a_request_whose_client_has_gone_is_forgotten(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send(b'{"command": ')
    daemon.loop.settle()
    client.close()
    daemon.loop.settle()
    assert len(daemon.loop.watched) == 1
    assert daemon.loop.run_for(60) == 0


def test_a_client_that_says_nothing_is_given_up(daemon: Daemon) -> None:
    client = daemon.connect()
    daemon.loop.run_for(PATIENCE_S + 1)
    assert client.recv(100) == b""
    client.close()


def test_a_huge_request_is_cut_off(daemon: Daemon) -> None:
    with daemon.connect() as client:
        client.setblocking(False)
        cut_off = False
        for _ in range(1000):
            try:
                client.send(b"x" * 65536)
            except BlockingIOError:
                daemon.loop.settle()
            except (BrokenPipeError, ConnectionResetError):
                cut_off = True
                break
    assert cut_off
    assert daemon.asked == []
    assert len(daemon.loop.watched) == 1


def test_a_client_that_has_gone_before_its_reply_is_no_harm(daemon: Daemon) -> None:
    client = daemon.connect()
    client.sendall(line(command="later"))
    daemon.loop.settle()
    client.close()
    daemon.loop.settle()
    daemon.later[0]({"ok": True})
    daemon.loop.settle()
    assert len(daemon.loop.watched) == 1
    assert json.loads(daemon.talk(line(command="echo")))["ok"]


def test_a_reply_may_come_much_later(daemon: Daemon) -> None:
    with daemon.connect() as client:
        client.sendall(line(command="later"))
        daemon.loop.run_for(500)
        daemon.later[0]({"ok": True, "safe": True})
        daemon.loop.settle()
        assert json.loads(client.recv(65536)) == {"ok": True, "safe": True}


def test_replying_twice_does_no_harm(daemon: Daemon) -> None:
    with daemon.connect() as client:
        client.sendall(line(command="later"))
        daemon.loop.settle()
        for _ in range(2):
            daemon.later[0]({"ok": True})
            daemon.loop.settle()
        assert json.loads(client.recv(65536)) == {"ok": True}


def test_a_long_reply_goes_out_in_pieces_while_others_are_answered(daemon: Daemon) -> None:
    with daemon.connect() as slow:
        slow.sendall(line(command="echo", size=5_000_000))
        daemon.loop.settle()
        assert json.loads(daemon.talk(line(command="echo")))["ok"]
        answer = b""
        while not answer.endswith(b"\n"):
            daemon.loop.settle()
            answer += slow.recv(1 << 20)
    assert len(json.loads(answer)["padding"]) == 5_000_000


def test_a_client_that_does_not_read_its_reply_is_given_up(daemon: Daemon) -> None:
    client = daemon.connect()
    client.sendall(line(command="echo", size=5_000_000))
    daemon.loop.settle()
    assert len(daemon.loop.watched) == 2
    daemon.loop.run_for(PATIENCE_S + 1)
    assert len(daemon.loop.watched) == 1
    client.close()


def test_many_clients_at_once_are_all_answered(daemon: Daemon) -> None:
    def client(number: int) -> None:
        results[number] = ask({"command": "echo", "n": number}, daemon.path)["echo"]["n"]

    results: dict[int, int] = {}
    threads = [threading.Thread(target=client, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 20
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        daemon.loop.run_for(0)
    for thread in threads:
        thread.join(1)
    assert results == {n: n for n in range(40)}
    daemon.loop.settle()
    assert len(daemon.loop.watched) == 1


def test_out_of_descriptors_is_no_end(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = socket.socket.accept
    with monkeypatch.context() as patch, daemon.connect():

        def refuse(_: socket.socket) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(socket.socket, "accept", refuse)
        daemon.loop.run_for(0)
        # The client goes on waiting, which must not keep the loop from anything else.
        assert daemon.loop.run_for(60) <= 2 * 60 / RETRY_S + 1  # The timer, and the client.
    assert socket.socket.accept is accept
    daemon.loop.run_for(RETRY_S)
    assert json.loads(daemon.talk(line(command="echo")))["ok"]


# The client's side


class Answering:
    """A daemon that treats one client as the test wants."""

    def __init__(self, path: Path, treat: Callable[[socket.socket], None]) -> None:
        self.path = path
        self._treat = treat
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            self._treat(connection)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()


def answering(path: Path, answer: bytes) -> Answering:
    def treat(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return Answering(path / "control", treat)


def test_without_a_daemon_the_sentence_says_so_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="gadgetd is not running") as caught:
        ask({"command": "status"}, tmp_path / "control")
    assert "gadgetd run" in caught.value.hint


def test_a_socket_without_a_daemon_behind_it_is_the_same(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(tmp_path / "control"))
    with pytest.raises(ControlError, match="gadgetd is not running"):
        ask({"command": "status"}, tmp_path / "control")


def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    class Refused(socket.socket):
        connect = refuse

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(ControlError, match="only root"):
        ask({"command": "status"}, tmp_path / "control")


@pytest.mark.parametrize("answer", [b"", b'{"ok": tr', b"\xff\n"])
def test_an_answer_that_breaks_off_is_told(tmp_path: Path, answer: bytes) -> None:
    broken = pytest.raises(ControlError, match="broke off its answer")
    with answering(tmp_path, answer) as path, broken:
        ask({"command": "status"}, path)


@pytest.mark.parametrize("answer", [b"[]\n", b"null\n", b"{}\n", b'{"ok": false}\n', b'"ok"\n'])
def test_an_answer_that_makes_no_sense_is_a_refusal(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path, answer) as path, pytest.raises(ControlError):
        ask({"command": "status"}, path)


def test_a_refusal_is_the_daemons_own_sentence(tmp_path: Path) -> None:
    with (
        answering(
            tmp_path, b'{"ok": false, "error": "no such LUN", "hint": "see status"}\n'
        ) as path,
        pytest.raises(ControlError, match="no such LUN") as caught,
    ):
        ask({"command": "eject"}, path)
    assert caught.value.hint == "see status"


def wait(done: threading.Event) -> None:
    done.wait(10)


def test_a_daemon_that_does_not_answer_is_not_waited_for_without_end(tmp_path: Path) -> None:
    done = threading.Event()
    with Answering(tmp_path / "control", lambda _: wait(done)) as path:
        with pytest.raises(ControlError, match=r"did not answer within 0\.2 s"):
            ask({"command": "status"}, path, timeout_s=0.2)
        done.set()
