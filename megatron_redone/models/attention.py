"""Packed causal attention on torch's scaled_dot_product_attention, plugged into Megatron-core's layer spec.

Megatron-core's own local attention refuses packed sequences. This core takes thd tensors (all documents of a
micro-batch in one row), applies the rotary embedding at given positions, and attends inside documents only.
With a key-value cache it also serves generation over ragged prompts.

Shape legend: T tokens, H query heads, K key-value heads, D head dim, n documents of a group, L longest document
of a group, B cached sequences, S cache length (all per tensor-parallel rank).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

SHORT_DOCUMENT_TOKENS = 160
"""On CPU, torch's flash kernel costs ten times two matrix products at 40 tokens and half of them at 256."""


@dataclass
class KVCache:
    """Rotated keys and values of B sequences, by layer number: [B, K, S, D] each."""

    num_sequences: int
    max_tokens: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def layer(self, number: int, like_TKD: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers of a layer, made at its first use with the heads and type of `like_TKD`."""
        if number not in self.layers:
            shape = (self.num_sequences, like_TKD.size(1), self.max_tokens, like_TKD.size(2))
            self.layers[number] = (like_TKD.new_zeros(shape), like_TKD.new_zeros(shape))
        return self.layers[number]

    def repeat_sequences(self, repeats: int) -> None:
        """Makes `repeats` adjacent copies of every sequence (one prompt, several samples)."""
        self.num_sequences *= repeats
        self.layers = {
            number: (keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0))
            for number, (keys, values) in self.layers.items()
        }

    def keep_sequences(self, index_B: Tensor) -> None:
        """Keeps the sequences at these places (finished ones leave)."""
        self.num_sequences = index_B.numel()
        self.layers = {
            number: (keys.index_select(0, index_B), values.index_select(0, index_B))
            for number, (keys, values) in self.layers.items()
        }


@dataclass
class DocumentGroup:
    """Documents of similar length, attended in one padded call."""

    token_index_nL: Tensor
    """Place of each token in the packed row; padding repeats the document's last token."""
    valid_nL: Tensor | None
    """Where a token is real; None when nothing is padded."""


@dataclass
class PackedSequence(PackedSeqParams):
    """Megatron's packed-sequence parameters with what our core needs, computed once per micro-batch."""

    cos_T1D: Tensor | None = None
    sin_T1D: Tensor | None = None
    groups: list[DocumentGroup] = field(default_factory=list)
    restore_T: Tensor | None = None
    """Order that brings the concatenated groups back into the packed row."""
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


def _rotate(x_THD: Tensor, cos_T1D: Tensor, sin_T1D: Tensor) -> Tensor:
    first, second = x_THD.chunk(2, dim=-1)
    return x_THD * cos_T1D + torch.cat([-second, first], dim=-1) * sin_T1D


def _group_documents(lengths: list[int], device: torch.device) -> tuple[list[DocumentGroup], Tensor | None]:
    """Groups documents by the power of two of their length, so that padding stays under half."""
    starts, place = [], 0
    for length in lengths:
        starts.append(place)
        place += length
    members: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        if length:
            members.setdefault((length - 1).bit_length(), []).append(index)
    groups, order = [], []
    for _, indices in sorted(members.items()):
        first_n1 = torch.tensor([[starts[i]] for i in indices])
        length_n1 = torch.tensor([[lengths[i]] for i in indices])
        steps_1L = torch.arange(int(length_n1.max()))[None, :]
        token_index = first_n1 + torch.minimum(steps_1L, length_n1 - 1)
        valid = steps_1L < length_n1
        order.append(token_index[valid])
        padded = not bool(valid.all())
        groups.append(DocumentGroup(token_index.to(device), valid.to(device) if padded else None))
    in_order = len(indices) == len(lengths) if len(groups) == 1 else False
    restore = None if in_order else torch.cat(order).argsort().to(device)
    return groups, restore


def _attend_short(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Causal attention [n, H, L, D] by two matrix products over query [n, H, L, D], key and value [n, K, L, D]."""
    n, heads, length, dim = query.shape
    groups = heads // key.size(1)
    scores = (query * scale).reshape(n, -1, groups * length, dim) @ key.transpose(-1, -2)
    later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    scores = scores.view(n, -1, groups, length, length).masked_fill(later, float("-inf"))
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return (weights.view(n, -1, groups * length, length) @ value).view(n, heads, length, dim)


def pack_sequence(
    cu_seqlens: Tensor, positions_T: Tensor, config: TransformerConfig, rope_theta: float, dtype: torch.dtype
) -> PackedSequence:
    """What the attention of every layer needs to know of a packed micro-batch.

    Args:
        cu_seqlens: borders of the documents, int32 [number of documents + 1], from 0 to T.
        positions_T: position of each token in its document.
    """
    lengths = cu_seqlens.diff().tolist()
    cos, sin = rotary_tables(positions_T, config.kv_channels, rope_theta, dtype)
    groups, restore = _group_documents(lengths, positions_T.device)
    longest = max(lengths)
    return PackedSequence(
        qkv_format="thd",
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_kv=cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
        cos_T1D=cos,
        sin_T1D=sin,
        groups=groups,
        restore_T=restore,
        positions_T=positions_T,
    )


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
        query = _rotate(query, packed.cos_T1D, packed.sin_T1D)
        key = _rotate(key, packed.cos_T1D, packed.sin_T1D)
        if packed.cache is not None:
            keys, values = self._store(packed, packed.cache, key, value)
            if packed.decode:
                return self._decode(packed, query, keys, values)
        return self._attend_documents(packed, query, key, value)

    def _attend_documents(self, packed: PackedSequence, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        outputs = []
        for group in packed.groups:
            index = group.token_index_nL
            q, k, v = (x[index].transpose(1, 2) for x in (query, key, value))  # [n, heads, L, D]
            if query.device.type == "cpu" and index.size(1) <= SHORT_DOCUMENT_TOKENS:
                out = _attend_short(q, k, v, self.scale)
            else:
                out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=True)
            out = out.transpose(1, 2)  # [n, L, H, D]
            outputs.append(out.flatten(0, 1) if group.valid_nL is None else out[group.valid_nL])
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if packed.restore_T is not None:
            joined = joined[packed.restore_T]
        return joined.reshape(query.size(0), -1)

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
