"""A safetensors file written tensor by tensor; the library's own writer wants all of them in memory.

The format: eight bytes (little endian) with the length of the header, the header as JSON (type, shape and place of
every tensor), then the tensors' bytes without a gap.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from megatron_redone.checkpoint.hf_folder import TensorHeader

ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2}


class SafetensorsFile:
    """One file whose tensors' types and shapes are known before their data.

    Args:
        headers: the tensors in the order in which they will be added.
    """

    def __init__(self, path: Path, headers: Mapping[str, TensorHeader]) -> None:
        self.path, self.headers = path, dict(headers)
        self._left = list(headers)
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        description: dict[str, object] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, header in headers.items():
            start, end = end, end + bytes_of(header)
            description[name] = {"dtype": header.dtype, "shape": header.shape, "data_offsets": [start, end]}
        text = json.dumps(description, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._write(len(text).to_bytes(8, "little"))
        self._write(text)

    def add(self, name: str, tensor: Tensor) -> None:
        """The next tensor, in the type and shape that its header says."""
        assert name == self._left.pop(0) and tuple(tensor.shape) == self.headers[name].shape, name
        self._write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)

    def close(self) -> str:
        """Brings the complete file to disk; its SHA-256."""
        assert not self._left, self._left
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()

    def _write(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)


def bytes_of(header: TensorHeader) -> int:
    """Size of a tensor's data."""
    return math.prod(header.shape) * ITEM_BYTES[header.dtype]
