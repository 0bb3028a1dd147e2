"""The tests' side: runs test code whose names of the program are stand-ins that call into the program's box.

What decides is decided here. A plain value that the program returned is a copy, so `==` compares it with the expected
value in this box, and the expected value is never sent. An object of the program stays in its box; here it is a
`RemoteObject`, which equals no plain value, and no comparison, no `in` and no arithmetic with a plain value asks the
program for the outcome. Arithmetic of objects of classes that the tests themselves instantiate is the exception, as
long as it gives objects: a plain number would be a distance of the program's choice. What is a class is read from its
name in the tests, which begins with a capital: a program may define a class where a function is asked for.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from megatron_redone.scoring.sandbox.inside.link import Link, LinkBrokenError

_PLAIN_TYPES = (int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
_PLAIN_METHODS = {name for kind in _PLAIN_TYPES for name in dir(kind)}


class RemoteObject:
    """An object in the program's box.

    `made_here`: of a class that the tests name and instantiate, or reached from such an object.
    """

    def __init__(
        self, side: Tester, number: int, kind: str, made_here: bool = False, is_class: bool = False, plain: bool = False
    ) -> None:
        vars(self).update(_side=side, _number=number, _kind=kind, _made_here=made_here, _is_class=is_class)
        vars(self)["_plain_method"] = plain

    def __repr__(self) -> str:
        return str(self._side.ask("repr", self))

    def __str__(self) -> str:
        return str(self._side.ask("str", self))

    def __bool__(self) -> bool:
        return self._side.ask("bool", self) is True

    def __len__(self) -> int:
        return int(self._side.ask("len", self))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._side.ask("iter", self, made_here=self._made_here)
        while True:
            try:
                yield self._side.ask("next", iterator, made_here=self._made_here)
            except StopIteration:
                return

    def __next__(self) -> Any:
        return self._side.ask("next", self, made_here=self._made_here)

    def __getitem__(self, key: Any) -> Any:
        return self._side.ask("item", self, key, made_here=self._made_here)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._side.ask("getattr", self, name, made_here=self._made_here)
        if isinstance(value, RemoteObject) and not self._made_here and name in _PLAIN_METHODS:
            return RemoteObject(self._side, value._number, value._kind, plain=True)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        self._side.ask("setattr", self, name, value)

    def __call__(self, *arguments: Any, **names: Any) -> Any:  # noqa: D102
        if self._plain_method and (arguments or names):
            raise LinkBrokenError("a test passes values to a method of an object where a plain value is expected")
        return self._side.ask("call", self, *arguments, made_here=self._made_here or self._is_class, **names)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, RemoteObject):  # among its own objects the program's operator decides
            return self._side.ask("eq", self, other) is True
        plain = self._side.ask("plain", self)  # a named tuple, a kind of list: compared here, by its content
        return not isinstance(plain, RemoteObject) and bool(plain == other)

    def __hash__(self) -> int:
        return hash(("RemoteObject", self._number))

    def __instancecheck__(self, other: object) -> bool:
        return isinstance(other, RemoteObject) and self._side.ask("isinstance", other, self) is True


def _operator(name: str, with_plain_values: bool) -> Callable[[RemoteObject, object], Any]:
    def apply(self: RemoteObject, other: object) -> Any:
        if isinstance(other, RemoteObject):
            return self._side.ask(name, self, other, made_here=self._made_here)
        if not with_plain_values or not self._made_here:
            return NotImplemented
        value = self._side.ask(name, self, other, made_here=True)
        if not isinstance(value, RemoteObject):
            raise TypeError(f"{name} of an object of the program and a plain value gave a plain value")
        return value

    return apply


for _name in ("lt", "le", "gt", "ge"):
    setattr(RemoteObject, f"__{_name}__", _operator(_name, with_plain_values=False))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(RemoteObject, f"__{_name}__", _operator(_name, with_plain_values=True))


class Tester:
    """Runs tests against a program at the other end of two pipes."""

    def __init__(self, reader: int, writer: int) -> None:
        self.functions: list[Any] = []
        self.exceptions: dict[str, type[Exception]] = {}
        self.stop_is_expected = False
        self.link = Link(reader, writer, self._wrap, self._unwrap, self._serve)

    def ask(self, operation: str, *arguments: Any, made_here: bool = False, **names: Any) -> Any:
        """The program's answer to an operation; raises what it raised.

        Where a test does not speak of StopIteration, a function that raises it would end the test's own loop
        (`all(map(...))`), so it becomes a RuntimeError, as in a generator (PEP 479).
        """
        reply = self.link.call(operation, *arguments, **names)
        if reply[0] == "raised":
            error = self._raised(reply[1], reply[2])
            if isinstance(error, StopIteration) and operation != "next" and not self.stop_is_expected:
                raise RuntimeError("the program raised StopIteration")
            raise error
        for index, value in reply[2].items():
            _replace_content(arguments[index], value)
        value = reply[1]
        if made_here and isinstance(value, RemoteObject):
            return RemoteObject(self, value._number, value._kind, made_here=True)
        return value

    def run(self, setup: str, tests: list[str], entry_point: str) -> None:
        """Runs setup and tests in one namespace; raises where a test fails."""
        trees = [ast.parse(setup, "<setup>"), *(ast.parse(text, f"<test {n}>") for n, text in enumerate(tests, 1))]
        module = types.ModuleType("tests")
        sys.modules["tests"] = module
        namespace = module.__dict__
        wanted = _free_names(trees) | ({entry_point} if entry_point else set())
        nodes = [node for tree in trees for node in ast.walk(tree)]
        self.stop_is_expected = any(isinstance(node, ast.Name) and node.id == "StopIteration" for node in nodes)
        modules = {name: importlib.import_module(name) for name in _used_as_modules(nodes, wanted - {entry_point})}
        offered = {**self._offered(wanted - set(modules)), **modules}
        namespace.update(offered)
        for number, tree in enumerate(trees):
            exec(compile(tree, f"<test {number}>" if number else "<setup>", "exec"), namespace)
            if entry_point in offered:  # the setup may hold the head of the very function
                namespace[entry_point] = offered[entry_point]
        if self.link.broken:
            raise LinkBrokenError(self.link.broken)

    def _offered(self, wanted: set[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        described = self.ask("names", *sorted(wanted))
        for name in wanted:
            kind, value = described.get(name, ("module", name))
            if kind == "module" and str(value).partition(".")[0] in sys.stdlib_module_names:
                found[name] = importlib.import_module(value)
            elif kind == "exception":
                found[name] = self.exceptions[name] = type(name, (_builtin_exception(value),), {})
            elif kind == "class" and isinstance(value, RemoteObject):
                found[name] = RemoteObject(self, value._number, value._kind, is_class=name[:1].isupper())
            elif kind == "object":
                found[name] = value
        return found

    def _raised(self, names: list[str], message: str) -> Exception:
        own = self.exceptions.get(names[0])
        return (own or _builtin_exception(names))(message)

    def _serve(self, operation: str, arguments: list[Any], names: dict[str, Any]) -> Any:
        return self.functions[int(operation)](*arguments, **names)

    def _wrap(self, value: Any) -> list[Any]:
        if isinstance(value, RemoteObject):
            return ["o", value._number]
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
            self.functions.append(value)
            return ["k", len(self.functions) - 1]
        raise TypeError(
            f"a test passes a {type(value).__name__}; plain values, functions and the program's objects pass"
        )

    def _unwrap(self, coded: list[Any]) -> Any:
        kind, number, name, _ = coded
        if kind != "o" or type(number) is not int or type(name) is not str:
            raise ValueError("an unknown kind of value")
        return RemoteObject(self, number, name)


def _free_names(trees: list[ast.Module]) -> set[str]:
    """Names that the tests use and neither they nor Python define."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)}
    bound |= {(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return {name for name in used - bound if not hasattr(builtins, name)}


def _used_as_modules(nodes: list[ast.AST], names: set[str]) -> set[str]:
    """Those of the names that tests use as a module of Python, without importing it: `math.isclose(...)`.

    The program is not asked for them, for its own `isclose` would decide.
    """
    bases = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    alone = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in bases}
    return {name for name in names - alone if name in sys.stdlib_module_names}


def _builtin_exception(names: list[str]) -> type[Exception]:
    """The nearest ancestor that Python defines; never one that ends a process."""
    for name in names:
        found = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(found, type) and issubclass(found, Exception):
            return (
                ValueError if issubclass(found, UnicodeError | ExceptionGroup) else found
            )  # these take more arguments
    return Exception


def _replace_content(target: Any, value: Any) -> None:
    """What the program did to an argument, done to the test's own object."""
    if isinstance(target, list | bytearray):
        target[:] = value
    elif isinstance(target, dict | set):
        target.clear()
        target.update(value)
