"""Qwen2.5: biases on query, key and value; the small models tie their head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.models.config import ModelShape
from megatron_redone.models.decoder import (
    common_config,
    common_fields,
    dense_param_mappings as param_mappings,
)

__all__ = ["param_mappings", "read_config", "write_config"]


def read_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of a Qwen2ForCausalLM config.json."""
    return ModelShape(family="qwen2_5", **common_fields(config))


def write_config(shape: ModelShape) -> dict[str, Any]:
    """The family's part of config.json."""
    return {**common_config(shape, "qwen2"), "use_sliding_window": False}
