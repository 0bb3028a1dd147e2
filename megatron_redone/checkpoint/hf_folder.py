"""Hugging Face model folders: config.json and safetensors shards, read lazily and written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_json

INDEX_NAME = "model.safetensors.index.json"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        CheckpointError: no such folder or file, or not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); download the file again") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: a {type(config).__name__}, expected a JSON object; download the file again")
    return config


class SafetensorsFolder(Mapping[str, Tensor]):
    """The tensors of a model folder by name, memory-mapped: one is read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of = self._locate()
        self._open: dict[Path, Any] = {}

    def _locate(self) -> dict[str, Path]:
        index = self.folder / INDEX_NAME
        if index.is_file():
            weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            missing = sorted({name for name in weight_map.values() if not (self.folder / name).is_file()})
            if missing:
                raise CheckpointError(
                    f"{self.folder}: {INDEX_NAME} names {', '.join(missing)}, not in the folder; finish the download"
                )
            return {name: self.folder / file for name, file in weight_map.items()}
        single = self.folder / "model.safetensors"
        if not single.is_file():
            raise CheckpointError(
                f"{self.folder}: neither model.safetensors nor {INDEX_NAME}; save the model as safetensors"
            )
        return {name: single for name in self._file(single).keys()}  # noqa: SIM118 (not a dict)

    def _file(self, path: Path) -> Any:
        opened = getattr(self, "_open", {})
        if path not in opened:
            try:
                opened[path] = safe_open(path, framework="pt")
            except SafetensorError as error:
                raise CheckpointError(f"{path}: damaged ({error}); download the file again") from error
            self._open = opened
        return opened[path]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._file_of:
            raise KeyError(name)
        tensor: Tensor = self._file(self._file_of[name]).get_tensor(name)
        return tensor

    def __iter__(self) -> Any:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def write_safetensors(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], shard_bytes: int = 5 * 2**30
) -> int:
    """Writes a stream of tensors as shards of at most `shard_bytes` with their index; returns the bytes of data.

    One shard is in memory at a time. `folder` exists; the caller makes it appear atomically.
    """
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    pending_bytes = total = 0

    def flush() -> None:
        nonlocal pending, pending_bytes
        save_file(pending, folder / f"shard-{len(shards):05d}", metadata={"format": "pt"})
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
