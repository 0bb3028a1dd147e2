"""The files of a torch_dist checkpoint, written and read tensor by tensor, without a model or a process group.

A checkpoint is a set of global tensors by key. Each lies in parts: a part is one `torch.save` record at some place of
some file, and `.metadata` says which part of which tensor lies where. Megatron-core reads what is written here, and
what it writes is read here.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, _weights_only_unpickler
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from megatron_redone.checkpoint.metadata_file import METADATA, check_metadata
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_bytes, atomic_write_json

Sizes = tuple[int, ...]
BLOCK_BYTES = 2**16
"""Data are summed and written in blocks of so many bytes: they stay in the processor's cache between the two, and the
system finds room for small blocks quicker than for large ones."""


@dataclass(frozen=True)
class Part:
    """A part of a global tensor, and where it lies."""

    key: str
    global_shape: Sizes
    offset: Sizes
    shape: Sizes
    dtype: str
    """As torch calls it, without its prefix: bfloat16."""
    file: str
    position: int
    length: int
    """Bytes of the record."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Part:
        """What `dataclasses.asdict` and JSON made of one."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        return cls(**fields)


class PartFile:
    """One file of parts, written in order and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.parts: list[Part] = []
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._position = 0

    def write(self, data: Any) -> int:
        """What `torch.save` calls."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), BLOCK_BYTES):
            block = view[start : start + BLOCK_BYTES]
            self._digest.update(block)
            self._file.write(block)
        self._position += len(view)
        return len(view)

    def flush(self) -> None:
        """What `torch.save` calls at its end; `close` brings the file to disk."""

    def add(self, key: str, global_shape: Sizes, offset: Sizes, tensor: Tensor) -> None:
        """Appends a part; `tensor` has as many dimensions as the global tensor."""
        start = self._position
        torch.save(_with_storage_of_its_own(tensor), self)  # type: ignore[arg-type]
        dtype = str(tensor.dtype).removeprefix("torch.")
        length = self._position - start
        self.parts.append(Part(key, global_shape, offset, tuple(tensor.shape), dtype, self.name, start, length))

    def close(self) -> str:
        """Brings the file to disk; its SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()


def _with_storage_of_its_own(tensor: Tensor) -> Tensor:
    """`torch.save` writes the whole storage, of which a slice or a mapped file is a part; this one ends with it."""
    tensor = tensor.detach().contiguous()
    if tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    data = torch.from_numpy(tensor.view(-1).view(torch.uint8).numpy())
    return data.view(tensor.dtype).view(tensor.shape)


def write_metadata(folder: Path, parts: Iterable[Part]) -> None:
    """Writes what makes the files of a folder a checkpoint that Megatron-core reads."""
    tensors: dict[str, TensorStorageMetadata] = {}
    places = {}
    for part in parts:
        if part.key not in tensors:
            properties = TensorProperties(dtype=getattr(torch, part.dtype))
            tensors[part.key] = TensorStorageMetadata(properties, torch.Size(part.global_shape), [])
        offset = torch.Size(part.offset)
        tensors[part.key].chunks.append(ChunkStorageMetadata(offset, torch.Size(part.shape)))
        places[MetadataIndex(part.key, offset)] = _StorageInfo(part.file, part.position, part.length)
    metadata = Metadata(state_dict_metadata=dict(tensors), storage_data=places)
    atomic_write_bytes(folder / METADATA, pickle.dumps(metadata))
    common = io.BytesIO()
    torch.save({}, common)
    atomic_write_bytes(folder / "common.pt", common.getvalue())
    backend = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
    atomic_write_json(folder / "metadata.json", {**backend, "common_backend": "torch", "common_backend_version": 1})


