"""A gradient that is given gives the same training step as the objective that it was computed from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from megatron_redone.objectives.dpo import DPO
from megatron_redone.objectives.given_gradient import GivenGradient
from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.batches import pack
from megatron_redone.training.config import OptimizerConfig
from megatron_redone.training.engine import MegatronEngine, labelled_tokens
from megatron_redone.verification.layout import SpreadWeights
from tests.distributed.layout_cases import documents, shape_of

SIGNALS = ("reference_logprobs",)


def engine_of(context: ParallelContext) -> MegatronEngine:
    shape = shape_of("qwen3-tiny")
    engine = MegatronEngine(shape, context, OptimizerConfig(lr=1e-2))
    engine.load_hf_weights(SpreadWeights(shape, 3), "test weights")
    return engine


@pytest.mark.parametrize("cut", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[2], [0, 3, 1]]])
def test_equals_the_objective_it_stands_for(cut: list[list[int]], parallel_context: ParallelContext) -> None:
    engine, shape = engine_of(parallel_context), shape_of("qwen3-tiny")
    found = [
        replace(document, signals={"reference_logprobs": [-2.0 - 0.1 * i for i in range(len(document))]})
        for document in documents(0, shape.vocab_size)[:4]
    ]
    whole, objective = pack(found, engine, SIGNALS), DPO()
    engine.accumulate_gradients([whole], objective)
    expected = {name: tensor.clone() for name, tensor in engine.export_hf_gradients()}

    logprobs = engine.logprobs([whole])[0].requires_grad_()
    tokens = labelled_tokens(whole)
    units = objective.count_units(tokens)
    terms = objective(logprobs[whole.logit_positions], tokens)
    loss = sum(term.weight * term.loss_sum / units[term.name] for term in terms.terms)
    (gradient,) = torch.autograd.grad(loss, logprobs)  # type: ignore[arg-type]
    given, start, num_labels = [], 0, whole.logit_positions.numel()
    for document in found:
        values = (gradient[start : start + len(document) - 1] * num_labels).tolist()
        given.append(replace(document, signals={"gradient": [0.0, *values]}))
        start += len(document)

    engine.accumulate_gradients([pack([given[i] for i in row], engine, ("gradient",)) for row in cut], GivenGradient())
    for name, tensor in engine.export_hf_gradients():
        torch.testing.assert_close(tensor, expected[name], atol=2e-6, rtol=1e-5, msg=name)
