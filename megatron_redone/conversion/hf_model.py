"""A Hugging Face model folder as a whole, checked by its headers before any weight is read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megatron_redone.checkpoint.hf_config import read_config
from megatron_redone.checkpoint.hf_folder import SafetensorsFolder
from megatron_redone.common.errors import CheckpointError, InputError
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import shape_from_hf
from megatron_redone.models.weights import check_names, hf_shapes

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Data types by safetensors' names; each fits into fp32 without loss."""

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""Files of which every kind of tokenizer has at least one."""
COMPANIONS = (
    *TOKENIZERS,
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
)
"""What stands beside the weights and is copied as it is."""
TEMPLATE_FOLDER = "additional_chat_templates"

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class HuggingFaceModel:
    """A folder whose tensors are those of its config.json, in data types that we can carry."""

    folder: Path
    config: Mapping[str, Any]
    """config.json, with the number of layers that are converted."""
    shape: ModelShape
    tensors: SafetensorsFolder
    dtype: str
    """Data type of most tensors, in the words of safetensors."""
    other_dtypes: Mapping[str, str]
    """The tensors of another type."""
    buffers: tuple[str, ...]
    """Tensors that Megatron has no place for (rotary tables of old checkpoints)."""
    has_tied_head: bool
    """Whether the file repeats a tied embedding as its output layer."""

    @property
    def stacked_experts(self) -> bool:
        """Whether the experts of a layer lie in one tensor."""
        return self.tensors.stacked_experts

    @property
    def fingerprint(self) -> str:
        """SHA-256 of config.json and of names, types, shapes and file sizes; the data are not read."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name in sorted(self.tensors):
            digest.update(f"{name} {self.tensors.header(name)}\n".encode())
        for path in self.tensors.files():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer came with the model."""
        return any((self.folder / name).is_file() for name in TOKENIZERS)


def open_model(folder: Path, layers: tuple[int, int] | None = None) -> HuggingFaceModel:
    """Reads config.json and the headers of the shards.

    Args:
        layers: take only these layers (first, one after the last), renumbered from 0.
    Raises:
        InputError: layers that the model does not have.
        CheckpointError: not a model folder, an architecture that we have no table for, a damaged shard, tensors
            that are missing, unknown, of a wrong shape or of a data type that we cannot carry.
    """
    config = read_config(folder)
    if layers is not None:
        config = _with_layers(config, *layers)
    shape = shape_from_hf(config, str(folder))
    tensors = SafetensorsFolder(folder, layers)
    check_names(shape, tensors, str(folder))
    dtypes = _checked_dtypes(tensors, hf_shapes(shape), str(folder))
    dtype = Counter(dtypes.values()).most_common(1)[0][0]
    return HuggingFaceModel(
        folder=folder,
        config=config,
        shape=shape,
        tensors=tensors,
        dtype=dtype,
        other_dtypes={name: other for name, other in sorted(dtypes.items()) if other != dtype},
        buffers=tuple(sorted(name for name in tensors if name.endswith("rotary_emb.inv_freq"))),
        has_tied_head=shape.tie_embeddings and HEAD in tensors,
    )


def _with_layers(config: Mapping[str, Any], first: int, end: int) -> dict[str, Any]:
    total = config.get("num_hidden_layers")
    if not isinstance(total, int) or not 0 <= first < end <= total:
        raise InputError(f"--layers {first}:{end}: the model has layers 0:{total}; give a range inside")
    return {**config, "num_hidden_layers": end - first}


def _checked_dtypes(tensors: SafetensorsFolder, shapes: Mapping[str, tuple[int, ...]], source: str) -> dict[str, str]:
    """The data type of every tensor of the model."""
    problems, dtypes = [], {}
    for name, expected in shapes.items():
        header = tensors.header(name)
        dtypes[name] = header.dtype
        if header.shape != expected:
            problems.append(f"{name} has shape {list(header.shape)}, config.json makes it {list(expected)}")
        if header.dtype not in DTYPES:
            problems.append(f"{name} is {header.dtype}, known are {', '.join(DTYPES)}")
    if problems:
        shown = "; ".join(problems[:3]) + ("; ..." if len(problems) > 3 else "")
        raise CheckpointError(
            f"{source}: {len(problems)} of {len(shapes)} tensors do not fit ({shown}); weights and config.json "
            "do not belong together, or the model is quantised: take the original files"
        )
    return dtypes


def check_tied_head(model: HuggingFaceModel) -> None:
    """Raises CheckpointError when an output layer that config.json calls tied differs from the embedding."""
    if model.has_tied_head and not _same_bits(model.tensors[HEAD], model.tensors[EMBEDDING]):
        raise CheckpointError(
            f"{model.folder}: config.json says tie_word_embeddings, yet {HEAD} differs from {EMBEDDING}; "
            "set it to false if the model has an output layer of its own, else remove the tensor"
        )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def copy_companions(source: Path, target: Path) -> None:
    """Copies config, tokenizer and template files, byte for byte, as far as `source` has them."""
    target.mkdir(exist_ok=True)
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / TEMPLATE_FOLDER).is_dir():
        shutil.copytree(source / TEMPLATE_FOLDER, target / TEMPLATE_FOLDER)
