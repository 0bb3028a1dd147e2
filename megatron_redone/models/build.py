"""From a shape to Megatron model chunks: one TransformerConfig, one layer spec, for every family.

The layer specs stand in `models/layer_specs.py`. Rotary embedding is applied inside the attention core, so Megatron's
own is off.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import torch
import torch.nn.functional as F
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel.layers import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    set_tensor_model_parallel_attributes,
)
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from megatron_redone.common.errors import ConfigError
from megatron_redone.models.attention import PackedSequence, pack_sequence
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import param_mappings
from megatron_redone.models.gpu_fields import moe_fields, transformer_fields
from megatron_redone.models.layer_specs import final_norm, layer_spec
from megatron_redone.models.weights import local_name
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.gpu_config import TE

MASKED_LOGIT = -1e30
"""Logit of vocabulary rows that only pad the table; finite, so that 0 * logit stays 0."""

EXTRA_STATE = "_extra_state"
WITH_VOCABULARY = ("embedding.", "output_layer.")
"""Modules of Megatron's own under either layer spec."""


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
            "moe_z_loss_coeff": shape.router_z_loss_coefficient or None,
            "moe_router_pre_softmax": False,  # softmax over the chosen experts: Qwen3's renormalised top-k
            "moe_router_dtype": "fp64" if context.dtype == torch.float64 else "fp32",
            **moe_fields(parallel),
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
        use_te_activation_func=True,  # takes the activation from the layer spec; there it is ours
        add_bias_linear=False,
        add_qkv_bias=shape.qkv_bias,
        qk_layernorm=shape.qk_norm,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        apply_rope_fusion=False,
        use_cpu_initialization=context.device.type == "cpu",
        perform_initialization=False,
        params_dtype=context.dtype,
        pipeline_dtype=context.dtype,
        bf16=context.dtype == torch.bfloat16,
        tensor_model_parallel_size=parallel.tp,
        pipeline_model_parallel_size=parallel.pp,
        virtual_pipeline_model_parallel_size=parallel.vpp if parallel.vpp > 1 else None,
        context_parallel_size=parallel.cp,
        expert_model_parallel_size=parallel.ep,
        expert_tensor_parallel_size=parallel.etp,
        sequence_parallel=uses_sequence_parallel(shape, context),
        variable_seq_lengths=not same_length_rows(shape, parallel),
        calculate_per_token_loss=True,
        deallocate_pipeline_outputs=False,
        **transformer_fields(parallel),
        **moe,
    )


def same_length_rows(shape: ModelShape, parallel: ParallelConfig) -> bool:
    """Whether all micro-batches of a step must have one length: the all-gather of tokens to experts takes no other."""
    return shape.is_moe and parallel.moe_dispatcher == "allgather"


def uses_sequence_parallel(shape: ModelShape, context: ParallelContext) -> bool:
    """The setting, or by default: on for an MoE model under tensor parallelism, which Megatron-core demands."""
    wanted = context.config.sequence_parallel
    return (shape.is_moe if wanted is None else wanted) and context.tp.size > 1


