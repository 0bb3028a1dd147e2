"""Megatron torch_dist checkpoint, as `to_megatron` writes it -> Hugging Face model folder, tensor by tensor."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from megatron_redone.checkpoint.hf_config import COMPANION_FOLDER, read_config
from megatron_redone.checkpoint.hf_folder import INDEX_NAME, STACKED_DOWN, STACKED_GATE_UP, TensorHeader
from megatron_redone.checkpoint.manifest import verified_manifest
from megatron_redone.checkpoint.mapping import ParamMapping
from megatron_redone.checkpoint.safetensors_stream import SafetensorsLayout, SafetensorsWriter, bytes_of
from megatron_redone.checkpoint.torch_dist import TorchDistFolder
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import atomic_write_json, disk_full_reported, fsync_directory
from megatron_redone.conversion.hf_model import DTYPES, EMBEDDING, HEAD, copy_companions
from megatron_redone.conversion.model_card import CARD
from megatron_redone.conversion.output import check_output
from megatron_redone.conversion.placement import place_of
from megatron_redone.conversion.to_megatron import BUFFERS_FILE, KIND, TARGETS, UNIT_BYTES, Dtype, with_dtype
from megatron_redone.conversion.units import Record, Unit, close_work, open_work, run_units, units_of
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import param_mappings, shape_from_hf
from megatron_redone.models.weights import hf_shapes


@dataclass(frozen=True)
class Shard:
    """One safetensors file."""

    name: str
    groups: Sequence[int]
    """Which groups of tensors it holds, by their place among all."""
    layout: SafetensorsLayout


@dataclass(frozen=True)
class ToHF:
    """A conversion back.

    Args:
        megatron: a checkpoint folder of `to_megatron`, cut for any layout.
        out: the new Hugging Face model folder.
        shard_bytes: largest size of a shard (a single tensor may be more).
        dtype: data type of all weights; "keep" gives each the one it came in.
    """

    megatron: Path
    out: Path
    shard_bytes: int = 5 * 10**9
    dtype: Dtype = "keep"

    def __getstate__(self) -> Record:
        """What goes to another process: the settings, and of the manifest what it needs; the files are verified."""
        settings = {name: getattr(self, name) for name in ("megatron", "out", "shard_bytes", "dtype")}
        return {**settings, "manifest": {"extra": self.manifest["extra"]}}

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The checkpoint's manifest; all its files have the checksums that it names."""
        manifest = verified_manifest(self.megatron)
        if manifest["extra"].get("kind") != KIND:
            raise CheckpointError(
                f"{self.megatron}: a checkpoint of a training stage, not a converted model; the stage's output is a "
                "Hugging Face folder already"
            )
        return manifest

    @cached_property
    def shape(self) -> ModelShape:
        """The model's shape."""
        return shape_from_hf(read_config(self.megatron / COMPANION_FOLDER), str(self.megatron))

    def run(self, processes: int = 1) -> ModelShape:
        """Writes the folder, whole or not at all, and gives the model's shape.

        Killed, it leaves its finished shards beside `out`; started again with equal arguments it checks and keeps them.

        Raises:
            CheckpointError: not a converted model, or a file of it is missing or damaged.
            InputError: see `check_output`. DiskFullError: the disk is full.
        """
        check_output(self.out)
        units = self.units()
        folder = self.out.with_name(f".{self.out.name}.partial")
        with disk_full_reported(self.out):
            open_work(folder, {"files": self.manifest["files"], "shard_bytes": self.shard_bytes, "dtype": self.dtype})
            run_units(units, partial(_write_stretch, self), folder, processes, "to-hf")
            close_work(folder)
            self._write_index(folder)
            self._add_files(folder)
            fsync_directory(folder)
            if self.out.is_dir():
                self.out.rmdir()  # empty: it was checked
            folder.rename(self.out)
            fsync_directory(self.out.parent)
        return self.shape

    @cached_property
    def shards(self) -> list[Shard]:
        """The files to be written."""
        made = units_of(self._sizes, self.shard_bytes, lambda group: 0)
        return [
            Shard(
                shard_name(unit.number, len(made)),
                unit.rows,
                SafetensorsLayout({name: self.headers[name] for group in unit.rows for name in self.groups[group]}),
            )
            for unit in made
        ]

    def units(self) -> list[Unit]:
        """Stretches of the shards."""
        shard_of = {group: number for number, shard in enumerate(self.shards) for group in shard.groups}
        return units_of(self._sizes, UNIT_BYTES, lambda group: shard_of[group])

    @cached_property
    def _sizes(self) -> list[int]:
        return [sum(bytes_of(self.headers[name]) for name in names) for names in self.groups]

    @cached_property
    def _rows(self) -> dict[str, ParamMapping]:
        """The row of the parameter table that makes each tensor."""
        return {name: row for row in param_mappings(self.shape) if row.is_exported for name in row.hf}

    @cached_property
    def groups(self) -> list[list[str]]:
        """The names of tensors that are written together, in the order of the parameter table."""
        record = self.manifest["extra"]
        groups: dict[str, list[str]] = {}
        for row in param_mappings(self.shape):
            if row.is_exported:
                stacked = record["stacked_experts"] and row.expert is not None
                names = [stacked_name(row.hf[0])] if stacked else list(row.hf)
                groups[names[0]] = names
        if record["has_tied_head"]:
            groups[EMBEDDING].append(HEAD)
        return [*groups.values(), *([name] for name in self.buffers)]

    @cached_property
    def headers(self) -> dict[str, TensorHeader]:
        """Type and shape of every tensor that may be written."""
        record = self.manifest["extra"]
        found: dict[str, TensorHeader] = {}
        for name, shape in hf_shapes(self.shape).items():
            dtype = TARGETS.get(self.dtype) or record["other_dtypes"].get(name, record["dtype"])
            found[name] = TensorHeader(dtype, shape)
            if record["stacked_experts"] and ".mlp.experts." in name:
                height = shape[0] if "down_proj" in name else 2 * shape[0]
                found[stacked_name(name)] = TensorHeader(dtype, (self.shape.num_experts, height, *shape[1:]))
        for name, tensor in self.buffers.items():
            found[name] = TensorHeader(_NAMES[tensor.dtype], tuple(tensor.shape))
        return {HEAD: found[EMBEDDING], **found}

    @cached_property
    def buffers(self) -> dict[str, Tensor]:
        """Old rotary tables, which stand in a file of their own."""
        path = self.megatron / COMPANION_FOLDER / BUFFERS_FILE
        return load_file(path) if path.is_file() else {}

    def tensors_of(self, group: list[str], source: TorchDistFolder) -> Iterator[tuple[str, Tensor]]:
        """The tensors of one group, read and joined."""
        made: dict[str, Tensor] = {}
        for name in group:
            if name in self.buffers:
                tensor = self.buffers[name]
            elif name.endswith((STACKED_GATE_UP, STACKED_DOWN)):
                tensor = self._stacked(name, source)
            else:
                if name not in made:
                    made.update(read_row(self._rows.get(name) or self._rows[EMBEDDING], self.shape, source))
                tensor = made[name] if name in made else made[EMBEDDING]  # the repeated tied head
            yield name, tensor.to(DTYPES[self.headers[name].dtype])

    def _stacked(self, name: str, source: TorchDistFolder) -> Tensor:
        """All experts of a layer in one tensor."""
        header, prefix = self.headers[name], name.rsplit(".", 1)[0]
        whole = torch.empty(header.shape, dtype=DTYPES[header.dtype])
        kinds = ("gate_proj", "up_proj") if name.endswith(STACKED_GATE_UP) else ("down_proj",)
        for expert in range(self.shape.num_experts):
            names = [f"{prefix}.{expert}.{kind}.weight" for kind in kinds]
            found = read_row(self._rows[names[0]], self.shape, source)
            whole[expert] = torch.cat([found[part] for part in names])
        return whole

    def _write_index(self, folder: Path) -> None:
        if len(self.shards) == 1:
            return
        weight_map = {name: shard.name for shard in self.shards for name in shard.layout.headers}
        total = sum(bytes_of(self.headers[name]) for name in weight_map)
        atomic_write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})

    def _add_files(self, folder: Path) -> None:
        companions = self.megatron / COMPANION_FOLDER
        copy_companions(companions, folder)
        shutil.copyfile(companions / CARD, folder / CARD)
        if self.dtype != "keep":
            atomic_write_json(folder / "config.json", with_dtype(read_config(companions), self.dtype))


