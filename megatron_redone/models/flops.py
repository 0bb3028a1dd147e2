"""Floating-point operations of a model on packed documents, by its shape alone. Imports no torch.

Counted is what the maths needs: matrix products of every token that is read, causal attention inside documents
(a query meets the keys up to itself, half of the square), and the output layer where a logit is wanted. A
multiplication and an addition are two operations; the backward pass costs twice the forward pass; recomputation counts
nothing, as usual for model FLOP/s (PaLM, appendix B, where attention counts the whole square and all logits).
"""

from __future__ import annotations

from collections.abc import Sequence

from megatron_redone.models.config import ModelShape

PASSES = 3
"""Forward and backward in units of a forward pass."""


def forward_flops(shape: ModelShape, document_lengths: Sequence[int], num_logits: int) -> float:
    """Operations of a forward pass.

    Args:
        document_lengths: tokens of each document.
        num_logits: positions whose logits are computed.
    """
    h, heads, kv = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    projections = h * (heads + 2 * kv) + heads * h
    if shape.is_moe:
        mlp = shape.experts_per_token * 3 * h * shape.moe_ffn_hidden_size + h * shape.num_experts
    else:
        mlp = 3 * h * shape.ffn_hidden_size
    pairs = sum(length * (length + 1) / 2 for length in document_lengths)
    layers = 2.0 * (projections + mlp) * sum(document_lengths) + 4.0 * heads * pairs  # q k^T and weights times v
    return shape.num_layers * layers + 2.0 * h * shape.vocab_size * num_logits


def training_flops(shape: ModelShape, document_lengths: Sequence[int], num_logits: int) -> float:
    """Operations of a forward and a backward pass."""
    return PASSES * forward_flops(shape, document_lengths, num_logits)
