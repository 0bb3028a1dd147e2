"""A model of ours as `model_config.yaml` of a NeMo checkpoint: the settings from which its MegatronGPTModel builds it.

NeMo reads these names and, beyond them, every field of Megatron-core's TransformerConfig by its own name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig

TARGET = "nemo.collections.nlp.models.language_modeling.megatron_gpt_model.MegatronGPTModel"
TOKENIZER = "tokenizer"
"""Folder of the tokenizer beside the checkpoint."""


def model_problems(shape: ModelShape, parallel: ParallelConfig) -> Iterator[str]:
    """What of the model NeMo cannot build; nothing where it can all."""
    if shape.qk_norm:
        yield (
            f"model family {shape.family!r}: NeMo's layer specification (`get_specs`) builds no norm on queries and "
            "keys, so the container would compute another function; export a llama or qwen2_5 model"
        )
    if shape.vocab_size % parallel.tp:
        yield (
            f"parallel.tp={parallel.tp} does not divide the model's vocabulary of {shape.vocab_size}, and rows that "
            "NeMo pads it with would have logits of their own; choose a divisor"
        )
    yield from shape.layout_problems(parallel)


def model_config(shape: ModelShape, parallel: ParallelConfig, mount: str, max_length: int, seed: int) -> dict[str, Any]:
    """The settings of the model.

    Args:
        mount: where the exported folder stands inside the container.
        max_length: tokens of the longest sequence; rotary positions have no table, so longer ones work as well.
    """
    return {
        "target": TARGET,
        "mcore_gpt": True,
        "transformer_engine": True,
        "encoder_seq_length": max_length,
        "max_position_embeddings": shape.max_positions,
        "num_layers": shape.num_layers,
        "hidden_size": shape.hidden_size,
        "ffn_hidden_size": shape.ffn_hidden_size,
        "num_attention_heads": shape.num_heads,
        "num_query_groups": shape.num_kv_heads,
        "kv_channels": shape.head_dim,
        "init_method_std": 0.02,
        "use_scaled_init_method": True,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "ffn_dropout": 0.0,
        "apply_query_key_layer_scaling": False,
        "normalization": "rmsnorm",
        "layernorm_epsilon": shape.norm_epsilon,
        "do_layer_norm_weight_decay": False,
        "pre_process": True,
        "post_process": True,
        "persist_layer_norm": True,
        "bias": False,
        "qkv_bias": shape.qkv_bias,
        "activation": "fast-swiglu",
        "headscale": False,
        "transformer_block_type": "pre_ln",
        "openai_gelu": False,
        "normalize_attention_scores": True,
        "position_embedding_type": "rope",
        "rotary_percentage": 1.0,
        "rotary_base": shape.rope_theta,
        "attention_type": "multihead",
        "share_embeddings_and_output_weights": shape.tie_embeddings,
        "override_vocab_size": shape.vocab_size,
        "make_vocab_size_divisible_by": 1,
        "tokenizer": {"library": "huggingface", "type": f"{mount}/{TOKENIZER}", "use_fast": True},
        "fp32_residual_connection": False,
        "fp16_lm_cross_entropy": False,
        "gradient_accumulation_fusion": False,
        "bias_activation_fusion": False,
        "bias_dropout_add_fusion": False,
        "masked_softmax_fusion": True,
        "apply_rope_fusion": False,
        "seed": seed,
        "use_cpu_initialization": False,
        "fp8": False,
        "sync_batch_comm": False,
        "gradient_as_bucket_view": True,
        "data": {},
        **_recompute(parallel),
    }


def _recompute(parallel: ParallelConfig) -> dict[str, Any]:
    method = {"full": "uniform"}.get(parallel.recompute)
    return {
        "activations_checkpoint_granularity": None if parallel.recompute == "none" else parallel.recompute,
        "activations_checkpoint_method": method,
        "activations_checkpoint_num_layers": 1 if method else None,
    }
