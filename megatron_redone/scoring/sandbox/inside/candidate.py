"""The program's side: defines what the program defines, then answers the calls of its tests."""

from __future__ import annotations

import itertools
import operator
import types
from collections.abc import Callable
from typing import Any

from megatron_redone.scoring.sandbox.inside.link import Link

OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda target, *arguments, **names: target(*arguments, **names),
    "getattr": getattr,
    "setattr": setattr,
    "iter": iter,
    "next": next,
    "len": len,
    "bool": bool,
    "str": str,
    "repr": repr,
    "item": operator.getitem,
    "isinstance": isinstance,
    "plain": lambda value: value,
    **{name: getattr(operator, name) for name in ("eq", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv")},
}


class Instance:
    """What a call of a class made: it stays here as an object, even where it holds a plain value (a kind of list)."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Candidate:
    """The objects of a program, by number, and a test's functions as ordinary functions.

    Args:
        reader, writer: the line to the tests.
        namespace: what the program defined.
        failure: why it did not run to its end; then every call raises it.
    """

    def __init__(self, reader: int, writer: int, namespace: dict[str, Any], failure: BaseException | None) -> None:
        self.namespace, self.failure = namespace, failure
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.next_number = itertools.count()
        self.link = Link(reader, writer, self._wrap, self._unwrap, self._serve)

    def _serve(self, operation: str, arguments: list[Any], names: dict[str, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        if operation == "names":
            return {name: self._described(self.namespace[name]) for name in arguments if name in self.namespace}
        value = OPERATIONS[operation](*arguments, **names)
        return Instance(value) if operation == "call" and isinstance(arguments[0], type) else value

    def _described(self, value: Any) -> list[Any]:
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["exception", [kind.__name__ for kind in value.__mro__]]
        return ["class" if isinstance(value, type) else "object", value]

    def _wrap(self, value: Any) -> list[Any]:
        value = value.value if isinstance(value, Instance) else value
        number = self.numbers.get(id(value))
        if number is None:
            number = next(self.next_number)
            self.objects[number], self.numbers[id(value)] = value, number
        return ["o", number, type(value).__name__, callable(value)]

    def _unwrap(self, coded: list[Any]) -> Any:
        if coded[0] == "o":
            return self.objects[coded[1]]
        if coded[0] == "k":
            return lambda *arguments, **names: self._call_back(coded[1], arguments, names)
        raise ValueError("an unknown kind of value")

    def _call_back(self, number: int, arguments: tuple[Any, ...], names: dict[str, Any]) -> Any:
        reply = self.link.call(str(number), *arguments, **names)
        if reply[0] == "raised":
            raise RuntimeError(reply[2])
        return reply[1]
