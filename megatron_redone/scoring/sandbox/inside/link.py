"""A line of messages between two boxes over a pair of pipes: calls in both directions, one at a time.

A message is a length (four bytes, big endian) and one value (`values.py`). A call is `["call", operation, arguments,
names]`; while its answer is awaited, the other side may call back (a test that passes a function). The answer is
`["value", value, {index of an argument: its value afterwards}]` or `["raised", names of the classes, message]`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

from megatron_redone.scoring.sandbox.inside.values import MAX_MESSAGE_BYTES, dumps, loads

Serve = Callable[[str, list[Any], dict[str, Any]], Any]


class LinkBrokenError(BaseException):
    """The other side ended, or sent what is no message. Not an Exception: no test or program can handle it away."""


class Link:
    """One end of the line.

    Args:
        reader, writer: file descriptors.
        wrap, unwrap: what stands for objects (`values.py`).
        serve: answers a call of the other side.
    """

    def __init__(
        self,
        reader: int,
        writer: int,
        wrap: Callable[[Any], list[Any]],
        unwrap: Callable[[list[Any]], Any],
        serve: Serve,
    ) -> None:
        self.reader, self.writer, self.wrap, self.unwrap, self.serve = reader, writer, wrap, unwrap, serve
        self.broken = ""

    def call(self, operation: str, *arguments: Any, **names: Any) -> Any:
        """Asks the other side; returns its message `["value", ...]` or `["raised", ...]`."""
        if self.broken:
            raise LinkBrokenError(self.broken)
        self._send(["call", operation, list(arguments), names])
        while True:
            message = self._receive()
            if message[0] != "call":
                return message
            self.answer(message)

    def answer_calls(self) -> None:
        """Serves until the other side ends."""
        while True:
            try:
                message = self._receive()
            except LinkBrokenError:
                return
            self.answer(message)

    def answer(self, message: list[Any]) -> None:
        """Serves one call."""
        _, operation, arguments, names = message
        before = [_mutable_as_bytes(argument, self.wrap) for argument in arguments]
        try:
            value = self.serve(operation, arguments, names)
            changed = {
                index: argument
                for index, (argument, old) in enumerate(zip(arguments, before, strict=True))
                if old is not None and _mutable_as_bytes(argument, self.wrap) != old
            }
            reply = dumps(["value", value, changed], self.wrap)
        except BaseException as error:  # whatever the served code raises is its answer
            if isinstance(error, LinkBrokenError):
                raise
            reply = dumps(["raised", [kind.__name__ for kind in type(error).__mro__], _message(error)], self.wrap)
        self._send_bytes(reply)

    def _send(self, value: Any) -> None:
        self._send_bytes(dumps(value, self.wrap))

    def _send_bytes(self, data: bytes) -> None:
        view = memoryview(struct.pack(">I", len(data)) + data)
        try:
            while view:
                view = view[os.write(self.writer, view) :]
        except OSError:
            self._fail("the program ended before the tests did")

    def _receive(self) -> Any:
        length = struct.unpack(">I", self._read(4))[0]
        if length > MAX_MESSAGE_BYTES:
            self._fail(f"a value of {length} bytes; at most {MAX_MESSAGE_BYTES} pass")
        try:
            message = loads(self._read(length), self.unwrap)
            known = {"call": 4, "value": 3, "raised": 3}
            if type(message) is list and len(message) == known.get(message[0], 0):
                return message
        except (ValueError, TypeError, LookupError) as error:
            self._fail(f"the program sent what is no message: {error}")
        return self._fail("the program sent what is no message")

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.reader, min(size, 1 << 16))
            if not part:
                self._fail("the program ended before the tests did")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _fail(self, why: str) -> Any:
        self.broken = self.broken or why
        raise LinkBrokenError(self.broken)


def _mutable_as_bytes(value: Any, wrap: Callable[[Any], list[Any]]) -> bytes | None:
    """A mutable argument as bytes, to see whether a call changed it."""
    return dumps(value, wrap) if isinstance(value, list | dict | set | bytearray) else None


def _message(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:  # noqa: BLE001 - an exception of the program may not even have a text
        return ""
