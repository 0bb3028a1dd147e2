"""Attention by document borders equals attention by padded groups: what the kernels of CUDA are given is right."""

from __future__ import annotations

import itertools

import pytest
import torch

from megatron_redone.models import attention, varlen
from megatron_redone.models.attention import PackedAttention, pack_sequence
from megatron_redone.models.varlen import Borders, attend_row, varlen_row
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine
from tests.distributed.layout_cases import shape_of

LENGTHS = [5, 1, 17, 64, 65, 3, 128]
PARENTS = [-1, 0, -1, 2, 2, 2, -1]
"""The second segment goes on from the first, the next three but one from the third."""


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, borders: Borders, scale: float) -> torch.Tensor:
    """What the kernel computes, score by score: queries are the last of their document's keys."""
    out = []
    times = query.size(1) // key.size(1)
    q_ends, k_ends = borders.cu_q.tolist(), borders.cu_k.tolist()
    assert max(b - a for a, b in itertools.pairwise(q_ends)) == borders.longest_q
    assert max(b - a for a, b in itertools.pairwise(k_ends)) == borders.longest_k
    assert borders.cu_q.dtype == borders.cu_k.dtype == torch.int32
    for q0, q1, k0, k1 in zip(q_ends, q_ends[1:], k_ends, k_ends[1:], strict=False):
        k, v = (x[k0:k1].repeat_interleave(times, 1) for x in (key, value))
        scores = torch.einsum("qhd,khd->hqk", query[q0:q1], k) * scale
        seen = torch.arange(k1 - k0)[None, :] <= torch.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0)
        out.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), v))
    return torch.cat(out)


def qkv(num_tokens: int, heads: int, kv_heads: int, dim: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = (heads, kv_heads, kv_heads)
    return [torch.randn(num_tokens, size, dim, generator=generator, requires_grad=True) for size in sizes]


@pytest.mark.parametrize("parents", [None, PARENTS], ids=["documents", "shared prompts"])
@pytest.mark.parametrize("kernel", ["flash", "efficient"])
def test_borders_give_what_groups_give(
    kernel: str, parents: list[int] | None, parallel_context: ParallelContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "flash":
        monkeypatch.setattr(varlen, "SHORT_TYPES", (torch.float32,))
        monkeypatch.setattr(varlen, "_flash", plain)
    model = MegatronEngine(shape_of("qwen3-tiny"), parallel_context).model
    ends = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    core = PackedAttention(model.config, 1)
    results = []
    for by_borders in (False, True):
        monkeypatch.setattr(attention, "on_kernels", lambda device, answer=by_borders: answer)
        packed = pack_sequence(ends, positions, model.config, 1e4, torch.float32, parents=parents)
        assert (packed.varlen is not None) == by_borders and bool(packed.groups) != by_borders
        inputs = qkv(int(ends[-1]), 4, 2, model.config.kv_channels)
        out = core(*inputs, packed_seq_params=packed)
        out.square().sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for groups, borders in zip(*results, strict=True):
        torch.testing.assert_close(borders, groups, atol=2e-5, rtol=1e-5)


def test_cut_documents_see_their_keys_on_other_ranks() -> None:
    # A row of 16 tokens over cp=2: this rank holds 4..12; documents 0..2, 2..9 (cut before), 9..16 (cut after).
    query, key, value = (x.detach() for x in qkv(16, 2, 1, 8))
    here = slice(4, 12)
    cut = [(slice(0, 5), slice(2, 9)), (slice(5, 8), slice(9, 12))]
    row = varlen_row([], cut, 8, torch.device("cpu"))
    got = attend_row(row, query[here], key[here], value[here], lambda: (key, value), 0.5)
    ends = torch.tensor([0, 2, 9, 16], dtype=torch.int32)
    whole = plain(query, key, value, Borders(None, None, ends, ends, 7, 7), 0.5)
    torch.testing.assert_close(got, whole[here])


def test_whole_and_cut_documents_come_back_in_their_order() -> None:
    query, key, value = (x.detach() for x in qkv(12, 2, 1, 8))
    # This rank's tokens are places 0..4 (a cut document, its first part) and 4..8 (whole) of the row.
    row = varlen_row([(4, 4)], [(slice(0, 4), slice(0, 4))], 8, torch.device("cpu"))
    assert row.restore_t is not None
    got = attend_row(row, query[:8], key[:8], value[:8], lambda: (key, value), 0.5)
    ends = torch.tensor([0, 4, 8, 12], dtype=torch.int32)
    torch.testing.assert_close(got, plain(query, key, value, Borders(None, None, ends, ends, 4, 4), 0.5)[:8])


def test_a_rank_without_cut_documents_takes_part_in_the_gather() -> None:
    query, key, value = qkv(4, 2, 1, 8)
    row = varlen_row([(0, 4)], [], 4, torch.device("cpu"))
    called = []

    def gather() -> tuple[torch.Tensor, torch.Tensor]:
        called.append(True)
        return key, value

    out = attend_row(row, query, key, value, gather, 0.5)
    assert called and out.shape == (4, 2, 8)
