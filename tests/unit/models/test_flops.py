"""The operations we count are those that torch counts while the model runs, the masked half of attention aside."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from megatron_redone.data.batch import PackedBatch
from megatron_redone.data.document import Document
from megatron_redone.models.flops import forward_flops, training_flops
from megatron_redone.models.presets import get_preset
from megatron_redone.models.weights import RandomWeights
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.training.rows import LABEL_MULTIPLE

LENGTH, LABELS = 60, LABEL_MULTIPLE
"""Short: attention is two matrix products, which torch counts."""


@pytest.mark.parametrize("preset", ["llama-tiny", "qwen2.5-tiny", "qwen3-tiny", "qwen3-moe-tiny"])
def test_forward_operations(parallel_context: ParallelContext, preset: str) -> None:
    shape = get_preset(preset)
    engine = MegatronEngine(shape, parallel_context)
    engine.load_hf_weights(RandomWeights(shape, 0), preset)
    labelled = [0.0] * (LENGTH - LABELS) + [1.0] * LABELS
    batch = PackedBatch.from_documents([Document([1] * LENGTH, labelled, "a")])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        engine.logprobs([batch])
    pairs = LENGTH * LENGTH - LENGTH * (LENGTH + 1) / 2  # of a query and a later key: torch counts them
    masked = 4.0 * shape.num_heads * shape.head_dim * pairs * shape.num_layers
    assert counter.get_total_flops() == forward_flops(shape, [LENGTH], num_logits=LABELS) + masked


def test_documents_add_up_and_backward_is_two_forwards() -> None:
    shape = get_preset("qwen3-8b")
    together = forward_flops(shape, [100, 300], 50)
    assert together == forward_flops(shape, [100], 20) + forward_flops(shape, [300], 30)
    assert together < forward_flops(shape, [400], 50)
    assert training_flops(shape, [100, 300], 50) == 3 * together


def test_a_mixture_computes_with_its_active_parameters() -> None:
    shape = get_preset("qwen3-30b-a3b")
    per_token = forward_flops(shape, [1], 1) / 2
    norms_and_embedding = shape.vocab_size * shape.hidden_size
    assert per_token == pytest.approx(shape.num_parameters(active=True) - norms_and_embedding, rel=1e-3)
