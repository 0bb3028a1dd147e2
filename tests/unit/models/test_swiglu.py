"""The activation is silu(gate) * up, and so is its gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from megatron_redone.models.swiglu import SwiGLU


def test_value_and_gradient() -> None:
    ours = torch.randn(7, 1, 24, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    gate, up = theirs.chunk(2, dim=-1)
    expected, upstream = F.silu(gate) * up, torch.randn(7, 1, 12, dtype=torch.float64)
    found = SwiGLU()(ours)
    torch.testing.assert_close(found, expected)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.autograd.gradcheck(SwiGLU(), torch.randn(3, 8, dtype=torch.float64, requires_grad=True))
