"""Values pass between two boxes unchanged, and bytes from a box make nothing but plain values."""

from __future__ import annotations

import collections
import datetime
import enum
import fractions
import math
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.sandbox.inside.values import dumps, loads

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.lists(inner, max_size=3).map(collections.deque)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(collections.OrderedDict)
    ),
    max_leaves=12,
)


def refused(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is no plain value")


def there_and_back(value: Any) -> Any:
    return loads(dumps(value, refused), refused)


def kinds(value: Any) -> Any:
    inside = value.items() if isinstance(value, dict) else value
    deep = not isinstance(value, str | bytes) and isinstance(value, collections.abc.Iterable)
    return type(value), sorted(map(repr, map(kinds, inside))) if deep else None


@given(VALUES)
def test_values_and_their_types_come_back(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert kinds(back) == kinds(value)


class Point(NamedTuple):
    x: int
    y: int


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


def test_odd_values_and_subclasses() -> None:
    assert math.isnan(there_and_back(float("nan"))) and there_and_back(float("-inf")) == -math.inf
    assert str(there_and_back(-0.0)) == "-0.0"
    assert there_and_back("\ud800") == "\ud800"
    assert there_and_back(10**5000) == 10**5000
    assert there_and_back([True, 1, 1.0]) == [True, 1, 1.0] and type(there_and_back([True])[0]) is bool
    assert (there_and_back(Point(1, 2)), type(there_and_back(Point(1, 2)))) == ((1, 2), tuple)
    assert (there_and_back(Level.LOW), type(there_and_back(Level.LOW))) == (1, int)
    assert type(there_and_back(Text("a"))) is str and there_and_back(Text("a")) != "b"
    assert there_and_back(collections.Counter("aab")).most_common(1) == [("a", 2)]
    assert there_and_back(collections.defaultdict(list, a=[1])) == {"a": [1]}
    assert there_and_back(range(3, 9, 2)) == range(3, 9, 2)
    assert there_and_back([int, str]) == [int, str]
    assert there_and_back(datetime.datetime(2024, 2, 29, 12, 30)) == datetime.datetime(2024, 2, 29, 12, 30)
    assert there_and_back(fractions.Fraction(-2, 4)) == fractions.Fraction(-1, 2)
    assert there_and_back(Decimal("1.10")) == Decimal("1.1") and str(there_and_back(Decimal("1.10"))) == "1.10"


def test_what_is_no_plain_value_goes_to_the_caller() -> None:
    with pytest.raises(TypeError, match="object is no plain value"):
        dumps([object()], refused)
    with pytest.raises(TypeError, match="function is no plain value"):
        dumps(kinds, refused)
    own = loads(dumps([object()], lambda value: ["o", 7]), lambda coded: ("object", coded[1]))
    assert own == [("object", 7)]
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        dumps(circle, refused)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"\xff", b"{}", b'{"a": 1}', b"[]", b"[1]", b'["no such kind"]', b'["i", 5]', b'["i", "xyz"]',
        b'["s", ["l"]]', b'["d", [["l"], 1]]', b'["d", [1]]', b'["type", "object2"]', b'["type", "eval"]',
        b'["F", 1, 0]', b'["r", 1, 2, 0]', b'["T", 1e300]', b'["date", "x"]', b'["D", "x"]', b'["b", "0"]',
        b"[" * 100_000, b'["i", "' + b"z" * 100 + b'"]', b"9" * 10_000,
    ],
)  # fmt: skip
def test_bytes_that_are_no_value_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        loads(text, refused)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_give_a_plain_value_or_an_error(text: bytes) -> None:
    try:
        value = loads(text, refused)
    except ValueError:
        return
    assert type(value).__module__ in ("builtins", "collections", "fractions", "decimal", "datetime")