class CausalLM(GPTModel):
    """One chunk of Megatron's GPT model over packed rows; the last gives logits of the wanted positions only.

    `forward(tokens [1, T], None, None, packed_seq_params=PackedSequence)` gives logits [N, vocabulary / tp] on the
    last chunk of the last stage (N = number of `logit_positions_N`, or T) and hidden states on the others.
    """

    def __init__(self, shape: ModelShape, context: ParallelContext, chunk: int = 0) -> None:
        config = transformer_config(shape, context)
        gpu = context.config.gpu
        layer = layer_spec(config, gpu)
        chunks = context.config.vpp
        super().__init__(
            config,
            TransformerBlockSubmodules(
                layer_specs=[layer] * (shape.num_layers // (context.pp.size * chunks)), layer_norm=final_norm(gpu)
            ),
            vocab_size=padded_vocab_size(shape, context),
            max_sequence_length=shape.max_positions,
            pre_process=context.is_first_stage and chunk == 0,
            post_process=context.is_last_stage and chunk == chunks - 1,
            position_embedding_type="none",
            share_embeddings_and_output_weights=shape.tie_embeddings,
            parallel_output=True,
            vp_stage=chunk if chunks > 1 else None,
        )
        self.shape, self.context = shape, context
        padding = padded_vocab_size(shape, context) - shape.vocab_size
        slice_size = padded_vocab_size(shape, context) // context.tp.size
        first = context.tp.rank * slice_size
        self._num_real_logits = max(0, min(slice_size, shape.vocab_size - first)) if padding else slice_size

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


class ModelChunks(Sequence[CausalLM]):
    """This rank's part of a model: one chunk, or several where pipeline stages are interleaved."""

    def __init__(self, shape: ModelShape, context: ParallelContext) -> None:
        self.shape, self.context = shape, context
        self.chunks = [CausalLM(shape, context, chunk) for chunk in range(context.config.vpp)]
        self.config: TransformerConfig = self.chunks[0].config

    @overload
    def __getitem__(self, index: int) -> CausalLM: ...
    @overload
    def __getitem__(self, index: slice) -> list[CausalLM]: ...
    def __getitem__(self, index: int | slice) -> CausalLM | list[CausalLM]:
        return self.chunks[index]

    def __len__(self) -> int:
        return len(self.chunks)

    def parameters(self) -> dict[tuple[int, str], torch.nn.Parameter]:
        """Every parameter of this rank by (chunk, name)."""
        return {
            (number, name): parameter
            for number, chunk in enumerate(self.chunks)
            for name, parameter in chunk.named_parameters()
        }

    def modules(self) -> Iterator[torch.nn.Module]:
        """The modules of all chunks."""
        for chunk in self.chunks:
            yield from chunk.modules()

    def train(self, training: bool = True) -> None:
        """Sets the mode of all chunks."""
        for chunk in self.chunks:
            chunk.train(training)

    def packed(
        self, cu_seqlens: Tensor, positions_T: Tensor, *, split: bool = True, parents: Sequence[int] | None = None
    ) -> PackedSequence:
        """The packed-sequence parameters of a row for this model; see `pack_sequence`."""
        axis = self.context.cp if split and self.context.cp.size > 1 else None
        return pack_sequence(
            cu_seqlens, positions_T, self.config, self.shape.rope_theta, self.config.params_dtype, axis, parents
        )

    def sharded_state_dict(self) -> dict[str, Any]:
        """Megatron's sharded tensors, keyed alike whatever the chunks.

        The `_extra_state` of linear layers is left out: it is empty, and would be kept as a pickle.
        """
        return {
            f"chunk{number}": {
                name: value for name, value in chunk.sharded_state_dict().items() if EXTRA_STATE not in name
            }
            for number, chunk in enumerate(self.chunks)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what a checkpoint gave for `sharded_state_dict`."""
        for number, chunk in enumerate(self.chunks):
            extra = {name: None for name in chunk.state_dict() if EXTRA_STATE in name}
            chunk.load_state_dict({**extra, **state[f"chunk{number}"]})


def build_model(shape: ModelShape, context: ParallelContext) -> ModelChunks:
    """This rank's part of the model, without initialised weights (load them by `models/weights.py`).

    Raises:
        ConfigError: an axis of the layout does not divide the model.
    """
    problems = shape.layout_problems(context.config)
    if problems:
        raise ConfigError(problems)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ModelChunks(shape, context)
    _mark_split_parameters(model)
    for chunk in model:
        chunk.to(context.device)
    return model


def _mark_split_parameters(model: ModelChunks) -> None:
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
    if model.context.config.gpu.layer_spec == TE:
        _mark_by_table(model)


def _mark_by_table(model: ModelChunks) -> None:
    """Transformer Engine's layers, by the parameter table: it marks its own, but knows no ranks of experts."""
    parameters = model.parameters()
    for row in param_mappings(model.shape):
        name = local_name(row, model.shape, model.context)
        parameter = parameters.get(name) if name is not None else None
        if parameter is None or row.split_dim is None or name is None or name[1].startswith(WITH_VOCABULARY):
            continue
        for attribute, value in (("tensor_model_parallel", True), ("partition_dim", row.split_dim)):
            setattr(parameter, attribute, value)
        parameter.partition_stride = 1  # type: ignore[attr-defined]
