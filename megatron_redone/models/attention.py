"""Packed causal attention on torch's scaled_dot_product_attention, plugged into Megatron-core's layer spec.

Megatron-core's own local attention refuses packed sequences. This core takes thd tensors (all documents of a
micro-batch in one row), applies the rotary embedding at given positions, and attends inside documents only. A segment
may go on from another one, its parent (a prompt that several answers share): it attends to the parent as well.
With a key-value cache it also serves generation over ragged prompts. Under context parallelism each rank has two
chunks of the row: documents that lie whole in a chunk need nothing from elsewhere, for the others keys and values
are gathered over the group. On a CPU documents of similar length are attended together, padded; on CUDA by their
borders (`models/varlen.py`).

Shape legend: T tokens of this rank, H query heads, K key-value heads, D head dim, n documents of a group, L longest
document of a group, P tokens of a parent, S keys of a query, B cached sequences (all per tensor-parallel rank).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from megatron_redone.data.shared_prompts import NO_PARENT
from megatron_redone.models.kv_cache import KVCache
from megatron_redone.models.varlen import VarlenRow, attend_row, varlen_row
from megatron_redone.parallel.context import Axis
from megatron_redone.parallel.context_parallel import chunk_ranges, gather_row, local_index, row_order

SHORT_DOCUMENT_TOKENS = {torch.bfloat16: 512}
OTHERWISE_SHORT = 64
"""Up to so many tokens two matrix products beat torch's flash kernel on a CPU: in bf16 it costs 15 times them at 16
tokens, 3 times at 128 and as much at 1,024; in fp32 twice at 32 and less from 128 on."""


@dataclass
class DocumentGroup:
    """Documents of similar length, attended in one padded call."""

    token_index_nL: Tensor
    """Place of each token in the packed row; padding repeats the document's last token."""
    valid_nL: Tensor | None
    """Where a token is real; None when nothing is padded."""
    span: slice | None = None
    """The part of the row that the documents are, one after the other and without padding; None where they are not."""
    parent: slice | None = None
    """The part of the row that all of them go on from; None where they start anew."""


@dataclass
class CutDocument:
    """The part of a document that this rank has in one chunk, where the chunk's border cuts the document."""

    queries: slice
    """Its tokens among those of this rank."""
    keys: slice
    """The document's tokens up to its last query, in the whole row."""


@dataclass
class PackedSequence(PackedSeqParams):
    """Megatron's packed-sequence parameters with what our core needs, computed once per micro-batch."""

    cos_T1D: Tensor | None = None
    sin_T1D: Tensor | None = None
    varlen: VarlenRow | None = None
    """On CUDA: the borders that its kernels take; the three fields below are then empty."""
    groups: list[DocumentGroup] = field(default_factory=list)
    cut: list[CutDocument] = field(default_factory=list)
    restore_T: Tensor | None = None
    """Order that brings the outputs of groups and cut documents, concatenated, back into the row."""
    cp: Axis | None = None
    """The ranks whose keys and values are gathered; None where no document is cut."""
    row_order: Tensor | None = None
    logit_positions_N: Tensor | None = None
    """Positions whose logits are wanted; None means all."""
    cache: KVCache | None = None
    cache_rows_T: Tensor | None = None
    """Cache sequence of each token."""
    positions_T: Tensor | None = None
    decode: bool = False
    """Whether each cached sequence gets exactly one token, in order."""


