"""Context parallelism: the tokens of a packed row over the ranks of one group, evenly in work, on any backend.

The row of T tokens is cut into 2 * cp equal chunks; rank r holds chunks r and 2 * cp - 1 - r, so that with causal
attention every rank has about the same work (the split of Llama 3, arXiv 2407.21783, section 3.3.2; also
Transformer Engine's). Keys and values are gathered before attention; their gradients are summed on the way back.

Shape legend: T tokens of the whole row, t = T / cp those of this rank, N labelled tokens, n those of this rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megatron_redone.parallel.context import Axis

# Renamed in torch 2.13, where the older names warn.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def row_multiple(cp_size: int) -> int:
    """What the length of a row must be a multiple of."""
    return 2 * cp_size if cp_size > 1 else 1


def chunk_ranges(num_tokens: int, cp_size: int, cp_rank: int) -> list[tuple[int, int]]:
    """The two chunks [start, end) of a rank in the order in which it holds them."""
    if num_tokens % row_multiple(cp_size):
        raise ValueError(f"{num_tokens} tokens cannot be split over cp={cp_size}; pad to {row_multiple(cp_size)}")
    if cp_size == 1:
        return [(0, num_tokens)]
    length = num_tokens // (2 * cp_size)
    return [(chunk * length, (chunk + 1) * length) for chunk in (cp_rank, 2 * cp_size - 1 - cp_rank)]


def local_index(num_tokens: int, cp_size: int, cp_rank: int) -> Tensor:
    """Places [t] in the whole row of the tokens of a rank."""
    return torch.cat([torch.arange(start, end) for start, end in chunk_ranges(num_tokens, cp_size, cp_rank)])


def row_order(num_tokens: int, cp_size: int) -> Tensor:
    """Index [T] that brings the ranks' tokens, concatenated by rank, back into the order of the row."""
    return torch.cat([local_index(num_tokens, cp_size, rank) for rank in range(cp_size)]).argsort()


class _GatherRow(torch.autograd.Function):
    """[t, ...] of each rank -> [T, ...] in the order of the row on all; backward sums what the ranks ask for."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, order_T: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        ctx.save_for_backward(order_T)
        gathered = local.new_empty(local.size(0) * axis.size, *local.shape[1:])
        _all_gather(gathered, local.contiguous(), group=axis.group)
        return gathered.index_select(0, order_T)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (grad_row,) = grad_outputs
        (order_T,) = ctx.saved_tensors
        by_rank = torch.empty_like(grad_row)
        by_rank[order_T] = grad_row
        grad_local = by_rank.new_empty(by_rank.size(0) // ctx.axis.size, *by_rank.shape[1:])
        _reduce_scatter(grad_local, by_rank, group=ctx.axis.group)
        return grad_local, None, None


def gather_row(local: Tensor, order_T: Tensor, axis: Axis) -> Tensor:
    """The whole row [T, ...] of every rank's part [t, ...]; the gradient of a part is summed over the ranks.

    Args:
        order_T: `row_order(T, axis.size)`.
    """
    gathered: Tensor = _GatherRow.apply(local, order_T, axis)  # type: ignore[no-untyped-call]
    return gathered


class _GatherValues(torch.autograd.Function):
    """Scattered values of the ranks, whole on all; backward takes this rank's part and sums nothing."""

    @staticmethod
    def forward(ctx: Any, values_n: Tensor, places_n: Tensor, num_values: int, axis: Axis) -> Tensor:
        ctx.save_for_backward(places_n)
        whole_N = values_n.new_zeros(num_values)
        whole_N[places_n] = values_n
        dist.all_reduce(whole_N, group=axis.group)
        return whole_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (grad_N,) = grad_outputs
        (places_n,) = ctx.saved_tensors
        return grad_N[places_n], None, None, None


def gather_values(values_n: Tensor, places_n: Tensor, num_values: int, axis: Axis) -> Tensor:
    """All values [N], on every rank, of which this rank has those [n] at `places_n`.

    Every rank then computes the same loss of all values, so each takes its own part of the gradient alone.
    """
    if axis.size == 1:
        return values_n
    whole: Tensor = _GatherValues.apply(values_n, places_n, num_values, axis)  # type: ignore[no-untyped-call]
    return whole
