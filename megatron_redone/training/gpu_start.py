"""What Transformer Engine wants started: buffers that overlap tensor-parallel communication, and graphs of the MLPs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.context import ParallelContext

GRAPH_WARMUP_STEPS = 3
"""Megatron-core's `cuda_graph_warmup_steps`."""


def start_tp_overlap(shape: ModelShape, context: ParallelContext) -> None:
    """Makes the buffers through which layers overlap their gathers, once per process; nothing where it is off."""
    parallel = context.config
    tokens = parallel.gpu.tp_overlap_tokens
    if tokens is None:
        return
    from transformer_engine.pytorch.module import base

    modes = [base.UserBufferQuantizationMode.NONE]
    if parallel.gpu.fp8 is not None:
        modes.append(base.UserBufferQuantizationMode.FP8)
    if getattr(base, "_ub_communicators", None) is None:
        base.initialize_ub(
            shape=[tokens // parallel.cp, shape.hidden_size],
            tp_size=parallel.tp,
            quantization_modes=modes,
            dtype=torch.bfloat16,
            bootstrap_backend="nccl",
        )


class MLPGraphs:
    """Captures the dense MLP of every layer after the first steps; later steps replay it."""

    def __init__(self, context: ParallelContext, model: Sequence[Any], optimizer: Any) -> None:
        self.context, self.model, self.optimizer = context, model, optimizer
        self._steps = 0
        self._captured = context.config.gpu.cuda_graphs == "none"

    def after_step(self) -> None:
        """Counts a step, and captures when there were enough of them. Layers look up their graph themselves."""
        self._steps += 1
        gpu = self.context.config.gpu
        if self._captured or self._steps < (gpu.graph_warmup_steps or GRAPH_WARMUP_STEPS):
            return
        from megatron.core.transformer.cuda_graphs import TECudaGraphHelper

        assert gpu.graph_tokens is not None
        helper = TECudaGraphHelper(
            model=list(self.model),
            config=self.model[0].config,
            seq_length=gpu.graph_tokens,
            micro_batch_size=1,
            optimizers=[self.optimizer],
        )
        helper.create_cudagraphs()
        if self.context.config.overlap and self.context.config.distributed_optimizer:
            helper.cuda_graph_set_manual_hooks()
        self._captured = True
