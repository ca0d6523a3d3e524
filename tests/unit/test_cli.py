"""The command line: exit codes, sentences, help, and what it costs to start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from gadgetd import __version__
from gadgetd import main as main_module
from gadgetd.cli import BAD_CONFIG, FAILED, NO_DAEMON, OK, USAGE, main
from gadgetd.config.settings import CONFIG
from gadgetd.control import client, server
from gadgetd.control.commands import Commands
from gadgetd.errors import ControlError, GadgetdError
from gadgetd.status import Life
from tests.unit.control.test_client import FakeDaemon
from tests.unit.fakes import Bench
from tests.unit.statuses import nvme
from tests.unit.statuses import status as status_of

REPOSITORY = Path(__file__).parents[2]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ask", partial(server.ask, path=tmp_path / "control"))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    fake.statuses = [status_of(nvme(0))]
    monkeypatch.setattr(server, "ask", fake.ask)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return fake


class Linked:
    """A real daemon's Commands in the place of the socket."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        for name in names:
            bench.add(name)
        self.bench = bench
        self.daemon = bench.daemon()
        commands = Commands(self.daemon, bench.panel.log)

        def ask(request: dict[str, object], **_: object) -> dict[str, object]:
            replies: list[dict[str, object]] = []
            try:
                commands.handle(json.loads(json.dumps(request)), replies.append)
            except GadgetdError as error:
                raise ControlError(error.message, hint=error.hint) from error
            bench.loop.settle()
            value: dict[str, object] = json.loads(json.dumps(replies[-1]))
            return value

        monkeypatch.setattr(server, "ask", ask)
        monkeypatch.setattr(time, "sleep", lambda _: None)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=REPOSITORY,
        env=os.environ | environment,
        check=False,
    )


# Without a daemon

ASKING = [
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["eject", "0"],
    ["eject", "--force", "mmcblk0"],
    ["insert", "0"],
    ["hash", "0"],
    ["stop"],
    ["start"],
    ["reload"],
    ["log"],
]


@pytest.mark.usefixtures("no_daemon")
@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_without_a_daemon_each_command_says_so_and_what_to_do(
    words: list[str], capsys: Output
) -> None:
    assert main(words) == NO_DAEMON
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("gadgetd: gadgetd is not running\n  ")
    assert "gadgetd run" in output.err


# Arguments


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["--nonsense"],
        ["eject"],
        ["hash"],
        ["status", "--json", "--watch"],
        ["eject", "0", "1"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_told_apart_from_failures(words: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == USAGE
    assert "usage: gadgetd" in capsys.readouterr().err


def test_the_version_is_told(capsys: Output) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"gadgetd {__version__}\n"


def help_of(capsys: Output, *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_help_names_every_command_the_exit_codes_and_the_configuration(capsys: Output) -> None:
    text = help_of(capsys)
    for command in (
        "run",
        "scan",
        "check",
        "status",
        "eject",
        "insert",
        "hash",
        "stop",
        "start",
        "reload",
        "log",
    ):
        assert f" {command} " in text
    for code in (OK, FAILED, USAGE, BAD_CONFIG, NO_DAEMON):
        assert f" {code} " in text
    assert "/etc/gadgetd.yaml" in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run", ["--config FILE", "Export the disks"]),
        ("scan", ["--json", "--config FILE", "changes nothing"]),
        ("check", ["FILE", "changes nothing"]),
        ("status", ["--json", "--watch", "what is wrong"]),
        ("eject", ["NUMBER|NAME", "--force", "safe"]),
        ("insert", ["NUMBER|NAME", "back to the host"]),
        ("hash", ["NUMBER|NAME", "SHA-256"]),
        ("stop", ["flush", "the daemon stays"]),
        ("start", ["after stop"]),
        ("reload", ["/etc/gadgetd.yaml", "SIGHUP"]),
        ("log", ["since the start"]),
    ],
)
def test_the_help_of_each_command_says_what_matters(
    command: str, words: list[str], capsys: Output
) -> None:
    text = help_of(capsys, command)
    for word in words:
        assert word in text


# run


def test_run_takes_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Path] = []
    monkeypatch.setattr(main_module, "run", ran.append)
    for words in (["run"], ["run", "--config", "other.yaml"]):
        assert main(words) == OK
    assert ran == [CONFIG, Path("other.yaml")]


