"""The DAPO loss against a reference written token by token from the equations, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from megatron_redone.objectives.base import LabelledTokens
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.next_token import NextToken

N = 60


def tokens(seed: int, scale: float) -> tuple[torch.Tensor, LabelledTokens]:
    generator = torch.Generator().manual_seed(seed)
    logprobs = -torch.rand(N, generator=generator, dtype=torch.float64) * 3
    old = logprobs + scale * torch.randn(N, generator=generator, dtype=torch.float64)
    advantages = torch.randn(N, generator=generator, dtype=torch.float64)
    labelled = LabelledTokens(
        weights_N=torch.ones(N, dtype=torch.float64),
        document_N=torch.arange(N) // 6,
        signals={"advantages": advantages, "old_logprobs": old},
    )
    return logprobs.requires_grad_(), labelled


def reference(logprob: float, old: float, advantage: float, low: float, high: float, dual: float) -> float:
    """-min(r A, clip(r) A), bounded by dual * |A| where A < 0."""
    ratio = math.exp(max(-20.0, min(20.0, logprob - old)))
    clipped = max(1 - low, min(1 + high, ratio))
    gain = min(ratio * advantage, clipped * advantage)
    if advantage < 0:
        gain = max(gain, dual * advantage)
    return -gain


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("bounds", [(0.2, 0.28, 10.0), (0.1, 0.5, 2.0)])
def test_loss_equals_the_equations(scale: float, bounds: tuple[float, float, float]) -> None:
    logprobs, labelled = tokens(1, scale)
    terms = DAPO(*bounds)(logprobs, labelled)
    expected = sum(
        reference(*values, *bounds)
        for values in zip(
            logprobs.tolist(),
            labelled.signals["old_logprobs"].tolist(),
            labelled.signals["advantages"].tolist(),
            strict=True,
        )
    )
    assert float(terms.terms[0].loss_sum.detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [0.05, 0.5])
def test_gradient_equals_finite_differences(scale: float) -> None:
    logprobs, labelled = tokens(2, scale)
    DAPO()(logprobs, labelled).terms[0].loss_sum.backward()
    assert logprobs.grad is not None
    for index in range(0, N, 7):
        moved = []
        for step in (1e-6, -1e-6):
            shifted = logprobs.detach().clone()
            shifted[index] += step
            moved.append(float(DAPO()(shifted, labelled).terms[0].loss_sum))
        assert float(logprobs.grad[index]) == pytest.approx((moved[0] - moved[1]) / 2e-6, abs=1e-6)


def test_on_policy_gradient_is_minus_advantage() -> None:
    logprobs, labelled = tokens(3, 0.0)
    labelled = LabelledTokens(labelled.weights_N, labelled.document_N, {"advantages": labelled.signals["advantages"]})
    DAPO()(logprobs, labelled).terms[0].loss_sum.backward()
    torch.testing.assert_close(logprobs.grad, -labelled.signals["advantages"])


def test_clip_share_counts_tokens_beyond_the_bounds() -> None:
    labelled = LabelledTokens(
        torch.ones(4),
        torch.zeros(4),
        {"advantages": torch.tensor([1.0, 1.0, -1.0, -1.0]), "old_logprobs": torch.zeros(4)},
    )
    ratios = torch.tensor([1.5, 0.5, 0.5, 1.5]).log()
    numerator, denominator = DAPO()(ratios, labelled).metric_sums["clip_share"]
    assert float(numerator / denominator) == 0.5  # too high with a gain, too low with a loss


def test_zero_weights_count_nothing() -> None:
    logprobs, labelled = tokens(4, 0.3)
    weights = labelled.weights_N.clone()
    weights[::2] = 0.0
    masked = LabelledTokens(weights, labelled.document_N, labelled.signals)
    assert DAPO().count_units(masked) == {"loss": N / 2}
    DAPO()(logprobs, masked).terms[0].loss_sum.backward()
    assert logprobs.grad is not None and not logprobs.grad[::2].any()


def test_next_token_is_the_negative_log_likelihood() -> None:
    logprobs, labelled = tokens(5, 0.0)
    assert float(NextToken()(logprobs, labelled).terms[0].loss_sum.detach()) == pytest.approx(-sum(logprobs.tolist()))
