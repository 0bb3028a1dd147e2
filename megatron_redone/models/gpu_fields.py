"""Which fields of Megatron-core's configurations the settings of `parallel.gpu` become: one table a configuration."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer.enums import AttnBackend

from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.gpu_config import TE, FP8Config

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def transformer_fields(parallel: ParallelConfig) -> dict[str, Any]:
    """Fields of TransformerConfig."""
    gpu = parallel.gpu
    return {
        "transformer_impl": gpu.layer_spec,
        "attention_backend": AttnBackend[gpu.attention if gpu.attention != "torch" else "auto"],
        "moe_token_dispatcher_type": parallel.moe_dispatcher if gpu.fused_dispatch == "none" else "flex",
        "gradient_accumulation_fusion": gpu.fuse_gradient_accumulation,
        "tp_comm_overlap": gpu.tp_overlap_tokens is not None,
        # Interleaved stages with Megatron's default pair of these give wrong gradients without an error.
        "overlap_p2p_comm": parallel.vpp > 1,
        "batch_p2p_comm": parallel.vpp == 1,
        "overlap_p2p_comm_warmup_flush": gpu.overlap_p2p_warmup,
        **_graphs(parallel),
        **_recompute(parallel),
        **(_fp8(gpu.fp8) if gpu.fp8 is not None else {}),
    }


def moe_fields(parallel: ParallelConfig) -> dict[str, Any]:
    """Fields of TransformerConfig that only a model with experts may have."""
    gpu = parallel.gpu
    flex = {"moe_flex_dispatcher_backend": gpu.fused_dispatch} if gpu.fused_dispatch != "none" else {}
    return {
        "moe_grouped_gemm": gpu.grouped_gemm,
        "moe_permute_fusion": gpu.fused_permute,
        **flex,
    }


def ddp_fields(parallel: ParallelConfig) -> dict[str, Any]:
    """Fields of DistributedDataParallelConfig."""
    gpu = parallel.gpu
    return {
        "grad_reduce_in_fp32": parallel.precision != "fp64" and gpu.optimizer.gradients == "fp32",
        "overlap_grad_reduce": parallel.overlap,
        "overlap_param_gather": parallel.overlap and parallel.distributed_optimizer,
        "use_distributed_optimizer": parallel.distributed_optimizer,
        "bucket_size": gpu.bucket_parameters,
        "pad_buckets_for_high_nccl_busbw": gpu.pad_buckets,
    }


def optimizer_fields(parallel: ParallelConfig) -> dict[str, Any]:
    """Fields of OptimizerConfig."""
    memory = parallel.gpu.optimizer
    fields: dict[str, Any] = {
        "use_distributed_optimizer": parallel.distributed_optimizer,
        "overlap_param_gather": parallel.overlap and parallel.distributed_optimizer,
        "fp8_recipe": parallel.gpu.fp8.recipe if parallel.gpu.fp8 is not None else None,
    }
    if memory.offload:
        fields |= {
            "optimizer_cpu_offload": True,
            "optimizer_offload_fraction": memory.offload,
            "overlap_cpu_optimizer_d2h_h2d": memory.overlap_offload,
        }
    if memory.moments != "fp32":
        fields |= {
            "use_precision_aware_optimizer": True,
            "main_grads_dtype": DTYPES[memory.gradients],
            "exp_avg_dtype": DTYPES[memory.moments],
            "exp_avg_sq_dtype": DTYPES[memory.moments],
            "store_param_remainders": False,  # whole fp32 weights, so that a checkpoint of any optimizer fits
        }
    return fields


def _recompute(parallel: ParallelConfig) -> dict[str, Any]:
    if parallel.recompute == "full":
        return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    if parallel.recompute == "selective":
        return {"recompute_granularity": "selective", "recompute_modules": list(parallel.recompute_modules)}
    return {}


def _graphs(parallel: ParallelConfig) -> dict[str, Any]:
    gpu = parallel.gpu
    if gpu.cuda_graphs == "none":
        return {}
    warmup = {} if gpu.graph_warmup_steps is None else {"cuda_graph_warmup_steps": gpu.graph_warmup_steps}
    return {"cuda_graph_impl": TE, "cuda_graph_scope": [gpu.cuda_graphs], "use_te_rng_tracker": True, **warmup}


def _fp8(fp8: FP8Config) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "fp8": fp8.format,
        "fp8_recipe": fp8.recipe,
        "first_last_layers_bf16": bool(fp8.bf16_layers_at_start or fp8.bf16_layers_at_end),
        "num_layers_at_start_in_bf16": fp8.bf16_layers_at_start,
        "num_layers_at_end_in_bf16": fp8.bf16_layers_at_end,
    }
    given = {
        "fp8_amax_history_len": fp8.amax_history,
        "fp8_amax_compute_algo": fp8.amax_algorithm,
        "fp8_margin": fp8.margin,
        "fp8_wgrad": fp8.weight_gradient,
    }
    return fields | {name: value for name, value in given.items() if value is not None}
