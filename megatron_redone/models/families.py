"""The families by name, and config.json <-> ModelShape. One plain dict; each family's file holds its facts.

Imports no torch: the dry run reads the shape of a model folder with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.checkpoint.hf_config import companion_folder, read_config
from megatron_redone.checkpoint.mapping import ParamMapping
from megatron_redone.common.errors import CheckpointError
from megatron_redone.models import llama, qwen2_5, qwen3, qwen3_moe
from megatron_redone.models.config import ModelShape


@dataclass(frozen=True)
class Family:
    """What distinguishes a family: its Hugging Face architecture, its configuration, its parameter table."""

    architecture: str
    read_config: Callable[[Mapping[str, Any]], ModelShape]
    write_config: Callable[[ModelShape], dict[str, Any]]
    param_mappings: Callable[[ModelShape], list[ParamMapping]]


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", llama.read_config, llama.write_config, llama.param_mappings),
    "qwen2_5": Family("Qwen2ForCausalLM", qwen2_5.read_config, qwen2_5.write_config, qwen2_5.param_mappings),
    "qwen3": Family("Qwen3ForCausalLM", qwen3.read_config, qwen3.write_config, qwen3.param_mappings),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", qwen3_moe.read_config, qwen3_moe.write_config, qwen3_moe.param_mappings),
}


def shape_from_hf(config: Mapping[str, Any], source: str) -> ModelShape:
    """The shape that a config.json describes.

    Raises:
        CheckpointError: an architecture we have no table for, a missing field, or a setting that we cannot represent.
    """
    architectures = config.get("architectures") or []
    for family in FAMILIES.values():
        if family.architecture in architectures:
            try:
                return family.read_config(config)
            except KeyError as error:
                raise CheckpointError(f"{source}: config.json lacks {error}; take the model's original file") from error
            except (TypeError, ValueError) as error:  # a field of the wrong type, or a value that is not supported
                raise CheckpointError(f"{source}: config.json: {error}") from error
    known = ", ".join(family.architecture for family in FAMILIES.values())
    raise CheckpointError(f"{source}: architectures={architectures} is not supported; known: {known}")


def read_shape(folder: Path) -> ModelShape:
    """The shape of a Hugging Face model folder, or of a checkpoint converted from one.

    Raises:
        CheckpointError: no readable config.json, or a model that we cannot represent.
    """
    return shape_from_hf(read_config(companion_folder(folder)), str(folder))


def shape_to_hf(shape: ModelShape, dtype: str) -> dict[str, Any]:
    """The config.json of a shape, as transformers reads it."""
    family = FAMILIES[shape.family]
    return {**family.write_config(shape), "architectures": [family.architecture], "dtype": dtype}


def param_mappings(shape: ModelShape) -> list[ParamMapping]:
    """Every parameter of the whole Megatron model and the Hugging Face tensors it is made of, in model order."""
    return FAMILIES[shape.family].param_mappings(shape)
