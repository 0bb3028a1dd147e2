"""From a shape to Megatron model chunks: one TransformerConfig, one layer spec, for every family.

The local layer spec runs on CPU and on a bare CUDA image: Megatron's parallel linear layers with our norm and
attention core. Rotary embedding is applied inside the attention core, so Megatron's own is off.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.tensor_parallel.layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    set_tensor_model_parallel_attributes,
)
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from megatron_redone.common.errors import ConfigError
from megatron_redone.models.attention import PackedAttention, PackedSequence, pack_sequence
from megatron_redone.models.config import ModelShape
from megatron_redone.models.norm import RMSNorm
from megatron_redone.parallel.context import ParallelContext

MASKED_LOGIT = -1e30
"""Logit of vocabulary rows that only pad the table; finite, so that 0 * logit stays 0."""


def transformer_config(shape: ModelShape, context: ParallelContext) -> TransformerConfig:
    """Megatron's configuration of this model under this layout (the one place that makes one).

    `calculate_per_token_loss` tells Megatron to sum gradients over micro-batches and replicas; the engine has
    divided the loss already.
    """
    parallel = context.config
    moe: dict[str, Any] = {}
    if shape.is_moe:
        moe = {
            "num_moe_experts": shape.num_experts,
            "moe_router_topk": shape.experts_per_token,
            "moe_ffn_hidden_size": shape.moe_ffn_hidden_size,
            "moe_router_load_balancing_type": "aux_loss" if shape.router_aux_loss_coefficient else "none",
            "moe_aux_loss_coeff": shape.router_aux_loss_coefficient,
            "moe_router_pre_softmax": False,  # softmax over the chosen experts: Qwen3's renormalised top-k
            "moe_router_dtype": "fp32",
        }
    return TransformerConfig(
        num_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        ffn_hidden_size=shape.ffn_hidden_size,
        num_attention_heads=shape.num_heads,
        num_query_groups=shape.num_kv_heads,
        kv_channels=shape.head_dim,
        normalization="RMSNorm",
        layernorm_epsilon=shape.norm_epsilon,
        gated_linear_unit=True,
        activation_func=F.silu,
        add_bias_linear=False,
        add_qkv_bias=shape.qkv_bias,
        qk_layernorm=shape.qk_norm,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        use_cpu_initialization=context.device.type == "cpu",
        perform_initialization=False,
        params_dtype=context.dtype,
        pipeline_dtype=context.dtype,
        bf16=context.dtype == torch.bfloat16,
        tensor_model_parallel_size=parallel.tp,
        pipeline_model_parallel_size=parallel.pp,
        expert_model_parallel_size=parallel.ep,
        expert_tensor_parallel_size=parallel.etp,
        sequence_parallel=uses_sequence_parallel(shape, context),
        variable_seq_lengths=True,  # packed micro-batches differ in length
        moe_token_dispatcher_type="alltoall",  # the only one that takes them
        calculate_per_token_loss=True,
        deallocate_pipeline_outputs=False,
        **moe,
    )


def uses_sequence_parallel(shape: ModelShape, context: ParallelContext) -> bool:
    """The setting, or by default: on for an MoE model under tensor parallelism, which Megatron-core demands."""
    wanted = context.config.sequence_parallel
    return (shape.is_moe if wanted is None else wanted) and context.tp.size > 1


def _layer_spec(config: TransformerConfig) -> ModuleSpec:
    with warnings.catch_warnings():  # Megatron warns that Apex is absent; its norm is not used
        warnings.simplefilter("ignore")
        spec = get_gpt_layer_local_spec(
            num_experts=config.num_moe_experts, qk_layernorm=config.qk_layernorm, normalization="RMSNorm"
        )
    layer = spec.submodules
    layer.input_layernorm = layer.pre_mlp_layernorm = RMSNorm
    attention = layer.self_attention.submodules
    attention.core_attention = PackedAttention
    if config.qk_layernorm:
        attention.q_layernorm = attention.k_layernorm = RMSNorm
    return spec


class CausalLM(GPTModel):
    """Megatron's GPT model over packed rows; the last stage gives logits of the wanted positions only.

    `forward(tokens [1, T], None, None, packed_seq_params=PackedSequence)` gives logits [N, vocabulary / tp] on the
    last stage (N = number of `logit_positions_N`, or T) and hidden states on the others.
    """

    def __init__(self, shape: ModelShape, context: ParallelContext) -> None:
        config = transformer_config(shape, context)
        layer = _layer_spec(config)
        layers_here = shape.num_layers // context.pp.size
        super().__init__(
            config,
            TransformerBlockSubmodules(layer_specs=[layer] * layers_here, layer_norm=RMSNorm),
            vocab_size=padded_vocab_size(shape, context),
            max_sequence_length=shape.max_positions,
            pre_process=context.is_first_stage,
            post_process=context.is_last_stage,
            position_embedding_type="none",
            share_embeddings_and_output_weights=shape.tie_embeddings,
            parallel_output=True,
        )
        self.shape = shape
        padding = padded_vocab_size(shape, context) - shape.vocab_size
        slice_size = padded_vocab_size(shape, context) // context.tp.size
        first = context.tp.rank * slice_size
        self._num_real_logits = max(0, min(slice_size, shape.vocab_size - first)) if padding else slice_size

    def packed(self, cu_seqlens: Tensor, positions_T: Tensor) -> PackedSequence:
        """The packed-sequence parameters of a micro-batch for this model."""
        return pack_sequence(cu_seqlens, positions_T, self.config, self.shape.rope_theta, self.config.params_dtype)

    def _postprocess(
        self, hidden_states: Tensor, *, packed_seq_params: PackedSequence | None = None, **_: Any
    ) -> Tensor:
        if not self.post_process:
            return hidden_states
        wanted = packed_seq_params.logit_positions_N if packed_seq_params is not None else None
        if wanted is not None and not self.config.sequence_parallel:
            hidden_states = hidden_states.index_select(0, wanted)
        weight = self.shared_embedding_or_output_weight() if self.share_embeddings_and_output_weights else None
        logits: Tensor = self.output_layer(hidden_states, weight=weight)[0].squeeze(1)
        if wanted is not None and self.config.sequence_parallel:
            logits = logits.index_select(0, wanted)
        if self._num_real_logits < logits.size(-1):
            real = torch.arange(logits.size(-1), device=logits.device) < self._num_real_logits
            logits = logits.masked_fill(~real, MASKED_LOGIT)
        return logits


def padded_vocab_size(shape: ModelShape, context: ParallelContext) -> int:
    """Rows of the embedding in Megatron: the vocabulary rounded up to a multiple of tp."""
    return -(-shape.vocab_size // context.tp.size) * context.tp.size


def build_model(shape: ModelShape, context: ParallelContext) -> CausalLM:
    """This rank's part of the model, without initialised weights (load them by `models/weights.py`).

    Raises:
        ConfigError: an axis of the layout does not divide the model.
    """
    parallel = context.config
    problems = shape.layout_problems(parallel.tp, parallel.pp, parallel.ep, parallel.etp, parallel.sequence_parallel)
    if problems:
        raise ConfigError(problems)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CausalLM(shape, context)
    _mark_split_parameters(model)
    model.to(context.device)
    return model


def _mark_split_parameters(model: CausalLM) -> None:
    """Tells Megatron which parameters are split over tensor-parallel ranks.

    Its initialisation does so in passing; we skip that, since weights are loaded. Without the mark the norm of the
    gradient counts the parts of rank 0 alone, and clipping differs between layouts.
    """
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding | ColumnParallelLinear):
            dimension = 0
        elif isinstance(module, RowParallelLinear):
            dimension = 1
        else:
            continue
        if module.weight is not None:
            set_tensor_model_parallel_attributes(module.weight, True, dimension, 1)
