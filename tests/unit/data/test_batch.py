from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st

from megatron_redone.data.batch import Document, PackedBatch


@st.composite
def documents(draw: st.DrawFn) -> list[Document]:
    result = []
    for index, length in enumerate(draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))):
        numbers = st.lists(st.integers(1, 500), min_size=length, max_size=length)
        mask = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        signals = {name: [float(x) for x in draw(numbers)] for name in ("advantages", "old_logprobs")}
        result.append(Document(draw(numbers), mask, f"d{index}", signals))
    return result


@given(rows=documents(), multiple=st.integers(1, 8))
def test_batch_equals_a_naive_loop(rows: list[Document], multiple: int) -> None:
    batch = PackedBatch.from_documents(rows, pad_to_multiple_of=multiple, pad_id=7)
    tokens, labels, weights, positions, borders = [], [], [], [], [0]
    signals: dict[str, list[float]] = {"advantages": [], "old_logprobs": []}
    for row in rows:
        for t in range(len(row)):
            last = t == len(row) - 1
            tokens.append(row.token_ids[t])
            positions.append(t)
            labels.append(0 if last else row.token_ids[t + 1])
            weights.append(0.0 if last else float(row.loss_mask[t + 1]))
            for name, values in signals.items():
                values.append(0.0 if last else row.signals[name][t + 1])
        borders.append(len(tokens))
    padding = -len(tokens) % multiple
    if padding:
        tokens += [7] * padding
        labels += [7] * (padding - 1) + [0]
        weights += [0.0] * padding
        positions += range(padding)
        borders.append(len(tokens))
        for values in signals.values():
            values += [0.0] * padding
    assert batch.tokens.tolist() == tokens
    assert batch.labels.tolist() == labels
    assert batch.loss_weights.tolist() == weights
    assert batch.positions.tolist() == positions
    assert batch.cu_seqlens.tolist() == borders
    assert {name: values.tolist() for name, values in batch.signals.items()} == signals
    assert batch.sample_ids == [row.sample_id for row in rows]
    assert batch.num_tokens == len(tokens)
    assert batch.num_tokens % multiple == 0
    assert batch.max_seqlen == max(b - a for a, b in pairwise(borders))
    assert batch.logit_positions.tolist() == [t for t, weight in enumerate(weights) if weight]


def test_types_and_fractional_weights() -> None:
    batch = PackedBatch.from_documents([Document([3, 4, 5], [0, 0.5, 1], "a", {"s": [1, 2, 3]})])
    assert batch.loss_weights.tolist() == [0.5, 1.0, 0.0]
    assert [t.dtype for t in (batch.tokens, batch.labels, batch.positions)] == [torch.int64] * 3
    assert batch.cu_seqlens.dtype == torch.int32
    assert batch.loss_weights.dtype == batch.signals["s"].dtype == torch.float32


def test_no_documents_make_a_filler_without_weight() -> None:
    batch = PackedBatch.from_documents([], pad_to_multiple_of=4, pad_id=9, signal_names=["advantages"])
    assert batch.tokens.tolist() == [9] * 4
    assert batch.cu_seqlens.tolist() == [0, 4]
    assert batch.signals["advantages"].tolist() == [0.0] * 4
    assert batch.sample_ids == []
    assert batch.logit_positions.numel() == 0
    assert PackedBatch.from_documents([]).num_tokens == 1


def test_signals_have_to_agree() -> None:
    rows = [Document([1, 2], [1, 1], "a", {"x": [1.0, 2.0]}), Document([1, 2], [1, 1], "b")]
    with pytest.raises(ValueError, match=r"document 'b' carries the signals \[\], the batch \['x'\]"):
        PackedBatch.from_documents(rows)
    with pytest.raises(ValueError, match="document 'b'"):
        PackedBatch.from_documents(rows[1:], signal_names=["x"])


def test_moving_a_batch_keeps_everything() -> None:
    batch = PackedBatch.from_documents([Document([1, 2, 3], [1, 1, 1], "a", {"x": [1.0, 2.0, 3.0]})])
    moved = batch.to("meta")
    assert moved.tokens.device.type == moved.signals["x"].device.type == moved.cu_seqlens.device.type == "meta"
    assert moved.max_seqlen == 3  # known without reading the device
    bare = PackedBatch(
        batch.tokens,
        batch.labels,
        batch.loss_weights,
        batch.positions,
        batch.cu_seqlens,
        {},
        batch.sample_ids,
        batch.parents,
        batch.segment_of,
    )
    assert bare.max_seqlen == 3
