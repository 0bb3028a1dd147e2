"""What a folder of weights is: a Hugging Face model, a converted one, or a checkpoint of training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from megatron_redone.checkpoint.hf_config import COMPANION_FOLDER
from megatron_redone.checkpoint.manifest import MANIFEST, verified_manifest
from megatron_redone.checkpoint.torch_dist import TorchDistFolder
from megatron_redone.common.errors import CheckpointError
from megatron_redone.common.files import sha256_file
from megatron_redone.conversion.hf_model import open_model
from megatron_redone.conversion.to_megatron import KIND
from megatron_redone.models.families import read_shape

OPTIMIZER = "optimizer."


def inspect_folder(folder: Path) -> dict[str, Any]:
    """A description by name of either kind of folder; every file of a Megatron checkpoint is checked on the way.

    Raises:
        CheckpointError: neither kind, or a damaged one.
    """
    if (folder / MANIFEST).is_file():
        return _megatron(folder)
    if (folder / "config.json").is_file():
        return _hugging_face(folder)
    what = "no such folder" if not folder.is_dir() else f"neither config.json nor {MANIFEST} in it"
    raise CheckpointError(f"{folder}: {what}; give a Hugging Face model folder or a checkpoint folder")


def _hugging_face(folder: Path) -> dict[str, Any]:
    model = open_model(folder)
    return {
        "kind": "Hugging Face model",
        "family": model.shape.family,
        "parameters": model.shape.num_parameters(),
        "active parameters": model.shape.num_parameters(active=True),
        "layers": model.shape.num_layers,
        "dtype": model.dtype,
        "tensors": len(model.tensors),
        "shards": len(model.tensors.files()),
        "bytes": sum(path.stat().st_size for path in model.tensors.files()),
        "tied head": model.shape.tie_embeddings,
        "stacked experts": model.stacked_experts,
        "tokenizer": model.has_tokenizer,
        "fingerprint": model.fingerprint,
    }


def _megatron(folder: Path) -> dict[str, Any]:
    manifest = verified_manifest(folder)
    parts = TorchDistFolder(folder).parts
    extra = manifest["extra"]
    weights = {key: found for key, found in parts.items() if not key.startswith(OPTIMIZER)}
    described: dict[str, Any] = {
        "kind": extra.get("kind", "checkpoint of training"),
        "format version": manifest["format_version"],
        "files": len({part.file for found in parts.values() for part in found}),
        "bytes": sum(part.length for found in parts.values() for part in found),
        "dtype": ", ".join(sorted({part.dtype for found in weights.values() for part in found})),
    }
    if extra.get("kind") == KIND:
        shape = read_shape(folder / COMPANION_FOLDER)
        described |= {
            "family": shape.family,
            "parameters": shape.num_parameters(),
            "layers": shape.num_layers,
            "layout of the files": " ".join(f"{name}={size}" for name, size in extra["layout"].items()),
        }
    else:
        described |= {
            "step": extra.get("step"),
            "parameters": sum(math.prod(found[0].global_shape) for found in weights.values()),
            "optimizer": any(key.startswith(OPTIMIZER) for key in parts),
        }
    of = {f"fingerprint of {name}": value for name, value in sorted(manifest["fingerprints"].items())}
    return described | of | {"fingerprint": sha256_file(folder / MANIFEST)}
