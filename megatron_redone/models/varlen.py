"""Packed attention on CUDA with torch alone: flash attention over document borders, in memory linear in the row.

In 16 bits all documents of a rank are one call of `torch.nn.attention.varlen` (flash attention 2 and later: query i of
a document sees its keys up to S - L + i, where L queries meet S keys). Those kernels take no fp32, in which documents
go through the memory-efficient kernel instead. Neither forms a matrix of scores, and where neither can run an error is
raised, never the plain product.

Shape legend: t tokens of this rank, T of the row, H query heads, K key-value heads, D head dim, n documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_redone.data.shared_prompts import NO_PARENT

SHORT_TYPES = (torch.bfloat16, torch.float16)


@dataclass
class Borders:
    """Queries of n segments, one after the other, and the keys each segment's queries see: its own, behind those of the
    segment that it goes on from."""

    queries_t: Tensor | None
    """Places of the queries among the tokens of this rank; None: all, in order."""
    keys_t: Tensor | None
    """Places of the keys; None: where the queries are."""
    cu_q: Tensor
    """int32 [n + 1]."""
    cu_k: Tensor
    longest_q: int
    longest_k: int


@dataclass
class VarlenRow:
    """The documents of a row: those whole on this rank, those cut by context parallelism, and the way back."""

    whole: Borders | None
    cut: Borders | None
    """Its keys are places in the whole row."""
    restore_t: Tensor | None
    """Order that brings the outputs of both, concatenated, back into the row; None where they are in order."""


def varlen_row(
    spans: Sequence[tuple[int, int]],
    cut: Sequence[tuple[slice, slice]],
    num_tokens: int,
    device: torch.device,
    parents: Sequence[int] = (),
) -> VarlenRow:
    """What a rank's calls need, from its whole segments (start, length) and its cut documents (queries, keys).

    Args:
        parents: for each whole segment the one that it goes on from, `NO_PARENT` where it starts anew; empty: all do.
    """
    places = [torch.arange(start, start + length) for start, length in spans]
    queries = [torch.arange(q.start, q.stop) for q, _ in cut]
    order = torch.cat([*places, *queries]) if places or queries else torch.arange(0)
    in_order = torch.equal(order, torch.arange(num_tokens))
    whole = None
    if spans:
        index = None if in_order and not cut else torch.cat(places).to(device)
        ends = _borders([length for _, length in spans], device)
        longest = max(length for _, length in spans)
        whole = Borders(index, None, ends, ends, longest, longest)
        if any(parent != NO_PARENT for parent in parents):
            seen = [
                own if parent == NO_PARENT else torch.cat([places[parent], own])
                for parent, own in zip(parents, places, strict=True)
            ]
            lengths = [len(keys) for keys in seen]
            whole.keys_t = torch.cat(seen).to(device)
            whole.cu_k, whole.longest_k = _borders(lengths, device), max(lengths)
    parts = None
    if cut:
        lengths_q, lengths_k = ([part.stop - part.start for part in side] for side in zip(*cut, strict=True))
        parts = Borders(
            queries_t=torch.cat(queries).to(device),
            keys_t=torch.cat([torch.arange(k.start, k.stop) for _, k in cut]).to(device),
            cu_q=_borders(lengths_q, device),
            cu_k=_borders(lengths_k, device),
            longest_q=max(lengths_q),
            longest_k=max(lengths_k),
        )
    return VarlenRow(whole, parts, None if in_order else order.argsort().to(device))


def _borders(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0).to(device, torch.int32)


def attend_row(
    row: VarlenRow,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gather: Callable[[], tuple[Tensor, Tensor]] | None,
    scale: float,
) -> Tensor:
    """Attention [t, H, D] of query [t, H, D] over key and value [t, K, D].

    Args:
        gather: gives key and value of the whole row [T, K, D]; called by all ranks or none (it is a collective), None
            where no document of any rank is cut.
    """
    outputs = []
    if row.whole is not None:
        at, seen = row.whole.queries_t, row.whole.keys_t
        seen = at if seen is None else seen
        q = query if at is None else query[at]
        k, v = (x if seen is None else x[seen] for x in (key, value))
        outputs.append(_attend(q, k, v, row.whole, scale))
    if gather is not None:
        keys, values = gather()
        if row.cut is not None:
            part = row.cut
            outputs.append(_attend(query[part.queries_t], keys[part.keys_t], values[part.keys_t], part, scale))
        else:  # the gradients of this rank's keys come back through it
            outputs.append(query[:0] + keys[:0].sum() + values[:0].sum())
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined if row.restore_t is None else joined[row.restore_t]


def _attend(query: Tensor, key: Tensor, value: Tensor, borders: Borders, scale: float) -> Tensor:
    if query.dtype in SHORT_TYPES:
        return _flash(query, key, value, borders, scale)
    q_ends, k_ends = borders.cu_q.tolist(), borders.cu_k.tolist()
    return torch.cat(
        [
            _efficient(query[q0:q1], key[k0:k1], value[k0:k1], scale)
            for q0, q1, k0, k1 in zip(q_ends, q_ends[1:], k_ends, k_ends[1:], strict=False)
        ]
    )


def _flash(query: Tensor, key: Tensor, value: Tensor, borders: Borders, scale: float) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    out: Any = varlen_attn(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        borders.cu_q,
        borders.cu_k,
        borders.longest_q,
        borders.longest_k,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=query.size(1) != key.size(1),
    )
    result: Tensor = out
    return result


def _efficient(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """One document: query [L, H, D] are the last L of its keys [S, K, D]."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.bias import causal_lower_right

    times = query.size(1) // key.size(1)
    q = query.transpose(0, 1)[None]
    k, v = (x.repeat_interleave(times, 1).transpose(0, 1)[None] for x in (key, value))  # the kernel shares no heads
    if query.device.type == "cpu":  # for tests: that kernel is one of CUDA
        mask = torch.ones(q.size(2), k.size(2), dtype=torch.bool).tril(k.size(2) - q.size(2))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[0].transpose(0, 1)
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        if q.size(2) == k.size(2):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        else:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=causal_lower_right(q.size(2), k.size(2)), scale=scale
            )
    return out[0].transpose(0, 1)
