"""The gated activation silu(gate) * up (Shazeer, 2020) of [gate; up] in one tensor.

Keeps its input alone for the backward pass, and writes both halves of the gradient into one tensor.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (both,), (grad,) = ctx.saved_tensors, grad_outputs
        gate, up = both.chunk(2, dim=-1)
        grad_both = torch.empty_like(both)
        grad_gate, grad_up = grad_both.chunk(2, dim=-1)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        torch.mul(grad, F.silu(gate), out=grad_up)
        return grad_both


class SwiGLU(nn.Module):
    """Takes [..., 2 * width] and gives [..., width]; for the `activation_func` of Megatron's MLP."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()

    def forward(self, both: Tensor) -> Tensor:
        """silu(first half) * second half of the last dimension."""
        result: Tensor = _SwiGLU.apply(both)  # type: ignore[no-untyped-call]
        return result

    def sharded_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """No parameters."""
        return {}
