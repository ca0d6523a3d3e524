"""The base of gadgetd's values: frozen, equal if class and fields are, cheap to define.

A dataclass or a named tuple writes and compiles source text for each class at every start, which
costs the board ten times what such a class costs (docs/benchmarks.md), and `typing` as much again.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_):
        """Do nothing: it is for type checkers."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Frozen:
    """A class of it has a field for each annotation in its body, with the default there if any.

    Made by position or by name as a dataclass is; `_fields`, `_replace` and `_asdict` are those of
    a named tuple. A class of such a class gets no further fields.
    """

    _fields: tuple[str, ...] = ()
    _names: frozenset[str] = frozenset()
    _defaults: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it

    def __init_subclass__(cls) -> None:
        """Note the fields of a new class."""
        cls._fields = tuple(cls.__annotations__)
        cls._names = frozenset(cls._fields)
        cls._defaults = {name: getattr(cls, name) for name in cls._fields if hasattr(cls, name)}

    def __init__(self, *values: Any, **named: Any) -> None:
        mine = self.__dict__
        mine.update(self._defaults, **named)
        mine.update(zip(self._fields, values))  # noqa: B905 - too many are told below
        if mine.keys() != self._names or len(values) > len(self._fields):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self._fields)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(map(self.__dict__.__getitem__, self._fields)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"

    def _replace(self, **named: Any) -> Self:
        """Give the same with other fields in some places."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **named)
        if len(other.__dict__) != len(self._fields):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self._fields)}")
        return other

    def _asdict(self) -> dict[str, Any]:
        """Give the fields by name, in their order."""
        return {name: self.__dict__[name] for name in self._fields}
