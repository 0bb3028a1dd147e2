"""The engine's loss and gradients do not depend on how a batch is cut, and its steps are repeatable."""

from __future__ import annotations

import pytest
import torch

from megatron_redone.objectives.base import Objective
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.next_token import NextToken
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import EPSILON, SIGNALS, documents, shape_of

CUTS = {
    "one row": [[0, 1, 2, 3, 4, 5, 6]],
    "a row each": [[0], [1], [2], [3], [4], [5], [6]],
    "uneven": [[6, 2], [0, 1, 3, 4], [5]],
    "with an empty one": [[0, 1, 2, 3], [], [4, 5, 6]],
}


def train(
    cut: list[list[int]], objective: Objective, context: ParallelContext
) -> tuple[float, dict[str, torch.Tensor]]:
    shape = shape_of("qwen3-tiny")
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-2, epsilon=EPSILON))
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    found = documents(0, shape.vocab_size)
    batches = [pack([found[i] for i in row], engine, SIGNALS) for row in cut]
    loss = engine.train_step(batches, objective, 1e-2)["loss"]
    return loss, {name: tensor.clone() for name, tensor in engine.export_hf_weights()}


@pytest.mark.parametrize("objective", [NextToken(), DAPO()], ids=["next_token", "dapo"])
@pytest.mark.parametrize("cut", list(CUTS)[1:])
def test_the_split_into_microbatches_does_not_matter(
    cut: str, objective: Objective, parallel_context: ParallelContext
) -> None:
    expected_loss, expected = train(CUTS["one row"], objective, parallel_context)
    loss, weights = train(CUTS[cut], objective, parallel_context)
    assert loss == pytest.approx(expected_loss, rel=2e-6)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, atol=2e-6, rtol=0, msg=name)


def test_the_same_step_twice_gives_the_same_bits(parallel_context: ParallelContext) -> None:
    first, second = (train(CUTS["uneven"], DAPO(), parallel_context) for _ in range(2))
    assert first[0] == second[0]
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_loss_equals_transformers(parallel_context: ParallelContext) -> None:
    import transformers

    from megatron_redone.models.families import shape_to_hf

    shape = shape_of("qwen3-tiny")
    weights = SpreadWeights(shape, 3)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape_to_hf(shape, "float32")))
    model.load_state_dict({name: weights[name] for name in weights}, strict=False)
    model.tie_weights()
    losses, labels = [], 0
    for document in documents(0, shape.vocab_size):
        ids = torch.tensor(document.token_ids)
        logprobs = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(-1, ids[1:, None])[:, 0]
        mask = torch.tensor(document.loss_mask)[1:].bool()
        losses.append(-logprobs[mask].sum())
        labels += int(mask.sum())
    expected = float(torch.stack(losses).sum().detach()) / labels  # mean over all labelled tokens of the batch
    loss, _ = train(CUTS["one row"], NextToken(), parallel_context)
    assert loss == pytest.approx(expected, rel=1e-6)
