"""Llama: Llama 2 and 3 shapes, SmolLM2. No biases, no q/k norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.models.config import ModelShape
from megatron_redone.models.decoder import (
    common_config,
    common_fields,
    dense_param_mappings as param_mappings,
    refuse,
)

__all__ = ["param_mappings", "read_config", "write_config"]


def read_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of a LlamaForCausalLM config.json."""
    refuse(config, "attention_bias", False)
    return ModelShape(family="llama", **common_fields(config))


def write_config(shape: ModelShape) -> dict[str, Any]:
    """The family's part of config.json."""
    return {**common_config(shape, "llama"), "attention_bias": False, "mlp_bias": False}