def test_the_words_of_the_process_are_taken_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Path] = []
    monkeypatch.setattr(main_module, "run", ran.append)
    monkeypatch.setattr(sys, "argv", ["gadgetd", "run"])
    assert main() == OK
    assert ran == [CONFIG]


def test_a_failure_is_a_sentence_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def fail(_: Path) -> None:
        raise GadgetdError("gadgetd is running already", hint="see gadgetd status")

    monkeypatch.setattr(main_module, "run", fail)
    assert main(["run"]) == FAILED
    assert capsys.readouterr().err == "gadgetd: gadgetd is running already\n  see gadgetd status\n"


def test_a_traceback_of_the_daemon_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    colours: list[str | None] = []
    monkeypatch.setenv("PYTHON_COLORS", "1")
    monkeypatch.setattr(main_module, "run", lambda _: colours.append(os.getenv("PYTHON_COLORS")))
    assert main(["run"]) == OK
    # Source: "Controlling color" in the documentation of Python 3.13.
    assert colours == ["0"]


def test_nor_has_that_of_a_module_which_the_image_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_COLORS", "1")
    monkeypatch.setitem(sys.modules, "gadgetd.main", None)
    with pytest.raises(ModuleNotFoundError):
        main(["run"])
    assert os.environ["PYTHON_COLORS"] == "0"


def test_only_one_daemon_runs_and_its_lock_goes_with_it(tmp_path: Path) -> None:
    lock = main_module._lock(tmp_path / "run" / "lock")
    with pytest.raises(GadgetdError, match="running already"):
        main_module._lock(tmp_path / "run" / "lock")
    os.close(lock)
    os.close(main_module._lock(tmp_path / "run" / "lock"))


def test_where_there_is_no_place_for_a_lock_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(GadgetdError, match="cannot open") as caught:
        main_module._lock(tmp_path / "run" / "lock")
    assert "root" in caught.value.hint


# check


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "slots: 2\n", "disks:\n  - kind: [emmc, nvme]\n"]
)
def test_a_good_file_is_good(tmp_path: Path, text: str, capsys: Output) -> None:
    path = tmp_path / "gadgetd.yaml"
    path.write_text(text)
    assert main(["check", str(path)]) == OK
    assert capsys.readouterr().out == f"{path}: good\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slot: 2\n", ":1:1: slot: "),
        ("slots: many\n", ":1:8: slots: "),
        ("disks:\n  - kind: floppy\n", ":2:11: disks[0].kind: "),
        ("a: [\n", ":2:"),
        ("\t\n\x00", ""),
    ],
)
def test_a_bad_file_is_told_with_its_place_and_has_an_exit_code_of_its_own(
    tmp_path: Path, text: str, told: str, capsys: Output
) -> None:
    path = tmp_path / "gadgetd.yaml"
    path.write_text(text)
    assert main(["check", str(path)]) == BAD_CONFIG
    error = capsys.readouterr().err
    assert f"{path}{told}" in error
    assert "Traceback" not in error


def test_each_error_of_each_file_is_told_and_once_what_to_do(
    tmp_path: Path, capsys: Output
) -> None:
    good, bad, worse = (tmp_path / f"{name}.yaml" for name in ("good", "bad", "worse"))
    good.write_text("slots: 2\n")
    bad.write_text("slot: 2\nled: true\n")
    worse.write_text("a: [\n")
    assert main(["check", str(bad), str(good), str(worse)]) == BAD_CONFIG
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == f"{good}: good\n"
    assert f"{bad}:1:1: slot: unknown key (did you mean slots?)" in lines[0]
    assert f"{bad}:2:6: led: " in lines[1]
    assert lines[2] == f"  correct it; to try it: gadgetd check {bad}"
    assert f"{worse}:2:" in lines[3]