class TorchDistFolder:
    """The global tensors of a checkpoint folder by key; a part is read when it is asked for.

    Raises:
        CheckpointError: metadata that name more than parts of tensors, or contradict themselves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        metadata = check_metadata(folder)
        self.parts: dict[str, list[Part]] = {}
        for key, tensor in metadata.state_dict_metadata.items():
            assert isinstance(tensor, TensorStorageMetadata)  # checked with the metadata
            dtype = str(tensor.properties.dtype).removeprefix("torch.")
            self.parts[key] = []
            for chunk in tensor.chunks:
                place = metadata.storage_data.get(MetadataIndex(key, chunk.offsets))
                if place is None or Path(place.relative_path).name != place.relative_path:
                    raise CheckpointError(f"{folder}: {key} at {tuple(chunk.offsets)} lies nowhere; write it anew")
                self.parts[key].append(
                    Part(
                        key,
                        tuple(tensor.size),
                        tuple(chunk.offsets),
                        tuple(chunk.sizes),
                        dtype,
                        place.relative_path,
                        place.offset,
                        place.length,
                    )
                )
        self._by_index: dict[tuple[str, int], dict[Sizes, list[Part]]] = {}

    def problems(self, key: str) -> list[str]:
        """What is wrong with the parts of a tensor: they overlap, or leave something out."""
        parts = self.parts[key]
        whole = parts[0].global_shape
        columns_are_cut = any(part.shape[-1] != whole[-1] for part in parts)
        covered = torch.zeros(whole if columns_are_cut or len(whole) == 1 else whole[:-1], dtype=torch.int16)
        for part in parts:
            place = tuple(slice(start, start + size) for start, size in zip(part.offset, part.shape, strict=True))
            covered[place[: covered.dim()]] += 1
        found = []
        for what, places in (("in no part", covered < 1), ("in several parts", covered > 1)):
            if bool(places.any()):
                found.append(f"{key}: {int(places.sum())} of {covered.numel()} places are {what}")
        return found

    def parts_at(self, key: str, index: Sizes) -> list[Part]:
        """The parts of a tensor whose first offsets are `index` (each of size 1 there)."""
        if (key, len(index)) not in self._by_index:
            found: dict[Sizes, list[Part]] = {}
            for part in self.parts.get(key, []):
                found.setdefault(part.offset[: len(index)], []).append(part)
            self._by_index[key, len(index)] = found
        return self._by_index[key, len(index)].get(index, [])

    def read(self, key: str, index: Sizes) -> Tensor:
        """The slice [index] of a global tensor, joined from its parts.

        Raises:
            CheckpointError: parts are missing, overlap, or do not hold what the metadata say.
        """
        parts = self.parts_at(key, index)
        if not parts:
            raise CheckpointError(f"{self.folder}: no {key}{list(index)} in it; it is a checkpoint of another model")
        size = parts[0].global_shape[len(index) :]
        if sum(_count(part.shape) for part in parts) != _count(size):
            raise CheckpointError(f"{self.folder}: the parts of {key}{list(index)} are not the whole; write it anew")
        if len(parts) == 1:
            return self._record(parts[0]).view(size)
        whole = torch.empty(size, dtype=getattr(torch, parts[0].dtype))
        for part in parts:
            offset, shape = part.offset[len(index) :], part.shape[len(index) :]
            place = tuple(slice(start, start + length) for start, length in zip(offset, shape, strict=True))
            whole[place] = self._record(part).view(shape)
        return whole

    def _record(self, part: Part) -> Tensor:
        path = self.folder / part.file
        try:
            tensor = _mapped(path, part.position, part.length)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path}: {part.key} cannot be read ({error}); copy the checkpoint again") from error
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != part.shape:
            raise CheckpointError(f"{path}: holds something else than the metadata say of {part.key}; write it anew")
        return tensor


def _mapped(path: Path, position: int, length: int) -> Any:
    """What `torch.load` would give of the record at a place of a file, its data mapped from the file instead of read.

    A private mapping: the file does not change when the tensor does. As with `weights_only=True`,
    nothing but tensors is made of what the file says.
    """
    with path.open("rb", buffering=0) as file:
        reader = torch._C.PyTorchFileReader(_FilePart(file, position, length))  # type: ignore[call-overload]

        def storage(saved: tuple[str, Any, str, str, int]) -> torch.storage.TypedStorage:
            _, kind, key, _, count = saved
            num_bytes = count * torch._utils._element_size(kind.dtype)
            start = position + reader.get_record_offset(f"data/{key}")
            if start + num_bytes > position + length:
                raise ValueError(f"{num_bytes} bytes of data end behind the record")
            data = np.memmap(path, np.uint8, "c", start, (num_bytes,))
            whole = torch.from_numpy(data).untyped_storage()
            return torch.storage.TypedStorage(wrap_storage=whole, dtype=kind.dtype, _internal=True)

        unpickler = _weights_only_unpickler.Unpickler(io.BytesIO(reader.get_record("data.pkl")), encoding="utf-8")
        unpickler.persistent_load = storage  # type: ignore[method-assign]
        return unpickler.load()


class _FilePart(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, file: io.FileIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._position = file, start, length, 0

    def readable(self) -> bool:
        """As any file's."""
        return True

    def seekable(self) -> bool:
        """As any file's."""
        return True

    def tell(self) -> int:
        """Place in the stretch."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place in the stretch."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = min(max(0, base + offset), self._length)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the stretch goes."""
        view = memoryview(buffer).cast("B")[: self._length - self._position]
        self._file.seek(self._start + self._position)
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        self._position += done
        return done


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
