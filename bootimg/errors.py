"""What gadgetd-bootimg can fail with."""


class BootimgError(Exception):
    """A sentence that says what is wrong and where; `hint` says what to do and may be empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(BootimgError):
    """Arguments that do not go together, or lack one."""


def plain(text: str) -> str:
    """A text of one line for a terminal: what would steer it is written as an escape.

    Names, labels and settings come from images that may be anybody's.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
