"""The tests in several processes: which file comes when, and what a person sees of it meanwhile.

pytest-xdist hands whole files to the processes, in the order of their items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

import pytest

LONGEST_FIRST = (
    "test_pc_clients",
    "test_living_arrival",
    "test_living_killed",
    "test_disks",
    "test_living_eject",
    "test_pc_killed",
    "test_living_reload",
    "test_living_commands",
    "test_configfs_contract",
    "test_standard",
    "test_dying_disk",
    "test_conformance",
    "test_bad_disk",
    "test_controllers",
    "test_living_erase",
    "test_living_unplug",
    "test_configuration",
)
"""Files of tests/vm that take a minute and more. A long one that began last would be waited for.

The two with a PC apart from each other: they boot two machines each.
"""


def is_of_board(nodeid: str) -> bool:
    """Whether it is a test of tests/vm."""
    return "/vm/" in nodeid


def in_processes(config: pytest.Config) -> bool:
    """Whether this process only hands the tests out."""
    return bool(config.getoption("dist", "no") != "no")


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of several that run the tests."""
    return hasattr(config, "workerinput")


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The unit tests as they were, then the vm tests' files, those that take long at first.

    The unit tests need no board, and leave the image time to be built.
    """

    def place(item: pytest.Item) -> int:
        if not is_of_board(item.nodeid):
            return -1
        name = item.path.stem
        return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

    return sorted(items, key=place)


class Progress:
    """A line for each vm test that ends. Dots would say little: one may take two minutes."""

    def __init__(self, session: pytest.Session, terminal: pytest.TerminalReporter) -> None:
        self._session = session
        self._write = terminal.write_line
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._outcome: dict[str, str] = {}
        self._ended = 0
        self._dots = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dot beside the line."""
        shown = isinstance(report, pytest.TestReport) and is_of_board(report.nodeid)
        return (
            ("passed", "", "PASSED") if shown and report.when == "call" and report.passed else None
        )

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test up; the last one ends it."""
        name = report.nodeid
        self._spent[name] += report.duration
        if not report.passed:
            self._outcome.setdefault(name, report.outcome)
        if report.when == "teardown":
            self._ended += 1
            if is_of_board(name):
                self._tell(name)
            self._dots = not is_of_board(name)

    def _tell(self, nodeid: str) -> None:
        path, _, test = nodeid.partition("::")
        of_all = f"{self._ended:4}/{self._session.testscollected}"
        outcome = self._outcome.get(nodeid, "passed")
        seconds = f"{self._spent[nodeid]:6.1f} s"
        if self._dots:
            self._write("")
        self._write(f"{of_all} {seconds} {outcome}  {PurePath(path).stem}: {test}")
