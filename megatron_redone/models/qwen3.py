"""Qwen3 dense: RMSNorm on every query and key head, no biases, head dim independent of the hidden size."""

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
    """The shape of a Qwen3ForCausalLM config.json."""
    refuse(config, "attention_bias", False)
    return ModelShape(family="qwen3", **common_fields(config))


def write_config(shape: ModelShape) -> dict[str, Any]:
    """The family's part of config.json."""
    return {**common_config(shape, "qwen3"), "attention_bias": False, "use_sliding_window": False}
