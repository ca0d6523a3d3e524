"""gadgetd's own reading of a configuration: the one place that knows gadgetd's modules."""

from pathlib import Path
from typing import NamedTuple

from bootimg.errors import BootimgError
from gadgetd.config.load import parse
from gadgetd.config.settings import CONFIG, Config
from gadgetd.errors import ConfigError

PATH = str(CONFIG).replace("\\", "/").lstrip("/")
"""Where gadgetd looks for it, below the root."""


class Facts(NamedTuple):
    """What this tool has to know of a configuration."""

    acm: bool
    boards: tuple[str, ...]  # empty: all


def check(data: bytes | str, file: Path) -> Facts:
    """Read a configuration as `gadgetd check` does; `file` is its name in errors.

    Raises BootimgError with gadgetd's own sentence.
    """
    try:
        config = parse(data, file)
    except ConfigError as error:
        raise BootimgError(error.message, hint=error.hint) from error
    return Facts(config.usb.acm, () if config.boards == Config().boards else config.boards)
