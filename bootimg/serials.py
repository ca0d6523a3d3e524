"""Serial numbers of boards, and patterns of them, as a board lock has them.

gadgetd compares them letter by letter with what the kernel prints of the board: 16 hex digits, the
letters small. A lock that no board can fit locks out all of them, so it is refused here.
"""

import re

from bootimg.errors import BootimgError

DIGITS = 16
_PART = r"\*|\?|[0-9a-f]|\[!?[0-9a-f-]+\]"
_PATTERN = re.compile(rf"(?:{_PART})+")


def normalised(text: str) -> str:
    """The pattern in small letters, without spaces around it.

    Raises BootimgError if no board's serial number can be like it.
    """
    wanted = text.strip().lower()
    if not possible(wanted):
        raise BootimgError(
            f"{text!r} can be no board's serial number",
            hint=f"{DIGITS} hex digits, as `gadgetd status --json` and /proc/cpuinfo say them; "
            "or a pattern of them, such as '*a1b2c3d4'",
        )
    return wanted


def possible(pattern: str) -> bool:
    """Whether there can be a serial number that the pattern fits, as far as its length says."""
    if not _PATTERN.fullmatch(pattern):
        return False
    parts = re.findall(_PART, pattern)
    digits = len(parts) - parts.count("*")
    return digits <= DIGITS if "*" in parts else digits == DIGITS