_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def stacked_name(name: str) -> str:
    """The tensor of all experts that holds the one of this name."""
    prefix, kind = name.split(".mlp.experts.")
    return prefix + (STACKED_DOWN if "down_proj" in kind else STACKED_GATE_UP)


def read_row(row: ParamMapping, shape: ModelShape, source: TorchDistFolder) -> dict[str, Tensor]:
    """The Hugging Face tensors of a row of the parameter table, from the parts of whatever layout wrote them."""
    place = place_of(row, shape)
    return row.to_hf([source.read(place.key, place.index)])


def shard_name(number: int, total: int) -> str:
    """File name of a shard, as transformers names it."""
    return "model.safetensors" if total == 1 else f"model-{number + 1:05d}-of-{total:05d}.safetensors"


def _write_stretch(job: ToHF, unit: Unit, folder: Path) -> Record:
    source = TorchDistFolder(job.megatron)
    shard = next(shard for shard in job.shards if unit.rows[0] in shard.groups)
    names = [name for group in unit.rows for name in job.groups[group]]
    writer = SafetensorsWriter(folder / shard.name, shard.layout, names)
    for group in unit.rows:
        for name, tensor in job.tensors_of(job.groups[group], source):
            writer.add(name, tensor)
    return {"stretches": {shard.name: dataclasses.asdict(writer.close())}}
