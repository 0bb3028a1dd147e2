"""Layers with the parameters, names and results of Transformer Engine's, in plain torch, for machines without it.

They prove that our side (names, marks, loading, export, optimizer) fits such layers; not that the library does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.models.backends import BackendSpecProvider
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.mlp import MLPSubmodules
from megatron.core.transformer.moe.experts import SequentialMLP
from torch import Tensor

from megatron_redone.models.attention import PackedAttention
from megatron_redone.models.norm import RMSNorm
from megatron_redone.models.swiglu import SwiGLU


class NormLinear(ColumnParallelLinear):
    """The norm fused into the matrix that follows it: `layer_norm_weight` and `weight` of one module."""

    def __init__(self, input_size: int, output_size: int, *, config: Any, **options: Any) -> None:
        super().__init__(input_size, output_size, config=config, **options)
        self.layer_norm_weight = torch.nn.Parameter(torch.ones(input_size, dtype=config.params_dtype))
        self.layer_norm_weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: Tensor, *arguments: Any, **options: Any) -> Any:
        normed = F.rms_norm(x.float(), (x.size(-1),), None, self.config.layernorm_epsilon).to(x.dtype)
        return super().forward(normed * self.layer_norm_weight, *arguments, **options)


class GroupedLinear(torch.nn.Module):
    """`weight0`, `weight1`, ... of one module."""

    def __init__(self, num_gemms: int, input_size: int, output_size: int, *, config: Any, **options: Any) -> None:
        super().__init__()
        for number in range(num_gemms):
            weight = torch.nn.Parameter(torch.zeros(output_size, input_size, dtype=config.params_dtype))
            weight.allreduce = config.expert_model_parallel_size == 1  # type: ignore[attr-defined]
            self.register_parameter(f"weight{number}", weight)

    def forward(self, x: Tensor, splits: list[int]) -> Tensor:
        parts = [F.linear(part, getattr(self, f"weight{i}")) for i, part in enumerate(x.split(splits))]
        return torch.cat(parts)


class GroupedExperts(torch.nn.Module):
    """All experts of a rank in one module, as TEGroupedMLP names them."""

    def __init__(self, num_local_experts: int, config: Any, submodules: Any, pg_collection: Any = None) -> None:
        super().__init__()
        hidden, width = config.hidden_size, config.moe_ffn_hidden_size
        self.linear_fc1 = GroupedLinear(num_local_experts, hidden, 2 * width, config=config)
        self.linear_fc2 = GroupedLinear(num_local_experts, width, hidden, config=config)
        self.activation = SwiGLU()

    def forward(self, x: Tensor, tokens_per_expert: Tensor, probs: Tensor) -> tuple[Tensor, None]:
        splits = tokens_per_expert.tolist()
        inner = self.activation(self.linear_fc1(x, splits))
        return self.linear_fc2((inner * probs.unsqueeze(-1)).to(x.dtype), splits), None


class StandInProvider(BackendSpecProvider):
    def linear(self) -> type:
        raise NotImplementedError

    def column_parallel_linear(self) -> type:
        return ColumnParallelLinear

    def row_parallel_linear(self) -> type:
        return RowParallelLinear

    def fuse_layernorm_and_linear(self) -> bool:
        return True

    def column_parallel_layer_norm_linear(self) -> type:
        return NormLinear

    def layer_norm(self, rms_norm: bool = False, for_qk: bool = False) -> type:
        return RMSNorm

    def core_attention(self) -> type:
        return PackedAttention

    def activation_func(self) -> type:
        return SwiGLU

    def grouped_mlp_modules(self, moe_use_grouped_gemm: bool, moe_use_legacy_grouped_gemm: bool) -> tuple[Any, Any]:
        if moe_use_grouped_gemm:
            return GroupedExperts, MLPSubmodules(linear_fc1=GroupedLinear, linear_fc2=GroupedLinear)
        return SequentialMLP, MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)
