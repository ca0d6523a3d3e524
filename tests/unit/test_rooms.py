"""The house that gadgetd is: no higher than ten floors, and no room too long to be read."""

from __future__ import annotations

from pathlib import Path

from tests import rooms

LONGEST = 400
"""Lines of a file."""
SHORTER = {"daemon.py": 299, "export/exporter.py": 299}
"""What all else goes through: nobody is to add to them what another room can do."""


def test_no_chain_of_imports_is_longer_than_ten_modules() -> None:
    chain = rooms.longest_chain()
    assert len(chain) <= 10, chain


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    long = {str(each.relative_to(rooms.PACKAGE)): _lines(each) for each in rooms.modules()}
    assert SHORTER.keys() <= long.keys()
    assert {name: n for name, n in long.items() if n > SHORTER.get(name, LONGEST)} == {}


def test_each_line_is_counted_once_by_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "room.py"
    file.write_text('"""One.\n\nThree."""\n\n# five\nx = """\n\n"""  # eight\n')
    assert rooms.lines(file) == {"docstrings": 3, "blank": 1, "comments": 1, "code": 3}


def _lines(path: Path) -> int:
    return sum(rooms.lines(path).values())
