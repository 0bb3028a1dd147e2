"""The certificate of a conversion: every tensor accounted for, every byte the same.

Both folders are read from disk, independently of the conversion that made one from the other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_redone.checkpoint.hf_config import COMPANION_FOLDER
from megatron_redone.checkpoint.torch_dist import TorchDistFolder
from megatron_redone.common.errors import CheckpointError
from megatron_redone.conversion.hf_model import DTYPES, HEAD, HuggingFaceModel, open_model
from megatron_redone.conversion.placement import place_of
from megatron_redone.conversion.to_hf import ToHF, read_row
from megatron_redone.conversion.to_megatron import BUFFERS_FILE
from megatron_redone.conversion.units import Record, Unit, each_done, units_of
from megatron_redone.models.families import param_mappings

UNIT_BYTES = 2**29
Problems = list[str]


@dataclass(frozen=True)
class Verification:
    """Compares a Hugging Face folder with the Megatron checkpoint that was made of it."""

    hf: Path
    megatron: Path

    def __getstate__(self) -> Record:
        """What goes to another process: not the files that are open here."""
        return {"hf": self.hf, "megatron": self.megatron, "back": self.back}

    @cached_property
    def back(self) -> ToHF:
        """The conversion back, which knows names and types; it checks the checksums of all files once.

        Raises:
            CheckpointError: no converted model, or a file of it is missing or damaged.
        """
        return ToHF(self.megatron, self.megatron)

    @property
    def record(self) -> Record:
        """What the checkpoint's manifest says of its conversion."""
        record: Record = self.back.manifest["extra"]
        return record

    @property
    def layers(self) -> tuple[int, int] | None:
        """The layers that were converted, where not all were."""
        layers = self.record["layers"]
        return (int(layers[0]), int(layers[1])) if layers else None

    @cached_property
    def source(self) -> HuggingFaceModel:
        """The opened Hugging Face folder."""
        return open_model(self.hf, self.layers)

    def certificate(self, processes: int = 1) -> dict[str, Any]:
        """Compares all tensors; `passed` says whether nothing was found, `problems` what was."""
        problems = self._unaccounted()
        rows = param_mappings(self.source.shape)
        sizes = [self._bytes_of(row.hf) if row.is_exported else 0 for row in rows]
        units = units_of(sizes, UNIT_BYTES, lambda row: 0)
        found: dict[int, Record] = {}
        compare = partial(_compare_unit, self)
        for unit, record in each_done(units, compare, self.megatron, processes, "verify", sum(sizes)):
            found[unit.number] = record
        tensors, others = self._beside_the_table()
        in_order = [found[number] for number in sorted(found)]
        problems += [problem for record in in_order for problem in record["problems"]] + others
        return {
            "passed": not problems,
            "problems": problems,
            "hugging_face": {"fingerprint": self.source.fingerprint, "tensors": len(self.source.tensors)},
            "megatron": {"layout": self.record["layout"], "dtype": self.record["dtype"], "layers": self.layers},
            "tensors": [*(tensor for record in in_order for tensor in record["tensors"]), *tensors],
        }

    def _bytes_of(self, names: tuple[str, ...]) -> int:
        headers = [self.source.tensors.header(name) for name in names]
        return sum(math.prod(header.shape) * DTYPES[header.dtype].itemsize for header in headers)

    def _unaccounted(self) -> Problems:
        """Keys of one side that the other has nothing for, and tensors whose parts overlap or leave a gap."""
        folder, shape = TorchDistFolder(self.megatron), self.source.shape
        rows = [row for row in param_mappings(shape) if row.is_exported]
        expected = {place_of(row, shape).key for row in rows}
        problems = [f"{key}: in the checkpoint, and of no tensor" for key in sorted(folder.parts.keys() - expected)]
        problems += [f"{key}: not in the checkpoint" for key in sorted(expected - folder.parts.keys())]
        for key in sorted(expected & folder.parts.keys()):
            problems += folder.problems(key)
        places: dict[str, int] = {}
        for name in (name for row in rows for name in row.hf):
            places[name] = places.get(name, 0) + 1
        return problems + [f"{name}: goes to {count} places" for name, count in places.items() if count != 1]

    def _beside_the_table(self) -> tuple[list[Record], Problems]:
        """Tensors that Megatron has no place for: the repeated tied head, and old rotary tables kept in a file."""
        tensors, problems = [], []
        where = f"{COMPANION_FOLDER}/{BUFFERS_FILE}"
        for name in self.source.buffers:
            tensor, kept = self.source.tensors[name], self.back.buffers.get(name)
            tensors.append(_entry(name, tensor, where))
            if kept is None or _digest(kept) != _digest(tensor):
                problems.append(f"{name}: differs from the one in {where}, or is not there")
        if self.source.has_tied_head:
            tensors.append(_entry(HEAD, self.source.tensors[HEAD], "embedding.word_embeddings.weight"))
            if not self.record["has_tied_head"]:
                problems.append(f"{HEAD}: the folder repeats the tied embedding, and the checkpoint does not know it")
        return tensors, problems


def _compare_unit(job: Verification, unit: Unit, folder: Path) -> Record:
    """Every tensor of some rows: read from both sides, hashed, compared."""
    source, shape, parts = job.source, job.source.shape, TorchDistFolder(folder)
    rows = param_mappings(shape)
    tensors: list[Record] = []
    problems: Problems = []
    for row in (rows[number] for number in unit.rows if rows[number].is_exported):
        place = place_of(row, shape)
        files = sorted({part.file for part in parts.parts_at(place.key, place.index)})
        where = f"{place.key}{list(place.index) or ''} in {', '.join(files)}"
        try:
            found = read_row(row, shape, parts)
        except CheckpointError as error:
            problems += [f"{name}: {error}" for name in row.hf]
            continue
        for name in row.hf:
            dtype = DTYPES[job.back.headers[name].dtype]
            original = source.tensors[name].to(dtype)
            tensors.append(_entry(name, original, where))
            problems += _differences(name, original, found[name].to(dtype))
    source.tensors.close()
    return {"tensors": tensors, "problems": problems}


def _differences(name: str, original: Tensor, found: Tensor) -> Problems:
    if found.shape != original.shape:
        return [f"{name}: {tuple(found.shape)} in the checkpoint, {tuple(original.shape)} in the folder"]
    if _digest(found) == _digest(original):
        return []
    different = int((_bytes(found) != _bytes(original)).sum())
    return [f"{name}: {different} of {found.nbytes} bytes differ"]


def _entry(name: str, tensor: Tensor, where: str) -> Record:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "dtype": dtype, "shape": list(tensor.shape), "sha256": _digest(tensor), "megatron": where}


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(_bytes(tensor).numpy().data).hexdigest()


def summary(certificate: Mapping[str, Any]) -> str:
    """The certificate in a sentence."""
    if certificate["passed"]:
        return f"passed: {len(certificate['tensors'])} tensors, every byte the same, none left over"
    problems = certificate["problems"]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"FAILED: {'; '.join(problems[:3])}{more}"
