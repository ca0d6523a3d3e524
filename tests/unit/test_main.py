"""The whole daemon put together as on a board, in a process of its own: loop, signals, socket."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# The real loop, signals, socket, lock, flushes and consoles; the kernel and the disks are faked.
COMMON = """
    import json, os, signal, sys, threading, time
    from functools import partial
    from pathlib import Path
    import pytest
    from gadgetd import console, main, oom
    from gadgetd.control import commands, server
    from gadgetd.disks import dirty_limits
    from gadgetd.disks.hold import Flush
    from gadgetd.export import drive
    from tests.unit.fakes import Bench

    path = Path(sys.argv[1])
    patch = pytest.MonkeyPatch()
    bench = Bench(path / "board", patch)
    patch.setattr(drive, "Flush", Flush)
    socket = path / "run" / "control"
    ask = partial(server.ask, path=socket)
    patch.setattr(main, "BlockScan", lambda: bench.scan)
    patch.setattr(main, "LOCK", path / "run" / "lock")
    patch.setattr(main, "Exporter", lambda *_: bench.exporter())
    (path / "oom_score_adj").touch()
    patch.setattr(oom, "set_score", partial(oom.set_score, process=path))
    patch.setattr(server, "Server", partial(server.Server, path=socket))
    patch.setattr(main, "KernelLog", lambda: bench.log)
    for name in ("remember", "put_back"):
        function = getattr(dirty_limits, name)
        patch.setattr(dirty_limits, name, partial(function, path / "run" / "dirty", bench.proc))
    patch.setattr(main, "Login", partial(main.Login, command=("/nonexistent",)))
    patch.setattr(console, "Panel", partial(console.Panel, sys=bench.sys, dev=bench.dev))
    Daemon = main.Daemon
    patch.setattr(main, "Daemon", partial(Daemon, proc=bench.proc, sys=bench.sys))
    told = []

    def talk():
        while not socket.exists():
            time.sleep(0.01)
        try:
            scenario()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def status():
        return ask({"command": "status"})["status"]

    def wait_for(holds):
        until = time.monotonic() + 10
        while not holds() and time.monotonic() < until:
            time.sleep(0.02)
        assert holds()
"""
END = """
    threading.Thread(target=talk).start()
    main.run(bench.config_path)
    print(json.dumps(told))
"""


def run(tmp_path: Path, scenario: str, complaint: str = "") -> list[object]:
    code = textwrap.dedent(COMMON) + textwrap.dedent(scenario) + textwrap.dedent(END)
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.stderr == complaint
    assert result.returncode == 0
    told: list[object] = json.loads(result.stdout)
    return told


def test_from_start_to_sigterm_and_nothing_is_left(tmp_path: Path) -> None:
    assert run(
        tmp_path,
        """
        bench.add("mmcblk0")
        (bench.proc / "sys" / "vm" / "dirty_ratio").write_text("20\\n")
        def scenario():
            told.append(status()["message"])
            bench.add("nvme0n1")
            wait_for(lambda: len(status()["disks"]) == 2)
            told.append(ask({"command": "attach", "confirmed": False})["disks"])
            ask({"command": "attach", "confirmed": True})
            told.append(bench.files())
            ask({"command": "eject", "disk": "mmcblk0"})
            wait_for(lambda: status()["disks"][0]["life"] == "ejected")
            told.append(status()["safe_to_unplug"])
            ask({"command": "eject", "disk": "nvme0n1"})
            wait_for(lambda: status()["safe_to_unplug"])
        import atexit
        left = lambda: str((bench.tree, os.listdir(path / "run")))
        atexit.register(lambda: (path / "left").write_text(left()))
        """,
    ) == ["1 disk exported", ["mmcblk0"], {"0": "mmcblk0", "1": "nvme0n1"}, False]
    # The machine is as it was.
    assert (tmp_path / "board" / "proc" / "sys" / "vm" / "dirty_ratio").read_text() == "20\n"
    assert (tmp_path / "left").read_text() == "([], ['lock'])"


def test_sighup_reads_the_configuration_again(tmp_path: Path) -> None:
    assert run(
        tmp_path,
        """
        bench.add("mmcblk0")
        def scenario():
            status()  # It has started, and read the file as it was.
            bench.configure("slot: 2\\n")
            os.kill(os.getpid(), signal.SIGHUP)
            wait_for(lambda: status()["advice"])
            told.append([advice["key"] for advice in status()["advice"]])
            bench.configure("disks: [{kind: emmc, read_only: true}]\\n")
            os.kill(os.getpid(), signal.SIGHUP)
            wait_for(lambda: not status()["advice"])
            told.append(status()["disks"][0]["read_only"])
        """,
    ) == [["slot"], True]


def test_the_kernel_is_to_end_anything_else_first(tmp_path: Path) -> None:
    assert run(
        tmp_path,
        """
        def scenario():
            told.append((path / "oom_score_adj").read_text())
        """,
    ) == ["-999"]


def test_stop_and_start_over_the_socket(tmp_path: Path) -> None:
    assert run(
        tmp_path,
        """
        bench.add("mmcblk0")
        def scenario():
            told.append(ask({"command": "stop"}))
            told.append(bench.tree)
            told.append(ask({"command": "start"})["status"]["phase"])
            told.append(len(ask({"command": "log"})["lines"]) > 3)
        """,
    ) == [{"ok": True, "safe": False, "flushed": True}, [], "exported", True]


def test_a_second_daemon_does_not_get_in_the_way(tmp_path: Path) -> None:
    assert run(
        tmp_path,
        """
        bench.add("mmcblk0")
        def scenario():
            from gadgetd.errors import GadgetdError
            try:
                main.run(bench.config_path)
            except GadgetdError as error:
                told.append(error.message)
            told.append(status()["phase"])
        """,
    ) == ["another one is running already", "exported"]


def test_a_command_that_comes_during_the_start_is_answered_after_it(tmp_path: Path) -> None:
    assert run(
        tmp_path,
        """
        bench.add("mmcblk0")
        reload = Daemon.reload
        def slowly(daemon):
            time.sleep(0.3)
            reload(daemon)
        Daemon.reload = slowly
        def scenario():
            told.append(status()["message"])
        """,
    ) == ["1 disk exported"]


def test_without_a_socket_the_disks_are_exported_all_the_same(tmp_path: Path) -> None:
    complaint = "gadgetd: no commands: /run/gadgetd: No space left on device\n"
    assert (
        run(
            tmp_path,
            """
            bench.add("mmcblk0")
            def full(*_):
                raise OSError(28, "No space left on device")
            patch.setattr(server, "Server", full)
            socket.parent.mkdir()
            socket.touch()
            def scenario():
                wait_for(lambda: bench.files() == {0: "mmcblk0"})
            """,
            complaint,
        )
        == []
    )


def test_a_signal_that_comes_before_anybody_listens_ends_it_in_order(tmp_path: Path) -> None:
    # What an earlier run left may be with a host by then.
    assert (
        run(
            tmp_path,
            """
            bench.add("mmcblk0")
            def scan():
                signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
                return bench.scan
            patch.setattr(main, "BlockScan", scan)
            talk = lambda: None
            """,
        )
        == []
    )
