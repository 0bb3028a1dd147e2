"""Messages between our environment and NeMo-Aligner's: a JSON head and arrays as bytes, never pickle.

Both sides import this file, so it needs nothing but NumPy. A message is the length of its head (8 bytes, little
endian), the head as UTF-8 JSON (`kind`, `values`, and name, type and shape of each array) and the arrays' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES = ("<f4", "<f8", "<i4", "<i8")
MAX_HEAD_BYTES = 1 << 28
MAX_ARRAY_BYTES = 1 << 36


class WireError(Exception):
    """The other side sent what is no message, or went away in the middle of one."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: what is asked or answered.
        values: JSON values by name.
        arrays: numbers by name.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)


def send(stream: BinaryIO, kind: str, values: Mapping[str, Any] = {}, arrays: Mapping[str, Array] = {}) -> None:
    """Writes one message and flushes.

    Raises:
        WireError: an array of a type that is not sent, or nobody reads the other end.
    """
    ready = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in ready.items():
        if array.dtype.str not in DTYPES:
            raise WireError(f"array {name!r} is {array.dtype.str}; one of {', '.join(DTYPES)} can be sent")
    about = [[name, array.dtype.str, list(array.shape)] for name, array in ready.items()]
    head = json.dumps({"kind": kind, "values": dict(values), "arrays": about}).encode()
    try:
        stream.write(len(head).to_bytes(8, "little") + head)
        for array in ready.values():
            stream.write(array.tobytes())
        stream.flush()
    except BrokenPipeError as error:
        raise WireError(f"{kind!r} could not be sent: the other process has ended") from error


def receive(stream: BinaryIO) -> Message | None:
    """The next message; None where the other side closed its end between two messages.

    Raises:
        WireError: the bytes are no message, or end in the middle of one.
    """
    length = stream.read(8)
    if not length:
        return None
    size = int.from_bytes(length, "little")
    if len(length) < 8 or size > MAX_HEAD_BYTES:
        raise WireError(f"a head of {size} bytes; at most {MAX_HEAD_BYTES} are read")
    try:
        head = json.loads(_exactly(stream, size))
        arrays = {name: _array(stream, dtype, shape) for name, dtype, shape in head["arrays"]}
        return Message(head["kind"], head["values"], arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise WireError(f"a damaged head ({type(error).__name__}: {error})") from error


def _array(stream: BinaryIO, dtype: str, shape: list[int]) -> Array:
    if dtype not in DTYPES or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"array of type {dtype!r} and shape {shape}")
    num_bytes = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
    if num_bytes > MAX_ARRAY_BYTES:
        raise ValueError(f"array of {num_bytes} bytes")
    return np.frombuffer(bytearray(_exactly(stream, num_bytes)), dtype=dtype).reshape(shape)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise WireError(f"the other process ended in the middle of a message ({len(data)} of {size} bytes)")
    return data
