"""Every kind of mapping: cut for any number of ranks and joined again, a tensor is what it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from megatron_redone.checkpoint.mapping import QKV, GatedMLP, PaddedVocabulary, ParamMapping, Plain, TiedHead

SIZES = st.sampled_from((1, 2, 4))
SMALL = st.integers(1, 5)
DTYPES = st.sampled_from((torch.float32, torch.bfloat16))


def numbered(*shape: int, dtype: torch.dtype = torch.float32, first: int = 0) -> Tensor:
    """Every entry different in bits, in bf16 too (its first 32,512 patterns are finite)."""
    count = torch.Size(shape).numel()
    bits = torch.arange(first, first + count, dtype=torch.int16 if dtype == torch.bfloat16 else torch.int32)
    return bits.view(dtype).reshape(shape)


def returns_bitwise(row: ParamMapping, tensors: dict[str, Tensor], size: int) -> bool:
    parts = [row.to_megatron(tensors, rank, size) for rank in range(size)]
    assert len({part.shape for part in parts}) == 1, "every rank holds as much"
    back = row.to_hf(parts)
    return back.keys() == tensors.keys() and all(
        back[name].dtype == tensor.dtype and torch.equal(back[name], tensor) for name, tensor in tensors.items()
    )


@given(SIZES, SMALL, SMALL, st.sampled_from((None, 0, 1)), DTYPES)
def test_plain_returns(size: int, rows: int, columns: int, split: int | None, dtype: torch.dtype) -> None:
    shape = [rows * (size if split == 0 else 1), columns * (size if split == 1 else 1)]
    assert returns_bitwise(Plain("m", "a", split_dim=split), {"a": numbered(*shape, dtype=dtype)}, size)


@given(SIZES, SMALL, SMALL, st.integers(1, 3), st.sampled_from((2, 4)), st.booleans(), DTYPES)
def test_qkv_returns(
    size: int, groups: int, hidden: int, queries_per_group: int, head_dim: int, bias: bool, dtype: torch.dtype
) -> None:
    kv_heads = groups * size
    heads = kv_heads * queries_per_group
    rest = () if bias else (hidden,)
    row = QKV("m", "q", "k", "v", num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim)
    tensors = {
        name: numbered(count * head_dim, *rest, dtype=dtype, first=number * 7_000)
        for number, (name, count) in enumerate((("q", heads), ("k", kv_heads), ("v", kv_heads)))
    }
    assert returns_bitwise(row, tensors, size)


@given(SIZES, SMALL, SMALL, DTYPES)
def test_gated_mlp_returns(size: int, rows: int, hidden: int, dtype: torch.dtype) -> None:
    tensors = {
        name: numbered(rows * size, hidden, dtype=dtype, first=first) for name, first in (("g", 0), ("u", 1_000))
    }
    assert returns_bitwise(GatedMLP("m", "g", "u"), tensors, size)


@given(SIZES, st.integers(4, 23), SMALL, DTYPES)
def test_padded_vocabulary_returns(size: int, vocab_size: int, hidden: int, dtype: torch.dtype) -> None:
    tensors = {"e": numbered(vocab_size, hidden, dtype=dtype)}
    assert returns_bitwise(PaddedVocabulary("m", "e", vocab_size), tensors, size)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_tied_head_is_a_copy_that_is_not_exported(size: int) -> None:
    tensors = {"e": numbered(5, 3)}
    head, embedding = TiedHead("head", "e", 5), PaddedVocabulary("embedding", "e", 5)
    for rank in range(size):
        part = head.to_megatron(tensors, rank, size)
        assert torch.equal(part, embedding.to_megatron(tensors, rank, size))
        assert head.to_hf([part]) == {}


def test_vocabulary_is_padded_with_zero_rows_at_the_end() -> None:
    row = PaddedVocabulary("m", "e", 3)
    tensors = {"e": torch.ones(3, 2)}
    assert row.to_megatron(tensors, 0, 2).tolist() == [[1, 1], [1, 1]]
    assert row.to_megatron(tensors, 1, 2).tolist() == [[1, 1], [0, 0]]


def test_qkv_holds_each_group_with_its_queries_first() -> None:
    row = QKV("m", "q", "k", "v", num_heads=4, num_kv_heads=2, head_dim=1)
    tensors = {"q": torch.tensor([0, 1, 2, 3]), "k": torch.tensor([10, 11]), "v": torch.tensor([20, 21])}
    assert row.to_megatron(tensors, 0, 1).tolist() == [0, 1, 10, 20, 2, 3, 11, 21]
    assert row.to_megatron(tensors, 1, 2).tolist() == [2, 3, 11, 21]


def test_gated_mlp_holds_gate_then_up_on_every_rank() -> None:
    tensors = {"g": torch.tensor([[0], [1]]), "u": torch.tensor([[10], [11]])}
    row = GatedMLP("m", "g", "u")
    assert [row.to_megatron(tensors, rank, 2).flatten().tolist() for rank in (0, 1)] == [[0, 10], [1, 11]]
