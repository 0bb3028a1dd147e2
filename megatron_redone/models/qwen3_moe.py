"""Qwen3 mixture of experts: Qwen3 attention, experts in every layer, softmax router with renormalised top-k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.checkpoint.mapping import GatedMLP, ParamMapping, Plain
from megatron_redone.models.config import ModelShape
from megatron_redone.models.decoder import (
    attention_rows,
    common_config,
    common_fields,
    embedding_rows,
    head_rows,
    refuse,
)


def read_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of a Qwen3MoeForCausalLM config.json."""
    refuse(config, "attention_bias", False)
    refuse(config, "decoder_sparse_step", 1)
    refuse(config, "mlp_only_layers", [])
    refuse(config, "norm_topk_prob", True)
    return ModelShape(
        family="qwen3_moe",
        **common_fields(config),
        num_experts=int(config.get("num_experts") or config["num_local_experts"]),
        experts_per_token=int(config["num_experts_per_tok"]),
        moe_ffn_hidden_size=int(config["moe_intermediate_size"]),
        router_aux_loss_coefficient=float(config.get("router_aux_loss_coef", 0.0)),
    )


def write_config(shape: ModelShape) -> dict[str, Any]:
    """The family's part of config.json."""
    return {
        **common_config(shape, "qwen3_moe"),
        "attention_bias": False,
        "use_sliding_window": False,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "num_experts": shape.num_experts,
        "num_experts_per_tok": shape.experts_per_token,
        "moe_intermediate_size": shape.moe_ffn_hidden_size,
        "router_aux_loss_coef": shape.router_aux_loss_coefficient,
    }


def param_mappings(shape: ModelShape) -> list[ParamMapping]:
    """The whole table; experts by number, in Megatron's one-module-an-expert layout."""
    rows = embedding_rows(shape)
    for layer in range(shape.num_layers):
        rows += attention_rows(shape, layer) + _moe_rows(shape, layer)
    return rows + head_rows(shape)


def _moe_rows(shape: ModelShape, layer: int) -> list[ParamMapping]:
    megatron, hf = f"decoder.layers.{layer}", f"model.layers.{layer}"
    rows: list[ParamMapping] = [
        Plain(f"{megatron}.pre_mlp_layernorm.weight", f"{hf}.post_attention_layernorm.weight"),
        Plain(f"{megatron}.mlp.router.weight", f"{hf}.mlp.gate.weight"),
    ]
    for expert in range(shape.num_experts):
        target, source = f"{megatron}.mlp.experts.local_experts.{expert}", f"{hf}.mlp.experts.{expert}"
        rows += [
            GatedMLP(
                f"{target}.linear_fc1.weight",
                f"{source}.gate_proj.weight",
                f"{source}.up_proj.weight",
                expert=expert,
            ),
            Plain(f"{target}.linear_fc2.weight", f"{source}.down_proj.weight", split_dim=1, expert=expert),
        ]
    return rows
