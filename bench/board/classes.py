"""Defines as many small classes as gadgetd has values, in one of several ways: classes.py HOW.

Each has five attributes. What is timed is the definition, which every start pays.
"""

import sys

COUNT = 30


def define(how: str) -> None:
    """Define a class, as the command line says."""
    if how == "dataclass":
        from dataclasses import dataclass

        @dataclass(frozen=True, slots=True)
        class Frozen:
            name: str
            size: int = 0
            read_only: bool = False
            label: str = ""
            luns: tuple[int, ...] = ()

    elif how == "NamedTuple":
        from typing import NamedTuple

        class Tuple(NamedTuple):
            name: str
            size: int = 0
            read_only: bool = False
            label: str = ""
            luns: tuple[int, ...] = ()

    elif how == "Frozen":
        from gadgetd.frozen import Frozen as Base

        class Own(Base):
            name: str
            size: int = 0
            read_only: bool = False
            label: str = ""
            luns: tuple[int, ...] = ()

    else:

        class Plain:
            __slots__ = ("label", "luns", "name", "read_only", "size")

            def __init__(
                self,
                name: str,
                size: int = 0,
                read_only: bool = False,
                label: str = "",
                luns: tuple[int, ...] = (),
            ) -> None:
                self.name, self.size, self.read_only = name, size, read_only
                self.label, self.luns = label, luns


for _ in range(COUNT):
    define(sys.argv[1])
