"""The base of all values: made like a dataclass, compared by class and fields, never changed."""

from __future__ import annotations

import pickle

import pytest

from gadgetd.frozen import Frozen


class Point(Frozen):
    x: int
    y: int = 0
    label: str = ""

    @property
    def size(self) -> int:
        return self.x + self.y


class Other(Frozen):
    x: int
    y: int = 0
    label: str = ""


def test_fields_are_given_by_position_or_by_name_and_have_defaults() -> None:
    point = Point(1, label="a")
    assert (point.x, point.y, point.label, point.size) == (1, 0, "a", 1)
    assert repr(point) == "Point(x=1, y=0, label='a')"
    assert point._asdict() == {"x": 1, "y": 0, "label": "a"}
    assert list(Point(y=2, x=1)._asdict()) == list(Point._fields) == ["x", "y", "label"]


def test_two_are_equal_if_class_and_fields_are() -> None:
    assert Point(1, 2) == Point(y=2, x=1)
    assert hash(Point(1, 2)) == hash(Point(y=2, x=1))
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)
    assert Point(1) != (1, 0, "")
    assert len({Point(1), Point(1), Other(1)}) == 2


def test_a_replacement_is_another_value() -> None:
    point = Point(1)
    assert point._replace(y=3) == Point(1, 3)
    assert point == Point(1)


def test_a_value_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="Point is frozen"):
        Point(1).x = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "arguments", [((), {}), ((1, 2, "", 4), {}), ((1,), {"z": 1}), ((), {"y": 2, "z": 3})]
)
def test_a_field_too_few_too_many_or_unknown_is_refused(
    arguments: tuple[tuple[object, ...], dict[str, object]],
) -> None:
    with pytest.raises(TypeError, match="Point has the fields x, y, label"):
        Point(*arguments[0], **arguments[1])  # type: ignore[arg-type]


def test_an_unknown_field_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="Point has the fields x, y, label"):
        Point(1)._replace(z=1)


def test_a_value_goes_through_a_pipe() -> None:
    assert pickle.loads(pickle.dumps(Point(1, 2, "a"))) == Point(1, 2, "a")
