"""The report from a board: what gets into it, what never does, and who is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import EmulatorError
from tests.bench import __main__ as command
from tests.bench.person import NO, SKIP, YES, Answers, Terminal, read_answers
from tests.bench.report import FAILED, PASSED, SKIPPED, Entry, Outcome, Report, plain
from tests.bench.walk import KEYS, STEPS, SkippedError, Step, Walk, walk

ESCAPE = "\x1b"


def report(*outcomes: Outcome, secrets: tuple[str, ...] = ()) -> Report:
    entries = tuple(
        Entry(f"step{number}", number, f"Step {number}", outcome, 1.0)
        for number, outcome in enumerate(outcomes)
    )
    return Report("a-board", "2026-01-02 03:04 UTC", "0.1.0", "Linux", entries, secrets)


# ---- Hostile text --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;cm0gLXJm\x1b\\x", "x"),  # the clipboard
        ("\x1bP1$r0m\x1b\\x", "x"),
        ("\x1bcx", "x"),
        ("\x1b(0x", "x"),
        ("a\x9b31mb", "a\ufffd31mb"),  # the same in one byte
        ("a\rb\x08c\x00\x7f", "a\ufffdb\ufffdc\ufffd\ufffd"),
        ("user\u202etxt", "user\ufffdtxt"),  # from right to left
        ("one\r\ntwo\tthree\n", "one\ntwo three\n"),
        ("Grüße, 板", "Grüße, 板"),
    ],
)
def test_text_from_a_board_does_nothing_to_a_terminal(said: str, kept: str) -> None:
    assert plain(said) == kept


@given(st.text())
def test_whatever_it_says_only_lines_that_can_be_seen_are_left(said: str) -> None:
    assert all(character == "\n" or character.isprintable() for character in plain(said))


@given(st.text(), st.text())
def test_no_escape_gets_into_either_file(said: str, name: str) -> None:
    outcome = Outcome(PASSED, said, {name: said, "list": [said]}, {name: said})
    made = report(outcome)
    for text in (made.as_markdown(), made.as_json()):
        assert all(character == "\n" or character.isprintable() for character in text)
    json.loads(made.as_json())


def test_a_board_cannot_write_markdown_into_the_report() -> None:
    said = "| [x](http://evil) <script> `a`\n# heading\n```\n~~~"
    text = report(Outcome(PASSED, said, {"k|ey": said}, {"log": said})).as_markdown()
    rows = [line for line in text.splitlines() if "| Step 0 |" in line]
    assert len(rows) == 1
    assert "\\[x\\](http://evil) \\<script\\>" in rows[0]
    fences = re.findall(r"^`{3,}", text, re.MULTILINE)
    # The body's own fence is shorter than the one around it, so it ends nothing.
    assert fences == ["````", "```", "````"]
    assert text.count("\n# heading") == 1


def test_serial_numbers_and_network_addresses_do_not_go_out() -> None:
    outcome = Outcome(
        PASSED,
        "10000000a1b2c3d4",
        {"disk": "a1b2c3d4 SD mmcblk0"},
        {"UART": 'serial "10000000a1b2c3d4" macaddr=DC:A6:32:01:02:03'},
    )
    made = report(outcome, secrets=("10000000a1b2c3d4", "a1b2c3d4"))
    for text in (made.as_markdown(), made.as_json()):
        assert "a1b2c3d4" not in text
        assert "DC:A6" not in text
        assert "…c3d4" in text


def test_a_long_text_is_cut_at_its_begin() -> None:
    assert plain("x" * 50_000 + "end").endswith("xend")
    assert len(plain("x" * 50_000)) < 21_000


# ---- The walk ------------------------------------------------------------------------------------


class Nobody:
    """A board that is not there: whatever is asked of it fails."""

    def __getattr__(self, name: str) -> object:
        raise EmulatorError("there is no board")


@pytest.fixture
def context() -> Walk:
    return Walk(Nobody(), Answers({}))  # type: ignore[arg-type]


def outcomes(context: Walk, *steps: Step) -> list[tuple[str, str]]:
    said: list[str] = []
    entries = list(walk(context, steps, said.append))
    assert len(said) == 2 * len(steps)
    return [(entry.outcome.status, entry.outcome.text) for entry in entries]


def test_a_step_that_fails_or_is_skipped_is_written_as_that_and_the_next_one_is_tried(
    context: Walk,
) -> None:
    def fails(_: Walk) -> Outcome:
        raise EmulatorError("it broke")

    def skips(_: Walk) -> Outcome:
        raise SkippedError("no jumper")

    def is_at_fault(_: Walk) -> Outcome:
        raise TypeError("a mistake of ours")

    def passes(_: Walk) -> Outcome:
        return Outcome(PASSED, "well")

    steps = [Step(f.__name__, 0, f.__name__, f, False) for f in (fails, skips, is_at_fault, passes)]
    assert outcomes(context, *steps) == [
        (FAILED, "it broke"),
        (SKIPPED, "no jumper"),
        (FAILED, "the step itself is at fault: TypeError('a mistake of ours')"),
        (PASSED, "well"),
    ]


def test_ctrl_c_leaves_the_rest_out_and_keeps_what_was_found(context: Walk) -> None:
    def ends(_: Walk) -> Outcome:
        raise KeyboardInterrupt

    def passes(_: Walk) -> Outcome:
        return Outcome(PASSED, "")

    steps = [Step(str(n), 0, str(n), f, False) for n, f in enumerate((passes, ends, passes))]
    assert outcomes(context, *steps) == [
        (PASSED, ""),
        (SKIPPED, "the walk was ended here"),
        (SKIPPED, "the walk was ended before"),
    ]


def test_without_a_board_every_step_fails_or_is_skipped(context: Walk) -> None:
    told = outcomes(context, *STEPS)
    assert {status for status, _ in told} <= {FAILED, SKIPPED}
    assert told[2] == (SKIPPED, "there is no shell on the UART")


def test_what_nobody_has_answered_is_skipped_not_passed(context: Walk) -> None:
    context.shell = True
    seen = tuple(step for step in STEPS if step.key in ("screen", "led"))
    assert outcomes(context, *seen) == [(SKIPPED, "nobody has answered")] * 2
    context.person = Answers({"screen": NO, "led": YES})
    assert outcomes(context, *seen) == [
        (FAILED, "HDMI does not show gadgetd's screen"),
        (PASSED, "seen by a person"),
    ]


class Port:
    """A UART that keeps what is sent to it."""

    def __init__(self) -> None:
        self.line = self
        self.position = 0
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data


def at_the_end(context: Walk, **answers: str) -> tuple[bytes, list[tuple[str, str]]]:
    """What is sent to a board, and the outcome, when a person is asked whether it may end."""
    port = Port()
    context.board = SimpleNamespace(uart=port)  # type: ignore[assignment]
    context.person = Answers(answers)
    context.shell = True
    told = outcomes(context, *(step for step in STEPS if step.key == "poweroff"))
    return port.sent, told


def test_a_board_that_may_not_be_switched_off_is_left_running(context: Walk) -> None:
    assert at_the_end(context, end=NO) == (b"", [(SKIPPED, "a person has said no")])
    assert at_the_end(context) == (b"", [(SKIPPED, "nobody has answered")])


@pytest.mark.parametrize(("dark", "told"), [(YES, PASSED), (NO, FAILED), (SKIP, SKIPPED)])
def test_a_board_is_off_only_if_somebody_has_seen_it(context: Walk, dark: str, told: str) -> None:
    sent, ((status, _),) = at_the_end(context, end=YES, dark=dark)
    assert (sent, status) == (b"poweroff\n", told)


def test_no_times_are_taken_of_a_board_that_runs_already(context: Walk) -> None:
    context.board = SimpleNamespace(uart=Port())  # type: ignore[assignment]
    context.person = Answers({"off": NO})
    assert outcomes(context, STEPS[0]) == [(SKIPPED, "the board ran already")]
    assert context.since is None


# ---- Who is asked --------------------------------------------------------------------------------


def test_a_person_is_asked_until_the_answer_is_one() -> None:
    typed = iter(["what?", "N", "", "s"])
    shown: list[str] = []
    person = Terminal(lambda _: next(typed), shown.append)
    assert person.answer("led", f"Is it{ESCAPE}[2J lit?") == NO
    assert shown == ["\nIs it lit?", "  'what?' is none of y, n, s"]
    assert person.answer("led", "?") == YES
    assert person.answer("led", "?") == SKIP


def test_the_end_of_input_is_no_answer() -> None:
    def ended(_: str) -> str:
        raise EOFError

    assert Terminal(ended, lambda _: None).answer("led", "?") == SKIP


def test_answers_of_a_jig_come_from_a_file_and_from_arguments(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('{"led": "no", "screen": "yes"}')
    given = read_answers(file, ["led=done"], KEYS)
    assert given == {"led": YES, "screen": YES}
    assert Answers(given).answer("pull", "?") == SKIP


@pytest.mark.parametrize(
    ("content", "pairs", "sentence"),
    [
        ("[]", [], "no answers"),
        ("{", [], "no answers can be read"),
        ('{"lid": "yes"}', [], "nobody asks for 'lid'"),
        ('{"led": 1}', [], "led: 1 is no answer"),
        ("{}", ["led"], "--answer led: no answer"),
        ("{}", ["led=perhaps"], "led: 'perhaps' is no answer"),
    ],
)
def test_what_is_no_answer_is_refused(
    tmp_path: Path, content: str, pairs: list[str], sentence: str
) -> None:
    file = tmp_path / "answers.json"
    file.write_text(content)
    with pytest.raises(EmulatorError, match=re.escape(sentence)):
        read_answers(file, pairs, KEYS)


def test_docs_have_every_question_and_every_step() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/boards/README.md").read_text()
    assert {key for key in KEYS if f"`{key}`" not in text} == set()
    assert {step.title for step in STEPS if step.title not in text} == set()


# ---- The command ---------------------------------------------------------------------------------


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    said: list[str] = []
    yield said
    assert capsys.readouterr().err == "".join(said)


def test_no_port_is_one_sentence(tmp_path: Path, complaint: list[str]) -> None:
    port = tmp_path / "none"
    assert command.main(["--board", str(port), "--out", str(tmp_path), "--name", "x"]) == 2
    complaint.append(
        f"board-report: cannot open the serial port {port}: [Errno 2] could not open port {port}:"
        f" [Errno 2] No such file or directory: '{port}'\n"
        "  hint: is it plugged in, free, and may you read and write it?\n"
    )
    assert not list(tmp_path.glob("x*"))


def test_an_emulated_board_that_does_not_run_is_one_sentence() -> None:
    with pytest.raises(EmulatorError, match=r"no (emulated )?board"):
        command.DoorHost("none").wait_until_ready(0)


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, complaint: list[str]) -> None:
    assert command.main(["--board", "x", "--out", str(tmp_path), "--name", "../x"]) == 2
    complaint.append("board-report: --name '../x' is no name of a file\n")
    complaint.append("  hint: letters, digits, . _ -\n")
