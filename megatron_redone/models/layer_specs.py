"""The two layer specs: Megatron's local layers with our norm, and Transformer Engine's with the norm fused in.

Both take packed rows, our SwiGLU and our router. The rotary embedding is applied inside the attention core.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from megatron.core.models.gpt import gpt_layer_specs
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_config import TransformerConfig

from megatron_redone.models.attention import PackedAttention, PackedSequence, rotate
from megatron_redone.models.norm import RMSNorm
from megatron_redone.models.router import Router
from megatron_redone.models.swiglu import SwiGLU
from megatron_redone.parallel.gpu_config import TE, GPUConfig


def layer_spec(config: TransformerConfig, gpu: GPUConfig) -> ModuleSpec:
    """The spec of every layer of the model."""
    spec = _transformer_engine_spec(config, gpu) if gpu.layer_spec == TE else _local_spec(config)
    layer = spec.submodules
    if config.num_moe_experts:
        layer.mlp.submodules.router = Router
        layer.mlp.submodules.experts.submodules.activation_func = SwiGLU
    else:
        layer.mlp.submodules.activation_func = SwiGLU
    return spec


def final_norm(gpu: GPUConfig) -> type[torch.nn.Module]:
    """The norm after the last layer."""
    if gpu.layer_spec != TE:
        return RMSNorm
    norm: type[torch.nn.Module] = gpt_layer_specs.TESpecProvider().layer_norm(rms_norm=True)
    return norm


def _local_spec(config: TransformerConfig) -> ModuleSpec:
    with warnings.catch_warnings():  # Megatron warns that Apex is absent; its norm is not used
        warnings.simplefilter("ignore")
        spec = gpt_layer_specs.get_gpt_layer_local_spec(
            num_experts=config.num_moe_experts, qk_layernorm=config.qk_layernorm, normalization="RMSNorm"
        )
    layer = spec.submodules
    layer.input_layernorm = layer.pre_mlp_layernorm = RMSNorm
    attention = layer.self_attention.submodules
    attention.core_attention = PackedAttention
    if config.qk_layernorm:
        attention.q_layernorm = attention.k_layernorm = RMSNorm
    if config.num_moe_experts:
        # Transformer Engine fuses this norm into a dense layer's first matrix, not into a mixture's. Under the same
        # keys a checkpoint of either spec loads into the other.
        del layer.sharded_state_dict_keys_map["pre_mlp_layernorm."]
    return spec


def _transformer_engine_spec(config: TransformerConfig, gpu: GPUConfig) -> ModuleSpec:
    spec = gpt_layer_specs.get_gpt_layer_with_transformer_engine_spec(
        num_experts=config.num_moe_experts, moe_grouped_gemm=gpu.grouped_gemm, qk_layernorm=config.qk_layernorm
    )
    attention = spec.submodules.self_attention.submodules
    attention.core_attention = PackedAttention if gpu.attention == "torch" else _rotating(attention.core_attention)
    return spec


def _rotating(core: type[Any]) -> type[Any]:
    """Transformer Engine's core attention with our rotary embedding before it."""

    class RotaryCore(core):
        """Attention inside documents (thd); positions come with the packed row. Generation takes torch's core."""

        def __init__(self, config: TransformerConfig, layer_number: int, *arguments: Any, **options: Any) -> None:
            super().__init__(config, layer_number, *arguments, **options)
            self._cached = PackedAttention(config, layer_number, softmax_scale=options.get("softmax_scale"))

        def forward(
            self,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            attention_mask: torch.Tensor | None = None,
            attn_mask_type: Any = None,
            attention_bias: torch.Tensor | None = None,
            packed_seq_params: PackedSequence | None = None,
            **options: Any,
        ) -> torch.Tensor:
            """Output [T, H * D] of query [T, H, D] over key and value [T, K, D]."""
            packed = packed_seq_params
            assert packed is not None and packed.cos_T1D is not None and packed.sin_T1D is not None
            if packed.cache is not None:
                return self._cached(query, key, value, packed_seq_params=packed)  # type: ignore[no-any-return]
            query, key = (rotate(x, packed.cos_T1D, packed.sin_T1D) for x in (query, key))
            out: torch.Tensor = super().forward(
                query, key, value, attention_mask, attn_mask_type, attention_bias, packed, **options
            )
            return out

    return RotaryCore
