"""What is written behind `make host ARGS=` reaches the emulated host, and runs nowhere else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from emulator import arguments, cache, door
from emulator.errors import EmulatorError
from emulator.shell import HostShell

CHECKOUT = Path(__file__).parents[2]
RUNS = "touch {}"
"""What a shell of this PC would do, if it read the text."""
COMMANDS = {
    "semicolon": "true; {}",
    "and": "true && {}",
    "background": "true & {}",
    "or": "false || {}",
    "pipe": "true | {}",
    "into a file": "true > {file}",
    "appended": "true >> {file}",
    "from a file": "cat </etc/hostname; {}",
    "dollar": "echo $HOME ${{HOME}} $$ $(({{1}}))",
    "dollar brackets": "echo $({})",
    "make's own function": "echo $(shell {})",
    "backtick": "echo `{}`",
    "brackets": "( {} )",
    "braces": "{{ {}; }}",
    "single quotes": "echo 'one  two'; {}",
    "double quotes": 'echo "one  two"; {}',
    "an open quote": "echo it's; {}",
    "an open double quote": 'echo 3"; {}',
    "backslash": "echo \\; {} \\",
    "newline": "true\n{}",
    "glob": "echo * ? [a-z]",
    "hash": "echo one # {}",
    "tilde": "echo ~ ~root",
    "bang": "! {}",
    "percent and at": "echo %s $@ @ ^",
    "equals": "A=1 B:=2 {}",
    "tab": "echo\tone",
    "not ASCII": "echo Gerät €",
}


class FakeHost:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, command: str, _limit_s: float) -> tuple[int, str]:
        self.asked.append(command)
        return 0, "done\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    """A host behind the door of a board in a cache that has no other; setup has nothing to do."""
    own = Path(os.environ.get("GADGETD_CACHE") or Path.home() / ".cache/gadgetd")
    monkeypatch.setenv("GADGETD_CACHE", str(tmp_path / "cache"))
    (cache.directory() / "venv").symlink_to(own.absolute() / "venv")
    fake = FakeHost()
    with door.opened(cast(HostShell, fake), cache.run_directory()):
        yield fake


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make` of this checkout, less the setup, which would install what is missing."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-s", "-o", "setup", *words],
        cwd=CHECKOUT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_make_host_hands_a_command_on_whole_and_this_pc_runs_nothing_of_it(
    host: FakeHost, tmp_path: Path, command: str
) -> None:
    touched = tmp_path / "touched"
    text = command.format(RUNS.format(touched), file=touched)
    done = make("host", f"ARGS={text}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert host.asked == [text.strip()]
    assert not touched.exists()


def test_it_is_the_same_from_the_environment(host: FakeHost, tmp_path: Path) -> None:
    text = f"true; touch {tmp_path}/touched $(shell touch {tmp_path}/touched)"
    assert make("host", ARGS=text).returncode == 0
    assert host.asked == [text]
    assert not (tmp_path / "touched").exists()


def test_options_come_before_the_command_and_the_board_is_no_text_for_a_shell(
    host: FakeHost, tmp_path: Path
) -> None:
    assert make("host", "ARGS=--timeout 5 dd of=/dev/sda; sync").returncode == 0
    assert host.asked == ["dd of=/dev/sda; sync"]
    done = make("host", f"BOARD=1; touch {tmp_path}/touched", "ARGS=true")
    assert "no board 1; touch" in done.stderr
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("target", ["run", "screenshot", "test-unit", "bench-idle", "image-test"])
def test_other_targets_run_nothing_of_it_either(target: str, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = f"--no-such-option; touch {touched} | $(shell touch {touched}) `touch {touched}`"
    recipe = make("-n", target, f"ARGS={text}")
    assert "no-such" not in recipe.stdout
    assert "emulator.arguments" in recipe.stdout
    assert not touched.exists()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_make_image_takes_its_paths_as_they_are_written(command: str, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = command.format(RUNS.format(touched), file=touched)
    buildroot = tmp_path / "buildroot"
    (buildroot / "package").mkdir(parents=True)
    (buildroot / "package/Makefile.in").touch()
    for words in ([f"BUILDROOT={text}"], [f"BUILDROOT={buildroot}", f"CONFIG={text}"]):
        done = make("image", *words, GADGETD_CACHE=str(tmp_path / "cache"))
        assert f"image: there is no {text}\n" in done.stderr
    assert not touched.exists()


def test_make_image_takes_its_paths_from_the_environment_too(tmp_path: Path) -> None:
    text = f"/nowhere/it's;$(shell touch {tmp_path}/touched)"
    done = make("image", BUILDROOT=text, GADGETD_CACHE=str(tmp_path / "cache"))
    assert f"image: there is no {text}\n" in done.stderr
    assert not (tmp_path / "touched").exists()


def test_run_gets_words(tmp_path: Path) -> None:
    done = make("run", f"ARGS=--sd 'a b;c' --config ~/x; touch {tmp_path}/touched")
    assert "unrecognized arguments: touch" in done.stderr
    assert not (tmp_path / "touched").exists()


def test_words_are_held_together_by_quotes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert arguments.words("-k 'a or b' \"c;d\" *.py $HOME ~/x #") == [
        *("-k", "a or b", "c;d", "*.py", "$HOME", "/home/me/x", "#")
    ]
    with pytest.raises(EmulatorError, match="no closing quotation"):
        arguments.words("it's")


def test_all_behind_the_options_is_the_command() -> None:
    take = frozenset(("--timeout",))
    read = arguments.options_and_command
    assert read(" --timeout 5  a -b  'c d' ", take) == (["--timeout", "5"], "a -b  'c d'")
    assert read("--timeout=5 a", take) == (["--timeout=5"], "a")
    assert read("-- -a; b", take) == ([], "-a; b")
    assert read("--help", take) == (["--help"], "")
