"""The DAPO loss against a reference written token by token from the equations, in float64."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens
from megatron_redone.objectives.dapo import DAPO
from megatron_redone.objectives.next_token import NextToken

LENGTHS = (6, 1, 9, 4, 12, 3, 8, 5)
"""Tokens of each response; two responses are a group."""
N = sum(LENGTHS)
GROUP = 2


def tokens(seed: int, scale: float) -> tuple[Tensor, LabelledTokens]:
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return scale * torch.randn(N, generator=generator, dtype=torch.float64)

    logprobs = -torch.rand(N, generator=generator, dtype=torch.float64) * 3
    document = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    group_tokens = torch.tensor(LENGTHS, dtype=torch.float64).view(-1, GROUP).sum(dim=1)
    old = logprobs + noise()
    advantages = torch.randn(len(LENGTHS), generator=generator, dtype=torch.float64)
    labelled = LabelledTokens(
        weights_N=torch.ones(N, dtype=torch.float64),
        document_N=document,
        signals={
            "advantages": advantages[document],
            "old_logprobs": old,
            "rollout_logprobs": old + noise(),
            "reference_logprobs": logprobs + noise(),
            "group_shares": (1 / group_tokens)[document // GROUP],
        },
        entropy_N=torch.rand(N, generator=generator, dtype=torch.float64),
    )
    return logprobs.requires_grad_(), labelled


def by_hand(logprobs: list[float], labelled: LabelledTokens, objective: DAPO) -> float:
    """The whole loss, token by token."""
    values = {name: signal.tolist() for name, signal in labelled.signals.items()}
    assert labelled.entropy_N is not None
    entropy = labelled.entropy_N.tolist()
    losses = []
    for t in range(N):
        advantage, old = values["advantages"][t], values["old_logprobs"][t]
        ratio = math.exp(max(-20.0, min(20.0, logprobs[t] - old)))
        clipped = max(1 - objective.clip_ratio_low, min(1 + objective.clip_ratio_high, ratio))
        gain = min(ratio * advantage, clipped * advantage)
        if advantage < 0 and objective.dual_clip is not None:
            gain = max(gain, objective.dual_clip * advantage)
        if objective.importance_cap is not None:
            weight = math.exp(max(-20.0, min(20.0, old - values["rollout_logprobs"][t])))
            gain *= min(weight, objective.importance_cap)
        d = logprobs[t] - values["reference_logprobs"][t]
        kl = {"k1": d, "k2": d * d / 2, "k3": math.exp(max(-20.0, min(20.0, -d))) - 1 + max(-20.0, min(20.0, d))}
        losses.append(
            -gain + objective.kl_coefficient * kl[objective.kl_estimator] - objective.entropy_coefficient * entropy[t]
        )
    responses, start = [], 0
    for length in LENGTHS:
        responses.append(losses[start : start + length])
        start += length
    if objective.normalisation == "sequence_mean":
        return math.fsum(math.fsum(one) / len(one) for one in responses) / len(responses)
    if objective.normalisation == "group_mean":
        groups = [responses[i] + responses[i + 1] for i in range(0, len(responses), GROUP)]
        return math.fsum(math.fsum(one) / len(one) for one in groups) / len(groups)
    return math.fsum(losses) / N


def loss_of(logprobs: Tensor, labelled: LabelledTokens, objective: DAPO) -> Tensor:
    """The loss as the engine forms it: every term divided by its units."""
    units = objective.count_units(labelled)
    terms = objective(logprobs, labelled).terms
    assert {term.name for term in terms} == set(units)
    return sum((term.weight * term.loss_sum / units[term.name] for term in terms), torch.zeros(()))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"clip_ratio_low": 0.1, "clip_ratio_high": 0.5, "dual_clip": 2.0},
    {"dual_clip": None},
    {"normalisation": "sequence_mean"},
    {"normalisation": "group_mean"},
    {"importance_cap": 2.0},
    {"importance_cap": 1.05, "normalisation": "group_mean", "entropy_coefficient": 0.02},
    *({"kl_coefficient": 0.3, "kl_estimator": name} for name in ("k1", "k2", "k3")),
    {"kl_coefficient": 0.1, "normalisation": "sequence_mean", "entropy_coefficient": 0.01},
]


@pytest.mark.parametrize("scale", [0.0, 0.1, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_loss_and_gradient_equal_the_equations(settings: dict[str, Any], scale: float) -> None:
    logprobs, labelled = tokens(1, scale)
    objective = DAPO(**settings)
    loss = loss_of(logprobs, labelled, objective)
    assert float(loss.detach()) == pytest.approx(by_hand(logprobs.tolist(), labelled, objective), rel=1e-12)
    if scale == 30.0:
        return  # ratios of e^20: differences of such losses have no digits left
    (gradient,) = torch.autograd.grad(loss, logprobs)
    for index in range(0, N, 5):
        moved = []
        for step in (1e-6, -1e-6):
            shifted = logprobs.tolist()
            shifted[index] += step
            moved.append(by_hand(shifted, labelled, objective))
        expected = (moved[0] - moved[1]) / 2e-6
        assert float(gradient[index]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_ratio_is_clamped_without_a_gradient_beyond() -> None:
    labelled = LabelledTokens(
        torch.ones(2), torch.zeros(2, dtype=torch.int64), {"advantages": -torch.ones(2), "old_logprobs": torch.zeros(2)}
    )
    logprobs = torch.tensor([19.0, 25.0], dtype=torch.float64, requires_grad=True)
    loss = DAPO(dual_clip=None)(logprobs, labelled).terms[0].loss_sum
    assert float(loss.detach()) == pytest.approx(math.exp(19) + math.exp(20))
    loss.backward()
    assert logprobs.grad is not None and logprobs.grad.tolist() == pytest.approx([math.exp(19), 0.0])


def test_the_entropy_bonus_has_the_gradient_of_its_coefficient() -> None:
    logprobs, labelled = tokens(2, 0.1)
    assert labelled.entropy_N is not None
    labelled.entropy_N.requires_grad_()
    loss_of(logprobs, labelled, DAPO(entropy_coefficient=0.2)).backward()
    torch.testing.assert_close(labelled.entropy_N.grad, torch.full((N,), -0.2 / N, dtype=torch.float64))
    assert DAPO(entropy_coefficient=0.2).trains_entropy and not DAPO().trains_entropy


def test_every_option_changes_the_loss() -> None:
    logprobs, labelled = tokens(3, 3.0)
    logprobs = logprobs.detach()
    plain = float(loss_of(logprobs, labelled, DAPO()))
    changes: dict[str, Any] = {
        "clip_ratio_low": 0.6, "clip_ratio_high": 0.9, "dual_clip": 1.2, "normalisation": "group_mean",
        "entropy_coefficient": 0.1, "kl_coefficient": 0.1, "importance_cap": 1.5,
    }  # fmt: skip
    for name, value in changes.items():
        assert float(loss_of(logprobs, labelled, DAPO(**{name: value}))) != plain, name
    means = {name: DAPO(normalisation=name) for name in ("token_mean", "sequence_mean", "group_mean")}  # type: ignore[arg-type]
    assert len({float(loss_of(logprobs, labelled, objective)) for objective in means.values()}) == 3
    kls = [DAPO(kl_coefficient=0.1, kl_estimator=name) for name in ("k1", "k2", "k3")]  # type: ignore[arg-type]
    assert len({float(loss_of(logprobs, labelled, objective)) for objective in kls}) == 3
    by_the_engine = {"temperature", "needs_entropy"}
    assert set(changes) | by_the_engine | {"kl_estimator"} == {field.name for field in fields(DAPO)}


@given(strategies.permutations(range(len(LENGTHS))), strategies.integers(1, len(LENGTHS) - 1))
def test_the_loss_does_not_depend_on_order_and_micro_batches(order: list[int], cut: int) -> None:
    logprobs, labelled = tokens(4, 0.5)
    logprobs = logprobs.detach()
    for settings in VARIANTS:
        objective = DAPO(**settings)
        sums: dict[str, float] = {}
        units: dict[str, float] = {}
        for members in (order[:cut], order[cut:]):
            places = torch.cat([(labelled.document_N == document).nonzero()[:, 0] for document in members])
            new = {document: place for place, document in enumerate(members)}
            assert labelled.entropy_N is not None
            part = LabelledTokens(
                labelled.weights_N[places],
                torch.tensor([new[document] for document in labelled.document_N[places].tolist()]),
                {name: values[places] for name, values in labelled.signals.items()},
                labelled.entropy_N[places],
            )
            for term in objective(logprobs[places], part).terms:
                sums[term.name] = sums.get(term.name, 0.0) + term.weight * float(term.loss_sum)
            for name, count in objective.count_units(part).items():
                units[name] = units.get(name, 0.0) + count
        whole = float(loss_of(logprobs, labelled, objective))
        assert sum(sums[name] / units[name] for name in sums) == pytest.approx(whole, rel=1e-11)


def test_on_policy_gradient_is_minus_advantage() -> None:
    logprobs, labelled = tokens(3, 0.0)
    labelled = LabelledTokens(labelled.weights_N, labelled.document_N, {"advantages": labelled.signals["advantages"]})
    DAPO()(logprobs, labelled).terms[0].loss_sum.backward()
    torch.testing.assert_close(logprobs.grad, -labelled.signals["advantages"])


def test_the_gradient_of_k2_is_that_of_the_divergence() -> None:
    """Summed over the tokens that may be drawn, p grad(k2) is the gradient of KL(p || q); k1's sum is 0."""
    logits = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.1, 0.2, -0.4, 0.5], dtype=torch.float64).log_softmax(0)
    log_p = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((log_p.exp() * (log_p - reference)).sum(), logits)
    for name, expected in (("k1", torch.zeros(4, dtype=torch.float64)), ("k2", exact)):
        log_p = logits.log_softmax(0)
        values = DAPO(kl_estimator=name)._kl(log_p - reference)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad((log_p.exp().detach() * values).sum(), logits)
        torch.testing.assert_close(gradient, expected)


