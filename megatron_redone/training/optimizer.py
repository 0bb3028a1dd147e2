"""Megatron's gradient buffers and optimizer for the chunks of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from torch.profiler import record_function

from megatron_redone.common.errors import ConfigError
from megatron_redone.models.build import ModelChunks
from megatron_redone.models.gpu_fields import ddp_fields, optimizer_fields
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.parts import REDUCTION


def wrap_chunks(model: ModelChunks, context: ParallelContext) -> list[DistributedDataParallel]:
    """The chunks with their gradient buffers; tells Megatron's schedules how gradients and weights are synchronised."""
    parallel = context.config
    config = DistributedDataParallelConfig(**ddp_fields(parallel))
    wrapped = [
        DistributedDataParallel(chunk.config, config, chunk, disable_bucketing=number > 0)
        for number, chunk in enumerate(model)
    ]
    for chunk in model:
        chunk.config.finalize_model_grads_func = _finalize_model_grads
        if parallel.overlap:
            chunk.config.no_sync_func = one_or_all([ddp.no_sync for ddp in wrapped])
            chunk.config.grad_sync_func = one_or_all([ddp.start_grad_sync for ddp in wrapped])
        if config.overlap_param_gather:
            chunk.config.param_sync_func = one_or_all([ddp.start_param_sync for ddp in wrapped])
    return wrapped


def _finalize_model_grads(*arguments: Any, **options: Any) -> None:
    with record_function(REDUCTION):
        finalize_model_grads(*arguments, **options)


def build_optimizer(chunks: list[DistributedDataParallel], config: OptimizerConfig, context: ParallelContext) -> Any:
    """Megatron's AdamW over the chunks.

    Raises:
        ConfigError: fp64 with clipping, which Megatron cannot do.
    """
    parallel = context.config
    if parallel.precision == "fp64" and config.clip_grad:
        raise ConfigError(
            [
                f"optimizer.clip_grad={config.clip_grad} with parallel.precision=fp64: Megatron clips fp32 gradients "
                "only; set optimizer.clip_grad=0"
            ]
        )
    optimizer = get_megatron_optimizer(
        MegatronOptimizerConfig(
            optimizer="adam",
            lr=config.lr,
            min_lr=0.0,
            weight_decay=config.weight_decay,
            adam_beta1=config.beta1,
            adam_beta2=config.beta2,
            adam_eps=config.epsilon,
            clip_grad=config.clip_grad,
            bf16=context.dtype == torch.bfloat16,
            params_dtype=context.dtype,
            **optimizer_fields(parallel),
        ),
        chunks,
    )
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        if part.optimizer is not None:
            for group in part.optimizer.param_groups:
                group["fused"] = True  # one pass over memory for Adam's nine
    return optimizer


def step_with_norm(optimizer: Any, grad_norm: float) -> None:
    """Clips gradients that `prepare_grads` has readied by their norm, and steps: the rest of Megatron's `step`."""
    for part in getattr(optimizer, "chained_optimizers", [optimizer]):
        parameters = [] if getattr(part, "is_stub_optimizer", False) else part.get_parameters()
        if parameters and part.config.clip_grad > 0:
            clip_grad_by_total_norm_fp32(
                parameters,
                part.config.clip_grad,
                grad_norm,
                use_decoupled_grad=part.config.use_precision_aware_optimizer_no_fp8_or_ds_fp8,
            )
    optimizer.step_with_ready_grads()


def one_or_all(values: Sequence[Any]) -> Any:
    """What Megatron's schedules take: one thing for one chunk, a list for several."""
    return values[0] if len(values) == 1 else list(values)
