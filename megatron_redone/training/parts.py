"""Names of the parts of a training step in a profile (`torch.profiler`); `redone benchmark train` reads them."""

from __future__ import annotations

DATA = "redone: data"
"""From documents to packed micro-batches."""
SCHEDULE = "redone: schedule"
"""Megatron's schedule over all micro-batches. It contains the next three; the rest of it is the backward pass."""
FORWARD = "redone: forward"
LOSS = "redone: loss"
REDUCTION = "redone: gradient reduction"
"""What is left to reduce after the last backward pass."""
OPTIMIZER = "redone: optimizer"
"""Norm, clipping, update; with the distributed optimizer the gathering of weights, too."""
