"""Memory of a rank, from shape and layout alone: an estimate for the dry run. Imports no torch."""

from __future__ import annotations

from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.stage_config import ModelStage, StageConfig, TrainingStage

WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp64": 8}
GRADIENT_BYTES = 4
OPTIMIZER_BYTES = {"fp32": 8, "bf16": 4 + 8, "fp64": 16}
"""Bytes of a trained parameter beside weight and gradient: (fp32 master copy,) two Adam moments."""
KEY_VALUE_BYTES = 2
"""Bytes of one number in the key-value cache (bf16)."""
ACTIVATION_BYTES = {"none": 34, "selective": 34, "full": 2}
"""Bytes that a layer keeps for each token and unit of the hidden size (Korthikanti et al. 2022, equation 2, without
the attention matrix, which packed attention never writes; with full recomputation the layer's input only)."""


def key_value_bytes(shape: ModelShape) -> int:
    """Bytes that one token takes in the key-value cache."""
    return 2 * KEY_VALUE_BYTES * shape.num_layers * shape.num_kv_heads * shape.head_dim


def rank_bytes(shape: ModelShape, stage: ModelStage, num_gpus: int) -> float:
    """Estimated bytes a rank needs for weights, and if it trains for gradients, optimizer and activations."""
    parallel = stage.parallel
    trained = isinstance(stage, TrainingStage)
    kept = model_bytes(shape, parallel, trained, max(1, parallel.data_parallel_size(num_gpus)))
    return kept + (_activation_bytes(shape, parallel, stage) if trained else 0.0)


def model_bytes(shape: ModelShape, parallel: ParallelConfig, trained: bool = True, replicas: int = 1) -> float:
    """Bytes of weights, and if they are trained of gradients and optimizer states, on one rank.

    Experts are split over ep * etp, all else over tp, both over pp. With the distributed optimizer its states are
    split over the replicas of a parameter, too.
    """
    experts = 0
    if shape.is_moe:
        experts = shape.num_layers * shape.num_experts * 3 * shape.hidden_size * shape.moe_ffn_hidden_size
    dense = (shape.num_parameters() - experts) / (parallel.tp * parallel.pp)
    expert = experts / (parallel.ep * parallel.etp * parallel.pp)
    weight = WEIGHT_BYTES[parallel.precision]
    if not trained:
        return weight * (dense + expert)
    states = OPTIMIZER_BYTES[parallel.precision]
    ranks = replicas * parallel.tp * parallel.cp
    sharing = (replicas * parallel.cp, max(1, ranks // (parallel.ep * parallel.etp)))
    divided = [states / n if parallel.distributed_optimizer else states for n in sharing]
    return dense * (weight + GRADIENT_BYTES + divided[0]) + expert * (weight + GRADIENT_BYTES + divided[1])


def _activation_bytes(shape: ModelShape, parallel: ParallelConfig, stage: StageConfig) -> float:
    """Of the micro-batches that the first pipeline stage holds at once, and the logits of one."""
    in_a_batch = int(getattr(stage, "max_tokens_per_microbatch", 0) or getattr(stage, "sequence_length", 0))
    tokens = in_a_batch / parallel.cp
    layers = shape.num_layers / parallel.pp
    a_layer = ACTIVATION_BYTES[parallel.recompute] * tokens * shape.hidden_size / parallel.tp
    one_layer_again = 34 * tokens * shape.hidden_size / parallel.tp if parallel.recompute == "full" else 0.0
    logits = 2 * 4 * tokens * shape.vocab_size / parallel.tp  # fp32, with their gradient
    return a_layer * layers * min(parallel.pp, 8) + one_layer_again + logits
