"""What somebody wrote after `make … ARGS=`, brought to a program without a shell on the way.

make pastes a variable into the text of a recipe, and this PC's shell then runs what stands behind
a `;` in it. So the Makefile hands the text over in the environment, as it was written, and here it
becomes words: `python -m emulator.arguments PROGRAM [WORD]...` runs the program with them added.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from typing import NoReturn

from emulator.errors import EmulatorError

VARIABLE = "GADGETD_ARGS"
OPTION = re.compile(r"-\S*")
VALUE = re.compile(r"\S+")


def text(environment: Mapping[str, str] = os.environ) -> str:
    """What stands behind `ARGS=`, character for character."""
    return environment.get(VARIABLE, "")


def words(line: str) -> list[str]:
    """The words of a line, which quotes and backslashes hold together as in a shell.

    No other character means anything, but for a `~` at a word's begin: the home directory.
    Raises EmulatorError if a quote is not closed.
    """
    try:
        return [os.path.expanduser(word) for word in shlex.split(line)]  # noqa: PTH111
    except ValueError as error:
        raise EmulatorError(
            f"ARGS cannot be read: {str(error).lower()}", hint=f"it is {line!r}; close the quote"
        ) from error


def options_and_command(line: str, with_value: frozenset[str]) -> tuple[list[str], str]:
    """The options that a line begins with, and all that follows them, untouched: a command.

    The options named in `with_value` have the next word for their value; `--` ends all options.
    """
    options: list[str] = []
    rest = line.strip()
    while match := OPTION.match(rest):
        rest = rest[match.end() :].lstrip()
        if match[0] == "--":
            break
        options.append(match[0])
        value = VALUE.match(rest)
        if match[0] in with_value and value:
            options.append(value[0])
            rest = rest[value.end() :].lstrip()
    return options, rest


def main() -> NoReturn:
    """Become the program of the command line, with the words of ARGS behind its own."""
    program = sys.argv[1:]
    try:
        command = [*program, *words(text())]
    except EmulatorError as error:
        sys.exit(f"make: {error}")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"make: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