def test_standard_input_is_checked_as_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"slots: 2\n")))
    assert main(["check", "-"]) == OK
    assert capsys.readouterr().out == "-: good\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"slots: two\n")))
    assert main(["check", "-"]) == BAD_CONFIG
    assert "gadgetd: -:1:8: slots: " in capsys.readouterr().err


def test_what_is_hardly_meant_is_a_warning_and_the_file_is_good(
    tmp_path: Path, capsys: Output
) -> None:
    path = tmp_path / "gadgetd.yaml"
    path.write_text("disks:\n  - kind: nvme\n  - name: nvme0n1\n")
    assert main(["check", str(path)]) == OK
    said = capsys.readouterr()
    assert said.out == f"{path}: good, with 1 warning\n"
    assert said.err.startswith(f"gadgetd: warning: {path}:3: this rule can never match")


@pytest.mark.parametrize("name", ["missing.yaml", ".", "x" * 5000, "a\0b"], ids=lambda n: n[:9])
def test_a_file_that_cannot_be_read_is_a_sentence(
    tmp_path: Path, name: str, capsys: Output
) -> None:
    assert main(["check", f"{tmp_path}/{name}"]) == BAD_CONFIG
    assert capsys.readouterr().err.startswith("gadgetd: ")


# Talking to the daemon


