"""DPO against a reference in float64, and its independence of how pairs are packed."""

from __future__ import annotations

import math

import pytest
import torch

from megatron_redone.objectives.base import LabelledTokens, LossTerms
from megatron_redone.objectives.dpo import DPO


def batch(pairs: int, seed: int) -> tuple[torch.Tensor, LabelledTokens]:
    """Log-probabilities of 2 * `pairs` answers of 1 to 5 tokens in packed order."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (2 * pairs,), generator=generator)
    document = torch.repeat_interleave(torch.arange(2 * pairs), lengths)
    logprobs = -torch.rand(document.numel(), generator=generator, dtype=torch.float64) * 4
    reference = -torch.rand(document.numel(), generator=generator, dtype=torch.float64) * 4
    tokens = LabelledTokens(torch.ones_like(logprobs), document, {"reference_logprobs": reference})
    return logprobs, tokens


def by_hand(logprobs: torch.Tensor, tokens: LabelledTokens, beta: float) -> tuple[float, float]:
    preference = sft = 0.0
    for pair in range(int(tokens.document_N.max() + 1) // 2):
        ratio = []
        for document in (2 * pair, 2 * pair + 1):
            mine = tokens.document_N == document
            ratio.append(float((logprobs[mine] - tokens.signals["reference_logprobs"][mine]).sum()))
        preference += math.log1p(math.exp(-beta * (ratio[0] - ratio[1])))
        sft -= float(logprobs[tokens.document_N == 2 * pair].sum())
    return preference, sft


def sums(terms: LossTerms) -> dict[str, float]:
    return {term.name: float(term.loss_sum) for term in terms.terms}


def test_terms_equal_the_formula() -> None:
    logprobs, tokens = batch(pairs=7, seed=1)
    found = sums(DPO(beta=0.3)(logprobs, tokens))
    preference, sft = by_hand(logprobs, tokens, beta=0.3)
    assert found == pytest.approx({"preference": preference, "sft": sft}, rel=1e-12)
    assert DPO().count_units(tokens) == {"preference": 7.0, "sft": float((tokens.document_N % 2 == 0).sum())}


def test_the_gradient_equals_that_of_the_formula() -> None:
    logprobs, tokens = batch(pairs=3, seed=2)
    logprobs.requires_grad_()
    objective = DPO(beta=0.5, sft_coefficient=0.7)
    terms = objective(logprobs, tokens).terms
    loss: torch.Tensor = sum((term.weight * term.loss_sum for term in terms), torch.zeros(()))
    (gradient,) = torch.autograd.grad(loss, logprobs)
    step = 1e-6
    for place in range(logprobs.numel()):
        values = []
        for shift in (step, -step):
            moved = logprobs.detach().clone()
            moved[place] += shift
            preference, sft = by_hand(moved, tokens, beta=0.5)
            values.append(preference + 0.7 * sft)
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=1e-7)


def test_no_pairs_give_no_loss() -> None:
    empty = torch.zeros(0)
    tokens = LabelledTokens(empty, torch.zeros(0, dtype=torch.int64), {"reference_logprobs": empty})
    assert sums(DPO()(empty, tokens)) == {"preference": 0.0, "sft": 0.0}
    assert DPO().count_units(tokens) == {"preference": 0.0, "sft": 0.0}