def rotary_tables(positions_T: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine [T, 1, D] of the rotary embedding, computed in fp32 (RoFormer, half-rotation form)."""
    inverse = 1.0 / theta ** (torch.arange(0, head_dim, 2, device=positions_T.device).float() / head_dim)
    angles_TD = positions_T.float()[:, None] * inverse[None, :]
    angles_TD = torch.cat([angles_TD, angles_TD], dim=-1)
    return angles_TD.cos().to(dtype).unsqueeze(1), angles_TD.sin().to(dtype).unsqueeze(1)


class _Rotate(torch.autograd.Function):
    """x * cos + (-second half, first half) * sin, in three passes over memory; the gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x_THD: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
        ctx.save_for_backward(cos_T1D, sin_T1D)
        return _turned(x_THD, cos_T1D, sin_T1D, 1.0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        cos_T1D, sin_T1D = ctx.saved_tensors
        return _turned(grad_outputs[0], cos_T1D, sin_T1D, -1.0), None, None


def _turned(x_THD: Tensor, cos_T1D: Tensor, sin_T1D: Tensor, sign: float) -> Tensor:
    result = x_THD * cos_T1D
    half = x_THD.size(-1) // 2
    sin = sin_T1D[..., :half]  # both halves of the table are the same
    result[..., :half].addcmul_(x_THD[..., half:], sin, value=-sign)
    result[..., half:].addcmul_(x_THD[..., :half], sin, value=sign)
    return result


def rotate(x_THD: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    """The rotary embedding of x [T, H, D], by the tables of `rotary_tables`."""
    result: Tensor = _Rotate.apply(x_THD, cos_T1D, sin_T1D)  # type: ignore[no-untyped-call]
    return result


def _group_documents(
    spans: list[tuple[int, int]], device: torch.device, parent: slice | None = None
) -> tuple[list[DocumentGroup], list[Tensor]]:
    """Groups documents (start, length) by the power of two of their length, so that padding stays under half.

    Returns the groups, and the places of the tokens that each group's output holds.
    """
    members: dict[int, list[tuple[int, int]]] = {}
    for start, length in spans:
        members.setdefault((length - 1).bit_length(), []).append((start, length))
    groups, order = [], []
    for _, documents in sorted(members.items()):
        first_n1 = torch.tensor([[start] for start, _ in documents])
        length_n1 = torch.tensor([[length] for _, length in documents])
        steps_1L = torch.arange(int(length_n1.max()))[None, :]
        token_index = first_n1 + torch.minimum(steps_1L, length_n1 - 1)
        valid = steps_1L < length_n1
        order.append(token_index[valid])
        padded = not bool(valid.all())
        first, last = documents[0][0], documents[-1][0] + documents[-1][1]
        adjacent = (
            not padded and last - first == token_index.numel() and bool((token_index.flatten().diff() == 1).all())
        )
        groups.append(
            DocumentGroup(
                token_index.to(device),
                valid.to(device) if padded else None,
                slice(first, last) if adjacent else None,
                parent,
            )
        )
    return groups, order


def _spans_here(lengths: list[int], cp_size: int, cp_rank: int) -> tuple[list[tuple[int, int]], list[CutDocument]]:
    """The documents that lie whole in a chunk of this rank, as (start among its tokens, length), and the cut ones."""
    whole, cut, offset = [], [], 0
    for chunk_start, chunk_end in chunk_ranges(sum(lengths), cp_size, cp_rank):
        start = 0
        for length in lengths:
            end = start + length
            first, last = max(start, chunk_start), min(end, chunk_end)
            place = offset + first - chunk_start
            if last - first == length and length:
                whole.append((place, length))
            elif last > first:
                cut.append(CutDocument(slice(place, place + last - first), slice(start, last)))
            start = end
        offset += chunk_end - chunk_start
    return whole, cut


def _segments_after(
    spans: list[tuple[int, int]], parents: Sequence[int], device: torch.device
) -> tuple[list[DocumentGroup], list[Tensor]]:
    """The groups of segments that start anew, then those of the segments that go on from each parent."""
    children: dict[int, list[tuple[int, int]]] = {}
    for span, parent in zip(spans, parents, strict=True):
        children.setdefault(parent, []).append(span)
    groups, order = [], []
    for parent, members in sorted(children.items()):
        start, length = spans[parent] if parent != NO_PARENT else (0, 0)
        before = None if parent == NO_PARENT else slice(start, start + length)
        found, places = _group_documents(members, device, before)
        groups += found
        order += places
    return groups, order


def _attend_short(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Causal attention [n, H, L, D] by two matrix products of query, the last L of key and value [n, K, S, D]."""
    n, heads, length, dim = query.shape
    groups, seen = heads // key.size(1), key.size(2)
    scores = (query * scale).reshape(n, -1, groups * length, dim) @ key.transpose(-1, -2)
    scores = scores.view(n, -1, groups, length, seen).masked_fill(~_last_causal(query, key), float("-inf"))
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return (weights.view(n, -1, groups * length, seen) @ value).view(n, heads, length, dim)


def _after_parent(parent_PKD: Tensor, own: Tensor) -> Tensor:
    """Keys or values [n, K, P + L, D] of n segments [n, K, L, D] behind those of the parent that they share."""
    return torch.cat([parent_PKD.transpose(0, 1).expand(own.size(0), -1, -1, -1), own], dim=2)


def _last_causal(query: Tensor, key: Tensor) -> Tensor:
    """Mask of queries [.., L, D] that are the last L of the keys [.., S, D]: query i sees keys 0 to S - L + i."""
    length, seen = query.size(-2), key.size(-2)
    return torch.ones(length, seen, dtype=torch.bool, device=query.device).tril(seen - length)


def pack_sequence(
    cu_seqlens: Tensor,
    positions_T: Tensor,
    config: TransformerConfig,
    rope_theta: float,
    dtype: torch.dtype,
    cp: Axis | None = None,
    parents: Sequence[int] | None = None,
) -> PackedSequence:
    """What the attention of every layer needs to know of a packed micro-batch.

    Args:
        cu_seqlens: borders of the segments of the whole row, int32 [number of segments + 1], from 0 to its length.
        positions_T: position of each token of the whole row in its document.
        cp: the ranks over which the row is split; None where each has it whole.
        parents: for each segment the one that it goes on from, -1 where it starts anew; None: each is a document.

    Raises:
        ValueError: parents in a row that is split.
    """
    lengths, device = cu_seqlens.diff().tolist(), positions_T.device
    size, rank = (cp.size, cp.rank) if cp is not None else (1, 0)
    if size > 1:
        positions_T = positions_T[local_index(sum(lengths), size, rank).to(device)]
    cos, sin = rotary_tables(positions_T, config.kv_channels, rope_theta, dtype)
    spans, cut = _spans_here(lengths, size, rank)
    if parents is None or max(parents, default=NO_PARENT) == NO_PARENT:
        parents = [NO_PARENT] * len(spans)
    elif size > 1:
        raise ValueError(f"segments that go on from others in a row that is split over cp={size}; do not share prompts")
    borders = {end for place in range(size) for span in chunk_ranges(sum(lengths), size, place) for end in span}
    any_cut = not borders <= set(cu_seqlens.tolist())  # on any rank: all of them gather, or none
    longest = max(lengths)
    packed = PackedSequence(
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens.to(device),
        cu_seqlens_kv=cu_seqlens.to(device),
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
        cos_T1D=cos,
        sin_T1D=sin,
        cp=cp if any_cut else None,
        row_order=row_order(sum(lengths), size).to(device) if any_cut else None,
        positions_T=positions_T,
    )
    if on_kernels(device):
        parts = [(part.queries, part.keys) for part in cut]
        packed.varlen = varlen_row(spans, parts, positions_T.numel(), device, parents)
    else:
        packed.groups, order = _segments_after(spans, parents, device)
        packed.cut = cut
        joined = torch.cat([*order, *(torch.arange(part.queries.start, part.queries.stop) for part in cut)])
        packed.restore_T = None if bool((joined.diff() > 0).all()) else joined.argsort().to(device)
    return packed


def on_kernels(device: torch.device) -> bool:
    """Whether attention takes document borders (CUDA), or padded groups of documents (CPU)."""
    return device.type == "cuda"


class PackedAttention(MegatronModule):
    """Core attention of the local layer spec. Takes and gives thd tensors; needs a `PackedSequence`."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: Any = None,
        attention_type: str = "self",
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: Any = None,
    ) -> None:
        super().__init__(config=config)
        self.layer_number = layer_number
        self.scale = softmax_scale if softmax_scale is not None else config.kv_channels**-0.5

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        attn_mask_type: Any = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: PackedSequence | None = None,
    ) -> Tensor:
        """Attention output [T, H * D] of query [T, H, D] over key and value [T, K, D]."""
        packed = packed_seq_params
        assert packed is not None and packed.cos_T1D is not None and packed.sin_T1D is not None
        query = rotate(query, packed.cos_T1D, packed.sin_T1D)
        key = rotate(key, packed.cos_T1D, packed.sin_T1D)
        if packed.cache is not None:
            keys, values = self._store(packed, packed.cache, key, value)
            if packed.decode:
                return self._decode(packed, query, keys, values)
        return self._attend_documents(packed, query, key, value)

    def _attend_documents(self, packed: PackedSequence, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if packed.varlen is not None:
            gather = None if packed.cp is None else lambda: self._gathered(packed, key, value)
            return attend_row(packed.varlen, query, key, value, gather, self.scale).reshape(query.size(0), -1)
        outputs = []
        for group in packed.groups:
            index, span = group.token_index_nL, group.span
            q, k, v = (
                (x[index] if span is None else x[span].unflatten(0, index.shape)).transpose(1, 2)  # [n, heads, L, D]
                for x in (query, key, value)
            )
            if group.parent is not None:
                k, v = (_after_parent(x[group.parent], own) for x, own in ((key, k), (value, v)))
            if query.device.type == "cpu" and index.size(1) <= SHORT_DOCUMENT_TOKENS.get(query.dtype, OTHERWISE_SHORT):
                out = _attend_short(q, k, v, self.scale)
            elif group.parent is not None:
                mask = causal_lower_right(q.size(2), k.size(2))
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=True)
            else:
                out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=True)
            out = out.transpose(1, 2)  # [n, L, H, D]
            outputs.append(out.flatten(0, 1) if group.valid_nL is None else out[group.valid_nL])
        if packed.cp is not None:
            outputs += self._attend_cut_documents(packed, query, key, value)
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if packed.restore_T is not None:
            joined = joined[packed.restore_T]
        return joined.reshape(query.size(0), -1)

    def _attend_cut_documents(self, packed: PackedSequence, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Attention [L, H, D] of the queries of each cut document over its keys so far, of which other ranks have some.

        Every rank gathers, whether or not it has such a document: the gradients of its own keys come back this way.
        """
        keys, values = self._gathered(packed, key, value)
        outputs = []
        for part in packed.cut:
            q, k, v = (x.transpose(0, 1)[None] for x in (query[part.queries], keys[part.keys], values[part.keys]))
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=_last_causal(q, k), scale=self.scale, enable_gqa=True
            )
            outputs.append(out[0].transpose(0, 1))
        if not outputs:
            outputs.append(query[:0] + keys[:0].sum() + values[:0].sum())
        return outputs

    def _gathered(self, packed: PackedSequence, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [T, K, D] of the whole row. A collective over the context-parallel ranks."""
        assert packed.cp is not None and packed.row_order is not None
        keys, values = gather_row(torch.stack([key, value], dim=1), packed.row_order, packed.cp).unbind(1)
        return keys, values

    def _store(self, packed: PackedSequence, cache: KVCache, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        assert packed.cache_rows_T is not None and packed.positions_T is not None
        keys, values = cache.layer(self.layer_number, key)
        keys[packed.cache_rows_T, :, packed.positions_T] = key
        values[packed.cache_rows_T, :, packed.positions_T] = value
        return keys, values

    def _decode(self, packed: PackedSequence, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        assert packed.positions_T is not None
        length = packed.max_seqlen_kv
        batch = keys.size(0)
        seen_BL = torch.arange(length, device=query.device)[None, :] <= packed.positions_T[:batch, None]
        heads = query[:batch].view(batch, keys.size(1), -1, query.size(-1))  # [B, K, H / K, D]: queries of a KV head
        out = F.scaled_dot_product_attention(
            heads,
            keys[:, :, :length],
            values[:, :, :length],
            attn_mask=seen_BL[:, None, None, :],
            scale=self.scale,
        ).reshape(batch, -1)
        if batch < query.size(0):  # rows that only pad T to a multiple of tp
            out = torch.cat([out, out.new_zeros(query.size(0) - batch, out.size(1))])
        return out

    def sharded_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """No parameters."""
        return {}
