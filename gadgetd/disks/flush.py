"""fsync of a whole disk beside the poll loop."""

from __future__ import annotations

import os

from gadgetd.child import Child


class Flush(Child):
    """An fsync under way, through a plain descriptor of the disk."""

    def __init__(self, fd: int) -> None:
        super().__init__(lambda: os.fsync(fd), fd)
