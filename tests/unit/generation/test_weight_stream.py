"""Weights on their way: every bit counts into the digest, and what does not fit the model is listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, strategies
from torch import Tensor

from megatron_redone.common.errors import CheckpointError
from megatron_redone.generation.weight_stream import CheckedStream, WeightDigest, tensor_digest
from megatron_redone.models.presets import PRESETS
from megatron_redone.models.weights import RandomWeights

SHAPE = PRESETS["qwen3-tiny"]
TYPES = (torch.float32, torch.bfloat16, torch.float64)


@given(strategies.integers(0, 99), strategies.integers(0, 31), strategies.sampled_from(TYPES))
def test_a_flipped_bit_shows(place: int, bit: int, dtype: torch.dtype) -> None:
    values = torch.arange(100, dtype=torch.float32).to(dtype)
    flipped = values.clone()
    bits = flipped.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flipped.element_size()])
    bits[place] ^= 1 << (bit % (8 * flipped.element_size() - 1))
    assert tensor_digest("x", values) != tensor_digest("x", flipped)


@given(strategies.integers(0, 98), strategies.integers(1, 99))
def test_swapped_elements_show(first: int, distance: int) -> None:
    values = torch.arange(100, dtype=torch.float32)
    second = min(99, first + distance)
    swapped = values.clone()
    swapped[[first, second]] = values[[second, first]]
    assert tensor_digest("x", values) != tensor_digest("x", swapped)


def test_name_shape_and_type_count_but_not_layout_in_memory() -> None:
    values = torch.arange(12, dtype=torch.float32).view(3, 4)
    digests = {
        tensor_digest("x", values),
        tensor_digest("y", values),
        tensor_digest("x", values.view(4, 3)),
        tensor_digest("x", values.bfloat16()),
    }
    assert len(digests) == 4
    assert tensor_digest("x", values.t().contiguous().t()) == tensor_digest("x", values)


def test_pieces_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1000)
    whole = tensor_digest("x", values)
    monkeypatch.setattr("megatron_redone.generation.weight_stream._PIECE", 7)
    assert tensor_digest("x", values) == whole


def test_the_order_of_tensors_does_not_count() -> None:
    one, other = WeightDigest(), WeightDigest()
    tensors = list(RandomWeights(SHAPE, 0).items())
    for name, tensor in tensors:
        one.add(name, tensor)
    for name, tensor in reversed(tensors):
        other.add(name, tensor)
    assert one.value == other.value


def test_a_whole_stream_passes_and_a_tied_head_is_left_out() -> None:
    weights = dict(RandomWeights(SHAPE, 0))
    checked = CheckedStream({**weights, "lm_head.weight": torch.ones(1)}.items(), SHAPE, "update")
    assert dict(checked).keys() == weights.keys()
    assert checked.finish() == checked.digest.value


def test_a_stream_is_read_once_and_to_its_end() -> None:
    read: list[str] = []

    def stream() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in RandomWeights(SHAPE, 0).items():
            read.append(name)
            yield name, tensor

    checked = CheckedStream(stream(), SHAPE, "update")
    next(iter(checked))
    checked.drain()
    checked.drain()
    assert len(read) == len(RandomWeights(SHAPE, 0))
    checked.finish()


def test_integers_are_no_weights_and_a_long_list_is_cut() -> None:
    stream = [("model.norm.weight", torch.ones(64, dtype=torch.int32))]
    checked = CheckedStream(stream, SHAPE, "update")
    checked.drain()
    with pytest.raises(CheckpointError, match=r"(?s)update: 46 tensors.*int32 is no type of weights.*and 38 more"):
        checked.finish()
