"""Hugging Face weights: safetensors shards and their index, read lazily, written shard by shard."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_json

INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorHeader:
    """What a shard's header says of a tensor, known without reading its data."""

    dtype: str
    """In the words of safetensors: F32, BF16, ..."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies: in a shard under its name, or as a part of a tensor that holds all experts of a layer."""

    path: Path
    name: str
    expert: int | None = None
    rows: slice = field(default_factory=lambda: slice(None))


STACKED_GATE_UP, STACKED_DOWN = ".mlp.experts.gate_up_proj", ".mlp.experts.down_proj"
"""[experts, 2 * width, hidden] and [experts, hidden, width]: how transformers keeps experts in memory."""
_LAYER = re.compile(r"^(model\.layers\.)(\d+)(\..*)$")


class SafetensorsFolder(Mapping[str, Tensor]):
    """The tensors of a model folder by name, memory-mapped: one is read when it is asked for.

    Experts that are stacked into one tensor are given one by one, under the names they have apart.

    Args:
        layers: give only these layers (first, one after the last), renumbered from 0.
    Raises:
        CheckpointError: no safetensors in the folder, a shard that is missing or damaged, an index that names a
            tensor which its shard lacks.
    """

    def __init__(self, folder: Path, layers: tuple[int, int] | None = None) -> None:
        self.folder = folder
        self._open: dict[Path, Any] = {}
        self._places: dict[str, _Stored] = {}
        self.stacked_experts = False
        """Whether experts are stacked."""
        for name, path in self._locate().items():
            self._places.update(self._apart(name, path))
        if layers is not None:
            kept = {_renumbered(name, *layers): place for name, place in self._places.items()}
            self._places = {name: place for name, place in kept.items() if name is not None}

    def _apart(self, name: str, path: Path) -> dict[str, _Stored]:
        """A tensor under its name, or one for each expert in it."""
        if not name.endswith((STACKED_GATE_UP, STACKED_DOWN)):
            return {name: _Stored(path, name)}
        self.stacked_experts = True
        shape = self._file(path).get_slice(name).get_shape()
        prefix = name.rsplit(".", 1)[0]
        found = {}
        for expert in range(shape[0]):
            if name.endswith(STACKED_DOWN):
                found[f"{prefix}.{expert}.down_proj.weight"] = _Stored(path, name, expert)
            else:
                half = shape[1] // 2
                found[f"{prefix}.{expert}.gate_proj.weight"] = _Stored(path, name, expert, slice(0, half))
                found[f"{prefix}.{expert}.up_proj.weight"] = _Stored(path, name, expert, slice(half, 2 * half))
        return found

    def _locate(self) -> dict[str, Path]:
        index = self.folder / INDEX_NAME
        if index.is_file():
            return self._read_index(index)
        single = self.folder / "model.safetensors"
        if not single.is_file():
            raise CheckpointError(
                f"{self.folder}: neither model.safetensors nor {INDEX_NAME}; save the model as safetensors"
            )
        return dict.fromkeys(self._file(single).keys(), single)

    def _read_index(self, index: Path) -> dict[str, Path]:
        try:
            weight_map = dict(json.loads(index.read_bytes())["weight_map"])
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{index}: no index of shards ({error!r}); download the file again") from error
        names = sorted({str(name) for name in weight_map.values()})
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{self.folder}: {INDEX_NAME} names {', '.join(missing)}, not in the folder; finish the download"
            )
        held = {name: set(self._file(self.folder / name).keys()) for name in names}
        for tensor, name in weight_map.items():
            if tensor not in held[str(name)]:
                raise CheckpointError(
                    f"{self.folder / name}: lacks {tensor}, which {INDEX_NAME} places there; download both again"
                )
        return {tensor: self.folder / name for tensor, name in weight_map.items()}

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise CheckpointError(f"{path}: damaged or incomplete ({error}); download the file again") from error
        return self._open[path]

    def header(self, name: str) -> TensorHeader:
        """Data type and shape of a tensor; its data is not read."""
        place = self._places[name]
        part = self._file(place.path).get_slice(place.name)
        shape = tuple(part.get_shape())
        if place.expert is not None:
            shape = (len(range(*place.rows.indices(shape[1]))), *shape[2:])
        return TensorHeader(part.get_dtype(), shape)

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        if place.expert is None:
            tensor: Tensor = self._file(place.path).get_tensor(place.name)
        else:
            tensor = self._file(place.path).get_slice(place.name)[place.expert, place.rows]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def files(self) -> list[Path]:
        """The shards."""
        return sorted({place.path for place in self._places.values()})

    def close(self) -> None:
        """Unmaps the shards that were opened; they are opened again when a tensor is asked for."""
        self._open.clear()


def _renumbered(name: str, first: int, end: int) -> str | None:
    """The name with its layer counted from `first`; None where the layer is outside."""
    match = _LAYER.match(name)
    if match is None:
        return name
    layer = int(match.group(2))
    return f"{match.group(1)}{layer - first}{match.group(3)}" if first <= layer < end else None


def write_safetensors(folder: Path, tensors: Iterable[tuple[str, Tensor]], shard_bytes: int = 5 * 2**30) -> int:
    """Writes a stream of tensors as shards of at most `shard_bytes` with their index; returns the bytes of data.

    One shard is in memory at a time. `folder` exists; the caller makes it appear atomically. A full disk is an OSError.
    """
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    pending_bytes = total = 0

    def flush() -> None:
        nonlocal pending, pending_bytes
        save_safetensors(pending, folder / f"shard-{len(shards):05d}")
        shards.append(list(pending))
        pending, pending_bytes = {}, 0

    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if pending and pending_bytes + size > shard_bytes:
            flush()
        pending[name] = tensor.detach().cpu().contiguous()
        pending_bytes += size
        total += size
    flush()
    if len(shards) == 1:
        (folder / "shard-00000").rename(folder / "model.safetensors")
        return total
    weight_map = {}
    for number, names in enumerate(shards):
        file_name = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"shard-{number:05d}").rename(folder / file_name)
        weight_map.update(dict.fromkeys(names, file_name))
    atomic_write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})
    return total


def save_safetensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Writes one safetensors file with the access rights of any new file (the library's own are its owner's alone)."""
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(mode)
    except SafetensorError as error:  # how it reports what the system refuses, a full disk among it
        for number in (errno.ENOSPC, errno.EDQUOT):
            if f"os error {number}" in str(error):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise
