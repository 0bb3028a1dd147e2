"""What the four families share: the common fields of config.json and the common rows of the parameter table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megatron_redone.checkpoint.mapping import QKV, GatedMLP, PaddedVocabulary, ParamMapping, Plain, TiedHead
from megatron_redone.models.config import ModelShape


def common_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The ModelShape fields that every family's config.json names alike.

    Raises:
        KeyError: a field without a default is missing.
        ValueError: a setting that the model code does not represent.
    """
    refuse(config, "hidden_act", "silu")
    refuse(config, "use_sliding_window", False)
    refuse(config, "mlp_bias", False)
    rope = dict(config.get("rope_parameters") or {})
    scaling = config.get("rope_scaling") or (rope if rope.get("rope_type", "default") != "default" else None)
    if scaling and scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise ValueError(f"rope_scaling={scaling} is not supported; use a checkpoint without rope scaling")
    heads = int(config["num_attention_heads"])
    return {
        "num_layers": int(config["num_hidden_layers"]),
        "hidden_size": int(config["hidden_size"]),
        "ffn_hidden_size": int(config["intermediate_size"]),
        "num_heads": heads,
        "num_kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or int(config["hidden_size"]) // heads),
        "vocab_size": int(config["vocab_size"]),
        "rope_theta": float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        "norm_epsilon": float(config["rms_norm_eps"]),
        "tie_embeddings": bool(config.get("tie_word_embeddings", False)),
        "max_positions": int(config.get("max_position_embeddings", 32_768)),
    }


def refuse(config: Mapping[str, Any], name: str, only: object) -> None:
    """Raises ValueError unless the field is absent, None or `only`."""
    value = config.get(name)
    if value is not None and value != only:
        raise ValueError(f"{name}={value!r} is not supported; only {only!r} is")


def common_config(shape: ModelShape, model_type: str) -> dict[str, Any]:
    """The fields of config.json that every family writes alike."""
    return {
        "model_type": model_type,
        "hidden_act": "silu",
        "num_hidden_layers": shape.num_layers,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_hidden_size,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_epsilon,
        "tie_word_embeddings": shape.tie_embeddings,
        "max_position_embeddings": shape.max_positions,
        "initializer_range": 0.02,
        "attention_dropout": 0.0,
        "use_cache": True,
    }


def embedding_rows(shape: ModelShape) -> list[ParamMapping]:
    """The token embedding."""
    return [PaddedVocabulary("embedding.word_embeddings.weight", "model.embed_tokens.weight", shape.vocab_size)]


def attention_rows(shape: ModelShape, layer: int) -> list[ParamMapping]:
    """Norm, projections and q/k norm of one attention block."""
    megatron, hf = f"decoder.layers.{layer}", f"model.layers.{layer}"
    rows: list[ParamMapping] = [
        Plain(f"{megatron}.input_layernorm.weight", f"{hf}.input_layernorm.weight"),
        Plain(f"{megatron}.self_attention.linear_proj.weight", f"{hf}.self_attn.o_proj.weight", split_dim=1),
    ]
    for kind in ("weight", "bias") if shape.qkv_bias else ("weight",):
        rows.append(
            QKV(
                f"{megatron}.self_attention.linear_qkv.{kind}",
                query=f"{hf}.self_attn.q_proj.{kind}",
                key=f"{hf}.self_attn.k_proj.{kind}",
                value=f"{hf}.self_attn.v_proj.{kind}",
                num_heads=shape.num_heads,
                num_kv_heads=shape.num_kv_heads,
                head_dim=shape.head_dim,
            )
        )
    if shape.qk_norm:
        rows += [
            Plain(f"{megatron}.self_attention.{part}_layernorm.weight", f"{hf}.self_attn.{part}_norm.weight")
            for part in "qk"
        ]
    return rows


def dense_mlp_rows(layer: int) -> list[ParamMapping]:
    """Norm and gated MLP of one dense layer."""
    megatron, hf = f"decoder.layers.{layer}", f"model.layers.{layer}"
    return [
        Plain(f"{megatron}.pre_mlp_layernorm.weight", f"{hf}.post_attention_layernorm.weight"),
        GatedMLP(f"{megatron}.mlp.linear_fc1.weight", f"{hf}.mlp.gate_proj.weight", f"{hf}.mlp.up_proj.weight"),
        Plain(f"{megatron}.mlp.linear_fc2.weight", f"{hf}.mlp.down_proj.weight", split_dim=1),
    ]


def head_rows(shape: ModelShape) -> list[ParamMapping]:
    """Final norm and output layer (of a tied model: the copy on the last pipeline stage)."""
    norm = Plain("decoder.final_layernorm.weight", "model.norm.weight")
    if shape.tie_embeddings:
        return [norm, TiedHead("output_layer.weight", "model.embed_tokens.weight", shape.vocab_size)]
    return [norm, PaddedVocabulary("output_layer.weight", "lm_head.weight", shape.vocab_size)]


def dense_param_mappings(shape: ModelShape) -> list[ParamMapping]:
    """The whole table of a dense model."""
    rows = embedding_rows(shape)
    for layer in range(shape.num_layers):
        rows += attention_rows(shape, layer) + dense_mlp_rows(layer)
    return rows + head_rows(shape)
