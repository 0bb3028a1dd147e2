"""Plain Python values as JSON that our own reader reads: what passes between a program's box and its tests' box.

Both sides use this file. Reading makes nothing but values of Python's own types: a byte stream cannot name a class or
a function to call, whatever wrote it. An instance of a subclass travels as the plain value it holds. What is no value
(an object of the program, a function) travels as a number that only its own side can follow.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
from collections.abc import Callable
from typing import Any

_JSON_INT = 2**53
MAX_MESSAGE_BYTES = 16 << 20

Wrap = Callable[[Any], list[Any]]
Unwrap = Callable[[list[Any]], Any]


PLAIN_TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, object)
}
"""Types that pass by their name."""


def dumps(value: Any, wrap: Wrap) -> bytes:
    """The value as bytes; `wrap` names what is no plain value.

    Raises:
        RecursionError: it is nested too deep, or holds itself.
        TypeError: `wrap` does not name a part of it.
    """
    return json.dumps(_encode(value, wrap), separators=(",", ":")).encode("ascii")


def loads(text: bytes, unwrap: Unwrap) -> Any:
    """The value that `dumps` wrote; `unwrap` finds what is no plain value.

    Raises:
        ValueError: the bytes are no such value.
    """
    try:
        return _decode(json.loads(text), unwrap)
    except (ArithmeticError, LookupError, RecursionError, TypeError) as error:
        raise ValueError(f"no value: {type(error).__name__}") from None


def _encode(value: Any, wrap: Wrap) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is str:
        return value
    if kind is int:
        return value if -_JSON_INT < value < _JSON_INT else ["i", hex(value)]
    for base, letter, plain in _SEQUENCES:
        if isinstance(value, base):
            return [letter, *(_encode(item, wrap) for item in plain(value))]
    if isinstance(value, dict):
        pairs = [[_encode(key, wrap), _encode(item, wrap)] for key, item in dict.items(value)]
        letter = "C" if kind is collections.Counter else "O" if kind is collections.OrderedDict else "d"
        return [letter, *pairs]
    if isinstance(value, bytes):
        return ["b", bytes.hex(value)]
    if isinstance(value, bytearray):
        return ["B", bytearray.hex(value)]
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind is range:
        return ["r", *(_encode(number, wrap) for number in (value.start, value.stop, value.step))]
    if kind is fractions.Fraction:
        return ["F", _encode(value.numerator, wrap), _encode(value.denominator, wrap)]
    if kind in _WRITTEN:
        return [_WRITTEN[kind], str(value)]
    if kind is datetime.timedelta:
        return ["T", value.days, value.seconds, value.microseconds]
    if kind is type and value in PLAIN_TYPES.values():
        return ["type", value.__name__]
    for scalar, plain_scalar in _SCALARS:
        if isinstance(value, scalar):
            return _encode(plain_scalar(value), wrap)
    return wrap(value)


_SEQUENCES: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (list, "l", list.__iter__),
    (tuple, "t", tuple.__iter__),
    (set, "s", set.__iter__),
    (frozenset, "f", frozenset.__iter__),
    (collections.deque, "q", collections.deque.__iter__),
)
_SCALARS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, lambda value: str.__getitem__(value, slice(None))),
    (int, lambda value: int.__pos__(value)),
    (float, lambda value: float.__pos__(value)),
)
_WRITTEN: dict[type, str] = {decimal.Decimal: "D", datetime.date: "date", datetime.datetime: "datetime"}


def _decode(value: Any, unwrap: Unwrap) -> Any:
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise ValueError("no value: an object")
        return value
    if not value or not isinstance(value[0], str):
        raise ValueError("no value: a list without a kind")
    letter, rest = value[0], value[1:]
    if letter in _READERS:
        return _READERS[letter](*rest)
    if letter in _COLLECTIONS:
        return _COLLECTIONS[letter](_decode(item, unwrap) for item in rest)
    if letter in _MAPPINGS:
        return _MAPPINGS[letter]({_decode(key, unwrap): _decode(item, unwrap) for key, item in rest})
    if letter in ("r", "F"):
        numbers = [_decode(item, unwrap) for item in rest]
        return range(*numbers) if letter == "r" else fractions.Fraction(*numbers)
    return unwrap(value)


_READERS: dict[str, Callable[..., Any]] = {
    "type": PLAIN_TYPES.__getitem__,
    "i": lambda text: int(text, 16),
    "b": bytes.fromhex,
    "B": bytearray.fromhex,
    "c": complex,
    "D": decimal.Decimal,
    "date": datetime.date.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "T": datetime.timedelta,
}
_COLLECTIONS: dict[str, Callable[[Any], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "f": frozenset,
    "q": collections.deque,
}
_MAPPINGS: dict[str, Callable[[dict[Any, Any]], Any]] = {
    "d": dict,
    "C": collections.Counter,
    "O": collections.OrderedDict,
}
