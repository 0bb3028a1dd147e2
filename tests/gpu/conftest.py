"""The device of a proof: CUDA at a size that fills kernels, or this machine's CPU at a tiny one. Never both at once:
Megatron's process group and stand-ins belong to one of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.parallel.gpu_config import GPUConfig
from megatron_redone.parallel.gpu_machine import machine_problems


@dataclass(frozen=True)
class Place:
    """Where a proof runs, and how large it is."""

    device: str

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def shape(self, name: str) -> ModelShape:
        """The tiny preset; on a GPU with heads and widths that its kernels are made for."""
        shape = get_preset(name)
        if not self.on_gpu:
            return shape.model_copy(update={"num_layers": 2})
        wider = {"hidden_size": 512, "ffn_hidden_size": 1024, "num_heads": 8, "num_kv_heads": 4, "head_dim": 64}
        experts = {"moe_ffn_hidden_size": 256} if shape.is_moe else {}
        return shape.model_copy(update={**wider, **experts, "vocab_size": 1024})

    @property
    def lengths(self) -> tuple[int, ...]:
        return (700, 20, 1, 513, 128, 64) if self.on_gpu else (7, 20, 1, 33, 20)

    def context(self, precision: str = "fp32", gpu: dict[str, Any] | None = None, **layout: Any) -> ParallelContext:
        """The layout of one rank; skips, with the reason, where this machine lacks what `gpu` asks for."""
        from megatron_redone.parallel.context import build_context

        settings = GPUConfig.model_validate(gpu or {})
        if lacking := machine_problems(settings):
            pytest.skip("; ".join(lacking))
        return build_context(ParallelConfig.model_validate({"precision": precision, "gpu": settings, **layout}))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest, parallel_context: ParallelContext) -> Iterator[Place]:
    """Each proof at both places: `make test-gpu` shows which ran."""
    import torch

    if request.param == "cpu" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device, on which the same proof runs")
    if request.param == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield Place(request.param)
    gc.collect()
    if request.param == "cuda":
        torch.cuda.empty_cache()


Body = Callable[[Place], None]