def test_status_for_people_and_for_programs(daemon: FakeDaemon, capsys: Output) -> None:
    assert main(["status"]) == OK
    assert "nvme0n1" in capsys.readouterr().out
    assert main(["status", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["disks"][0]["name"] == "nvme0n1"
    assert [request["command"] for request in daemon.asked] == ["status", "status"]


def test_watching_ends_with_ctrl_c_and_no_traceback(
    daemon: FakeDaemon, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert main(["status", "--watch"]) == FAILED
    output = capsys.readouterr()
    assert "nvme0n1" in output.out
    assert output.err == ""
    assert daemon.asked


def test_scan_for_people_and_for_programs(daemon: FakeDaemon, capsys: Output) -> None:
    assert main(["scan"]) == OK
    assert capsys.readouterr().out.startswith("export  nvme0n1")
    assert main(["scan", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)[0]["exported"] is True
    assert daemon.asked


def test_scan_with_a_wrong_configuration_and_no_daemon(
    no_daemon: None, tmp_path: Path, capsys: Output
) -> None:
    path = tmp_path / "gadgetd.yaml"
    path.write_text("slot: 2\n")
    assert main(["scan", "--config", str(path)]) == BAD_CONFIG
    assert ":1:1: slot" in capsys.readouterr().err
    assert no_daemon is None


def test_an_eject_says_when_it_is_safe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    assert main(["eject", "mmcblk0"]) == OK
    assert capsys.readouterr().out == "mmcblk0 is ejected: all that the host wrote is on the disk\n"
    assert main(["insert", "0"]) == OK
    assert bench.files() == {0: "mmcblk0"}


def test_an_eject_whose_flush_fails_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    bench.flush_result = 5
    assert main(["eject", "mmcblk0"]) == FAILED
    assert "did not take all data" in capsys.readouterr().err


def test_an_eject_that_the_host_has_locked_says_how_to_force_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    bench.lun(0).locked = True
    assert main(["eject", "mmcblk0"]) == NO_DAEMON
    assert "--force" in capsys.readouterr().err
    assert main(["eject", "--force", "mmcblk0"]) == OK
    assert "what the host still held is not known" in capsys.readouterr().out


def test_a_disk_that_there_is_not(daemon: FakeDaemon, capsys: Output) -> None:
    assert main(["hash", "sdz"]) == NO_DAEMON
    assert "exported: 0 (nvme0n1)" in capsys.readouterr().err
    assert daemon.asked


def test_a_hash_is_printed_as_sha256sum_prints_it(
    daemon: FakeDaemon, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = nvme(0).disk
    monkeypatch.setattr(client, "sha256", lambda *_: (disk, "ab" * 32))
    assert main(["hash", "0"]) == OK
    assert capsys.readouterr().out == f"{'ab' * 32}  /dev/nvme0n1\n"
    assert daemon.asked == []


def test_stop_and_start_say_what_came_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    assert main(["stop"]) == OK
    said = "stopped: all that arrived is on the disks; what the host still held is not known\n"
    assert capsys.readouterr().out == said
    assert main(["stop"]) == NO_DAEMON
    assert "stopped already" in capsys.readouterr().err
    assert main(["start"]) == OK
    assert capsys.readouterr().out == "1 disk exported\n"


def test_a_stop_that_lost_data_is_a_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    bench.flush_result = 5
    assert main(["stop"]) == FAILED
    assert "not all data could be written" in capsys.readouterr().err


def test_a_reload_of_a_bad_file_is_a_failure_with_its_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    bench.configure("slot: 2\n")
    assert main(["reload"]) != OK
    assert ":1:1: slot" in capsys.readouterr().err
    bench.configure("slots: 2\n")
    assert main(["reload"]) == OK
    assert capsys.readouterr().out == "1 disk exported\n"


def test_the_log_is_printed(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    assert main(["log"]) == OK
    assert "1 disk exported" in capsys.readouterr().out


def test_an_eject_of_a_disk_that_leaves_is_no_success(daemon: FakeDaemon, capsys: Output) -> None:
    daemon.statuses = [status_of(nvme(0, life=Life.GONE))]
    assert main(["eject", "0"]) == FAILED
    assert "left the board" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "gadgetd.yaml").write_text("slots: 2\n")
    command = [sys.executable, "-m", "gadgetd", "check", str(tmp_path / "gadgetd.yaml")]
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        command,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        timeout=30,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        check=False,
    )
    os.close(writer)
    assert result.stderr == ""
    assert result.returncode == FAILED


def test_python_m_gadgetd_is_gadgetd() -> None:
    result = run_python(
        "import sys, runpy; sys.argv = ['gadgetd', '--version']\n"
        "runpy.run_module('gadgetd', run_name='__main__')"
    )
    assert result.stdout == f"gadgetd {__version__}\n"


def test_an_insert_says_what_came_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    Linked(bench, monkeypatch, "mmcblk0")
    assert main(["eject", "0"]) == OK
    capsys.readouterr()
    assert main(["insert", "0"]) == OK
    assert capsys.readouterr().out == "mmcblk0 is disk 0 again\n"


def test_a_hash_that_is_interrupted_says_so(
    daemon: FakeDaemon, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "sha256", interrupt)
    assert main(["hash", "0"]) == FAILED
    assert "interrupted: there is no sum of 0" in capsys.readouterr().err
    assert daemon.asked == []


def test_a_good_file_that_is_not_used_yet_says_how_to_have_it_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    path = tmp_path / "gadgetd.yaml"
    path.write_text("slots: 1\n")
    monkeypatch.setattr("gadgetd.cli.CONFIG", path)
    assert main(["check", str(path)]) == OK
    assert capsys.readouterr().out == f"{path}: good; to use it: gadgetd reload\n"


@pytest.mark.parametrize(
    ("udcs", "parent", "runs"), [((), 4711, False), (("x",), 4711, True), ((), 1, True)]
)
def test_without_a_command_it_runs_on_a_board_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    udcs: tuple[str, ...],
    parent: int,
    runs: bool,
) -> None:
    started: list[Path] = []
    monkeypatch.setattr("gadgetd.usb.controllers.controllers", lambda: udcs)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    monkeypatch.setattr("gadgetd.main.run", started.append)
    assert main([]) == (OK if runs else USAGE)
    assert bool(started) is runs
    said = capsys.readouterr().err
    assert ("usage: gadgetd" in said) is not runs
    assert ("this is no board: it has no USB device controller" in said) is not runs
