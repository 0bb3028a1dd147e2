"""Hugging Face model folder -> Megatron torch_dist checkpoint, tensor by tensor.

The checkpoint folder holds the weights as any Megatron layout loads them, in files cut for one layout; the files that
stood beside the weights (`hugging_face/`); and a manifest with checksums of all of it, so that `to_hf` can give
everything back. No model is built: a process holds one parameter at a time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from megatron_redone.checkpoint.hf_config import COMPANION_FOLDER
from megatron_redone.checkpoint.hf_folder import save_safetensors
from megatron_redone.checkpoint.manifest import manifest_of, publish_folder
from megatron_redone.checkpoint.torch_dist import Part, PartFile, write_metadata
from megatron_redone.common.errors import ConfigError
from megatron_redone.common.files import atomic_write_json, atomic_write_text, disk_full_reported
from megatron_redone.common.logging import get_logger
from megatron_redone.conversion.hf_model import DTYPES, HuggingFaceModel, check_tied_head, copy_companions, open_model
from megatron_redone.conversion.model_card import CARD, model_card
from megatron_redone.conversion.output import check_output
from megatron_redone.conversion.placement import num_parts, pieces, place_of, rank_of, stage_of, whole_shape
from megatron_redone.conversion.units import Record, Unit, close_work, open_work, run_units, units_of
from megatron_redone.models.families import param_mappings
from megatron_redone.parallel.config import ParallelConfig

KIND = "converted model"
Dtype = Literal["keep", "bf16", "fp32"]
BUFFERS_FILE = "buffers.safetensors"
UNIT_BYTES = 2**29
TARGETS = {"bf16": "BF16", "fp32": "F32"}
"""Data types to convert to, in the words of safetensors."""


@dataclass(frozen=True)
class ToMegatron:
    """A conversion: what goes where.

    Args:
        hf: Hugging Face model folder.
        out: the new checkpoint folder.
        layout: the layout that the files are cut for; any other loads them, too.
        dtype: data type of all weights; "keep" leaves each its own.
        layers: keep only these layers (first, one after the last), renumbered from 0: a smaller model for trials.
    """

    hf: Path
    out: Path
    layout: ParallelConfig = field(default_factory=ParallelConfig)
    dtype: Dtype = "keep"
    layers: tuple[int, int] | None = None

    def __getstate__(self) -> Record:
        """What goes to another process: the settings, not the files that are open here."""
        return {name: getattr(self, name) for name in ("hf", "out", "layout", "dtype", "layers")}

    @cached_property
    def source(self) -> HuggingFaceModel:
        """The opened folder."""
        return open_model(self.hf, self.layers)

    def check(self) -> None:
        """Everything that can be known to fail before a byte is written.

        Raises:
            CheckpointError: see `open_model`; and a tied head that is not tied. InputError: see `check_output`.
            ConfigError: an axis of the layout does not divide the model.
        """
        check_output(self.out)
        layout = self.layout
        ranks = layout.pp * math.lcm(layout.tp, layout.ep * layout.etp)
        problems = [*layout.problems(ranks), *self.source.shape.layout_problems(layout)]
        if problems:
            raise ConfigError(problems)
        check_tied_head(self.source)

    def run(self, processes: int = 1) -> HuggingFaceModel:
        """Writes the checkpoint, whole or not at all, and gives the model that was converted.

        Killed, it leaves its finished parts beside `out`; started again with equal arguments it checks and keeps them.

        Raises:
            What `check` does, and DiskFullError.
        """
        self.check()
        if not self.source.has_tokenizer:
            get_logger("convert").warning("%s: no tokenizer there; the checkpoint will have none either", self.hf)
        folder = self.out.with_name(f".{self.out.name}.partial")
        with disk_full_reported(self.out):
            open_work(folder, self._plan())
            records = run_units(self.units(), partial(_write_unit, self), folder, processes, "to-megatron")
            close_work(folder)
            write_metadata(folder, (Part.from_json(part) for record in records for part in record["parts"]))
            self._add_files(folder / COMPANION_FOLDER)
            hashes = {name: digest for record in records for name, digest in record["files"].items()}
            manifest = manifest_of(self._record(), {"source": self.source.fingerprint})
            publish_folder(folder, self.out, manifest, hashes)
        return self.source

    def units(self) -> list[Unit]:
        """The work in pieces of one pipeline stage each."""
        shape = self.source.shape
        rows = param_mappings(shape)
        sizes = [sum(self._bytes_of(name) for name in row.hf) if row.is_exported else 0 for row in rows]
        return units_of(sizes, UNIT_BYTES, lambda row: stage_of(rows[row], shape, self.layout))

    def _bytes_of(self, name: str) -> int:
        header = self.source.tensors.header(name)
        return math.prod(header.shape) * DTYPES[TARGETS.get(self.dtype, header.dtype)].itemsize

    def _plan(self) -> Record:
        return {
            "source": self.source.fingerprint,
            "layout": self.layout.model_dump(mode="json"),
            "dtype": self.dtype,
            "layers": self.layers,
            "unit_bytes": UNIT_BYTES,
        }

    def _record(self) -> Record:
        source, target = self.source, TARGETS.get(self.dtype)
        return {
            "kind": KIND,
            "layout": {name: getattr(self.layout, name) for name in ("tp", "pp", "vpp", "ep", "etp")},
            "dtype": target or source.dtype,
            "other_dtypes": {} if target else dict(source.other_dtypes),
            "layers": self.layers,
            "has_tied_head": source.has_tied_head,
            "stacked_experts": source.stacked_experts,
        }

    def _add_files(self, target: Path) -> None:
        copy_companions(self.hf, target)
        atomic_write_text(target / CARD, model_card(self.hf, self.source.shape))
        if self.layers is not None or self.dtype != "keep":
            atomic_write_json(target / "config.json", with_dtype(self.source.config, self.dtype))
        if self.source.buffers:
            save_safetensors({name: self.source.tensors[name] for name in self.source.buffers}, target / BUFFERS_FILE)


def with_dtype(config: Mapping[str, Any], dtype: Dtype) -> dict[str, Any]:
    """config.json of a model whose weights have this type."""
    if dtype == "keep":
        return dict(config)
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    return {**config, key: {"bf16": "bfloat16", "fp32": "float32"}[dtype]}


def _write_unit(job: ToMegatron, unit: Unit, folder: Path) -> Record:
    """The files of one unit: one for each rank that reads something of its rows."""
    source, shape, layout = job.source, job.source.shape, job.layout
    rows = param_mappings(shape)
    files: dict[int, PartFile] = {}
    for row in (rows[number] for number in unit.rows):
        if not row.is_exported:
            continue  # the copy of a tied embedding is made when a pipeline stage loads it
        place, size = place_of(row, shape), num_parts(row, layout)
        tensors = {name: source.tensors[name] for name in row.hf}
        if job.dtype != "keep":
            tensors = {name: tensor.to(DTYPES[TARGETS[job.dtype]]) for name, tensor in tensors.items()}
        for rank in range(size):
            part = row.to_megatron(tensors, rank, size)
            whole = (*place.sizes, *whole_shape(row, part, size))
            number = rank_of(row, rank, shape, layout)
            if number not in files:
                files[number] = PartFile(folder / f"__{number}_{unit.number}.distcp")
            for offset, piece in pieces(row, part, rank, size):
                ones = (1,) * len(place.index)
                files[number].add(place.key, whole, (*place.index, *offset), piece.reshape(*ones, *piece.shape))
    source.tensors.close()
    return {
        "files": {file.name: file.close() for file in files.values()},
        "parts": [dataclasses.asdict(part) for file in files.values() for part in file.parts],
    }
