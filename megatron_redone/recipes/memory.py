"""Memory of a rank, from shape and layout alone: an estimate for the dry run. Imports no torch."""

from __future__ import annotations

from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.memory import Workload, rank_memory
from megatron_redone.recipes.stage_config import ModelStage, TrainingStage

WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp64": 8}
GRADIENT_BYTES = 4
OPTIMIZER_BYTES = {"fp32": 8, "bf16": 4 + 8, "fp64": 16}
"""Bytes of a trained parameter beside weight and gradient: (fp32 master copy,) two Adam moments."""
KEY_VALUE_BYTES = 2
"""Bytes of one number in the key-value cache (bf16)."""


def key_value_bytes(shape: ModelShape) -> int:
    """Bytes that one token takes in the key-value cache."""
    return 2 * KEY_VALUE_BYTES * shape.num_layers * shape.num_kv_heads * shape.head_dim


def rank_bytes(shape: ModelShape, stage: ModelStage, num_gpus: int) -> float:
    """Estimated bytes of the fullest rank: weights, and if it trains what `planning` counts, allowances left out."""
    parallel = stage.parallel
    if not isinstance(stage, TrainingStage):
        return model_bytes(shape, parallel, trained=False)
    length = int(getattr(stage, "max_tokens_per_microbatch", 0) or getattr(stage, "sequence_length", 0))
    # so many rows that the pipeline is full
    work = Workload(length, max(1, parallel.data_parallel_size(num_gpus)) * parallel.pp * parallel.vpp)
    return max(rank_memory(shape, parallel, num_gpus, work, rank).tensors for rank in range(parallel.pp))


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
