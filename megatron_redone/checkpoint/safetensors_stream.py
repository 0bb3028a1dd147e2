"""A safetensors file written tensor by tensor; the library's own writer wants all of them in memory.

The format: eight bytes (little endian) with the length of the header, the header as JSON (type, shape and place of
every tensor), then the tensors' bytes without a gap.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import TensorHeader
from megatron_redone.checkpoint.torch_dist import BLOCK_BYTES

ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2}


class SafetensorsLayout:
    """Where everything stands in a file of these tensors, in this order.

    Attributes:
        head: the bytes before the first tensor.
        size: bytes of the whole file.
    """

    def __init__(self, headers: Mapping[str, TensorHeader]) -> None:
        self.headers = dict(headers)
        description: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self._starts: dict[str, int] = {}
        end = 0
        for name, header in headers.items():
            self._starts[name], end = end, end + bytes_of(header)
            description[name] = {
                "dtype": header.dtype,
                "shape": header.shape,
                "data_offsets": [end - bytes_of(header), end],
            }
        text = json.dumps(description, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.head = len(text).to_bytes(8, "little") + text
        self.size = len(self.head) + end

    def start(self, name: str) -> int:
        """First byte of a tensor, from the start of the file."""
        return len(self.head) + self._starts[name]


@dataclass(frozen=True)
class Stretch:
    """Bytes of a file that were written in one go."""

    start: int
    length: int
    crc32: int

    def stands_in(self, path: Path) -> bool:
        """Whether the file holds them, as far as their checksum can tell."""
        if not path.is_file():
            return False
        crc, left = 0, self.length
        with path.open("rb") as file:
            file.seek(self.start)
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                crc, left = zlib.crc32(block, crc), left - len(block)
        return not left and crc == self.crc32


class SafetensorsWriter:
    """Writes neighbouring tensors of one file; other processes may write the rest of it at the same time.

    Args:
        names: the tensors in the order in which they will be added, which is that of the layout; by default all.
    """

    def __init__(self, path: Path, layout: SafetensorsLayout, names: Sequence[str] | None = None) -> None:
        self.path, self.layout = path, layout
        self._left = list(layout.headers if names is None else names)
        first = next(iter(layout.headers)) == self._left[0]
        self._start = 0 if first else layout.start(self._left[0])
        self._length = self._crc32 = 0
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb", buffering=0)
        self._file.truncate(layout.size)  # shortens what an interrupted writer of a longer file may have left
        self._file.seek(self._start)
        if first:
            self._write(memoryview(layout.head))

    def add(self, name: str, tensor: Tensor) -> None:
        """The next tensor, in the type and shape that its header says."""
        header = self.layout.headers[name]
        assert name == self._left.pop(0) and tuple(tensor.shape) == header.shape, name
        data = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
        assert len(data) == bytes_of(header), name
        self._write(data)

    def close(self) -> Stretch:
        """Brings what was written to disk."""
        assert not self._left, self._left
        os.fsync(self._file.fileno())
        self._file.close()
        return Stretch(self._start, self._length, self._crc32)

    def _write(self, data: memoryview) -> None:
        for begin in range(0, len(data), BLOCK_BYTES):  # in blocks that are still in the processor's cache when summed
            block = data[begin : begin + BLOCK_BYTES]
            self._crc32 = zlib.crc32(block, self._crc32)
            while block:
                block = block[self._file.write(block) :]
        self._length += len(data)


def bytes_of(header: TensorHeader) -> int:
    """Size of a tensor's data."""
    return math.prod(header.shape) * ITEM_BYTES[header.dtype]