def test_metrics_count_tokens_beyond_the_bounds() -> None:
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    labelled = LabelledTokens(
        torch.ones(4), torch.zeros(4, dtype=torch.int64),
        {"advantages": advantages, "old_logprobs": torch.zeros(4), "rollout_logprobs": torch.full((4,), -1.0)},
    )  # fmt: skip
    ratios = torch.tensor([1.5, 0.5, 0.5, 15.0]).log()
    sums = DAPO(importance_cap=2.0)(ratios, labelled).metric_sums
    found = {name: float(numerator / denominator) for name, (numerator, denominator) in sums.items()}
    assert found["clip_share"] == 0.5  # too high with a gain, too low with a loss
    assert found["dual_clip_share"] == 0.25 and found["importance_capped"] == 1.0
    assert found["importance_weight"] == 2.0


def test_zero_weights_count_nothing() -> None:
    logprobs, labelled = tokens(4, 0.3)
    weights = labelled.weights_N.clone()
    weights[::2] = 0.0
    masked = LabelledTokens(weights, labelled.document_N, labelled.signals)
    assert DAPO().count_units(masked) == {"loss": float(weights.sum())}
    DAPO()(logprobs, masked).terms[0].loss_sum.backward()
    assert logprobs.grad is not None and not logprobs.grad[::2].any()


def test_next_token_is_the_negative_log_likelihood() -> None:
    logprobs, labelled = tokens(5, 0.0)
    assert float(NextToken()(logprobs, labelled).terms[0].loss_sum.detach()) == pytest.approx(-sum(logprobs.tolist()))
