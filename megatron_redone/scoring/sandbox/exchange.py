"""What is sent to a box and read from it, byte by byte. Nothing that comes out of a box is trusted here."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Literal

SEND_SECONDS = 5.0
_READ_BYTES = 1 << 16
_VERDICT_BYTES = 1 << 16


@dataclass
class Box:
    """One box: host's ends of its lifeline and outputs."""

    lifeline: socket.socket
    stdout: int
    stderr: int

    def close(self) -> None:
        """Ends all in the box; at once, even if a process forked from this one holds copies of the descriptors."""
        with contextlib.suppress(OSError):
            self.lifeline.shutdown(socket.SHUT_RDWR)
        self.lifeline.close()
        for descriptor in (self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def as_bytes(source: str | bytes) -> bytes:
    """A text as UTF-8. Half characters become bytes that no Python reads, so the program is an error, as it should."""
    return source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")


def message(header: dict[str, Any], source: bytes = b"", stdin: bytes = b"") -> bytes:
    """What a box is asked: the length of a header, the header, a program, its input."""
    head = json.dumps({**header, "source_bytes": len(source), "stdin_bytes": len(stdin)}).encode("ascii")
    return struct.pack(">I", len(head)) + head + source + stdin


def send(box: Box, asked: bytes, descriptors: list[int]) -> None:
    """The request with descriptors. A box that is gone does not matter here: it gives no verdict."""
    with contextlib.suppress(OSError):
        box.lifeline.settimeout(SEND_SECONDS)
        socket.send_fds(box.lifeline, [asked[:4]], descriptors)
        box.lifeline.sendall(asked[4:])


def send_some(lifeline: socket.socket, data: memoryview) -> int:
    """Sends what fits; returns how many bytes that was."""
    try:
        return lifeline.send(data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # the box is gone; its report says how


def received(lifeline: socket.socket) -> bytes:
    """What lies ready; empty where the box is gone."""
    try:
        return lifeline.recv(512)
    except OSError:
        return b""


def gather(descriptor: int, into: bytearray) -> Literal["more", ""]:
    """Reads what is there; "" at the end or where nothing waits."""
    try:
        data = os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return ""
    into += data
    return "more" if data else ""


def read_verdict(descriptor: int, deadline: float) -> dict[str, Any] | None:
    """The tests' answer; {} where they end without one, None at the deadline."""
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while len(data) < _VERDICT_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return None
            part = os.read(descriptor, _READ_BYTES)
            if not part:
                break
            data += part
    try:
        answer = json.loads(data)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
