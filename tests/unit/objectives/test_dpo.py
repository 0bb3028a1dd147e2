"""DPO's losses and gradients against a float64 reference written pair by pair from the papers' equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens
from megatron_redone.objectives.dpo import DPO

PAIRS = 6
GROUP = 2


def batch(seed: int, scale: float = 1.0) -> tuple[Tensor, LabelledTokens]:
    """Log-probabilities of 2 * PAIRS answers of 1 to 5 tokens in packed order, with every signal."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (2 * PAIRS,), generator=generator)
    document = torch.repeat_interleave(torch.arange(2 * PAIRS), lengths)
    size = document.numel()
    logprobs = -torch.rand(size, generator=generator, dtype=torch.float64) * 4 * scale
    reference = -torch.rand(size, generator=generator, dtype=torch.float64) * 4 * scale
    rewards = torch.randn(2 * PAIRS, generator=generator, dtype=torch.float64)
    chosen_lengths = lengths[::2].view(-1, GROUP).sum(dim=1).double()
    shares = (1 / chosen_lengths).repeat_interleave(2 * GROUP)
    signals = {"reference_logprobs": reference, "rewards": rewards[document], "sft_shares": shares[document]}
    return logprobs, LabelledTokens(torch.ones_like(logprobs), document, signals)


def log_s(x: float) -> float:
    """log of the logistic function, without overflow."""
    return -math.log1p(math.exp(-x)) if x > -30 else x - math.log1p(math.exp(x))


def kl(p: float, q: float) -> float:
    """Between two coins, from the logits of their sides."""
    return math.exp(log_s(p)) * (log_s(p) - log_s(q)) + math.exp(log_s(-p)) * (log_s(-p) - log_s(-q))


LOSSES: dict[str, Callable[[float, float, float, float], float]] = {
    "sigmoid": lambda d, beta, smoothing, r: -(1 - smoothing) * log_s(beta * d) - smoothing * log_s(-beta * d),
    "ipo": lambda d, beta, smoothing, r: (d - 1 / (2 * beta)) ** 2,
    "hinge": lambda d, beta, smoothing, r: max(0.0, 1 - beta * d),
    "rpo_sq": lambda d, beta, smoothing, r: (beta * d - r) ** 2,
    "rpo_bwd_kl": lambda d, beta, smoothing, r: kl(r, beta * d),
    "rpo_fwd_kl": lambda d, beta, smoothing, r: kl(beta * d, r),
}


def by_hand(logprobs: Tensor, tokens: LabelledTokens, objective: DPO) -> float:
    """The whole loss of the batch: the coefficient of each term times its mean."""
    answers = [(tokens.document_N == document).nonzero()[:, 0].tolist() for document in range(2 * PAIRS)]
    policy, reference = logprobs.tolist(), tokens.signals["reference_logprobs"].tolist()
    rewards = tokens.signals["rewards"].tolist()
    preference, token_means, sums = [], [], []
    for chosen, rejected in zip(answers[::2], answers[1::2], strict=True):
        ratios = []
        for answer in (chosen, rejected):
            ratio = math.fsum(policy[t] - reference[t] for t in answer)
            ratios.append(ratio / len(answer) if objective.preference_logprobs == "mean" else ratio)
        wanted = objective.gt_reward_scale * (rewards[chosen[0]] - rewards[rejected[0]])
        margin = ratios[0] - ratios[1]
        preference.append(LOSSES[objective.loss](margin, objective.beta, objective.label_smoothing, wanted))
        sums.append(-math.fsum(policy[t] for t in chosen))
        token_means.append(sums[-1] / len(chosen))
    groups = [range(start, start + GROUP) for start in range(0, PAIRS, GROUP)]
    sft = {
        "token_mean": sum(sums) / sum(map(len, answers[::2])),
        "pair_token_mean": sum(token_means) / PAIRS,
        "pair_sum": sum(sums) / PAIRS,
        "group_token_mean": math.fsum(
            sum(sums[p] for p in group) / sum(len(answers[2 * p]) for p in group) for group in groups
        )
        / len(groups),
    }[objective.sft_normalisation]
    return objective.preference_coefficient * sum(preference) / PAIRS + objective.sft_coefficient * sft


def loss_of(logprobs: Tensor, tokens: LabelledTokens, objective: DPO) -> Tensor:
    """The loss as the engine forms it: every term divided by its units."""
    units = objective.count_units(tokens)
    terms = objective(logprobs, tokens).terms
    return sum((term.weight * term.loss_sum / units[term.name] for term in terms), torch.zeros(()))


VARIANTS = [
    *({"loss": loss} for loss in LOSSES),
    *({"loss": loss, "preference_logprobs": "mean"} for loss in LOSSES),
    *({"sft_normalisation": name} for name in ("pair_token_mean", "pair_sum", "group_token_mean")),
    {"label_smoothing": 0.2},
    {"loss": "rpo_sq", "gt_reward_scale": 2.5},
    {"loss": "rpo_bwd_kl", "gt_reward_scale": 2.5, "beta": 1.3},
    {"loss": "rpo_fwd_kl", "gt_reward_scale": 0.2},
    {"beta": 0.7, "preference_coefficient": 0.5, "sft_coefficient": 1.7},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_loss_and_gradient_equal_the_equations(settings: dict[str, Any], scale: float) -> None:
    objective = DPO(**{"beta": 0.3, **settings})
    logprobs, tokens = batch(1, scale)
    logprobs.requires_grad_()
    loss = loss_of(logprobs, tokens, objective)
    assert float(loss.detach()) == pytest.approx(by_hand(logprobs.detach(), tokens, objective), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    step = 1e-5
    for place in range(0, logprobs.numel(), 3):
        values = []
        for shift in (step, -step):
            moved = logprobs.detach().clone()
            moved[place] += shift
            values.append(by_hand(moved, tokens, objective))
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6, abs=1e-6)


def test_every_option_changes_the_loss() -> None:
    logprobs, tokens = batch(3)
    plain = DPO(loss="rpo_bwd_kl")
    options: dict[str, tuple[DPO, DPO]] = {
        "beta": (DPO(), DPO(beta=0.2)),
        "sft_coefficient": (DPO(), DPO(sft_coefficient=0.5)),
        "label_smoothing": (DPO(), DPO(label_smoothing=0.1)),
        "gt_reward_scale": (plain, DPO(loss="rpo_bwd_kl", gt_reward_scale=2.0)),
        "preference_coefficient": (DPO(), DPO(preference_coefficient=0.5)),
        "preference_logprobs": (DPO(), DPO(preference_logprobs="mean")),
        "sft_normalisation": (DPO(), DPO(sft_normalisation="pair_sum")),
        "loss": (DPO(), DPO(loss="hinge")),
    }
    fixed = {"temperature", "needs_entropy", "trains_entropy"}  # what the engine reads
    assert set(options) | fixed == set(DPO.__dataclass_fields__)
    for name, (before, after) in options.items():
        assert float(loss_of(logprobs, tokens, before)) != float(loss_of(logprobs, tokens, after)), name
    losses = {loss: float(loss_of(logprobs, tokens, DPO(loss=loss))) for loss in LOSSES}  # type: ignore[arg-type]
    assert len(set(losses.values())) == len(LOSSES)


@given(strategies.permutations(range(PAIRS)), strategies.integers(1, PAIRS - 1))
def test_the_loss_does_not_depend_on_order_and_micro_batches(order: list[int], cut: int) -> None:
    logprobs, tokens = batch(4)
    objective = DPO(loss="rpo_fwd_kl", sft_normalisation="group_token_mean", preference_logprobs="mean")
    whole = float(loss_of(logprobs, tokens, objective))
    sums: dict[str, float] = {}
    units: dict[str, float] = {}
    for members in (order[:cut], order[cut:]):
        places = torch.cat([(tokens.document_N // 2 == pair).nonzero()[:, 0] for pair in members])
        new = {2 * pair + side: 2 * place + side for place, pair in enumerate(members) for side in (0, 1)}
        part = LabelledTokens(
            tokens.weights_N[places],
            torch.tensor([new[document] for document in tokens.document_N[places].tolist()]),
            {name: values[places] for name, values in tokens.signals.items()},
        )
        for term in objective(logprobs[places], part).terms:
            sums[term.name] = sums.get(term.name, 0.0) + term.weight * float(term.loss_sum)
        for name, count in objective.count_units(part).items():
            units[name] = units.get(name, 0.0) + count
    assert sum(sums[name] / units[name] for name in sums) == pytest.approx(whole, rel=1e-12)


def test_metrics_of_a_known_pair() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -3.0, -1.0])
    tokens = LabelledTokens(
        torch.ones(4), torch.tensor([0, 0, 1, 1]), {"reference_logprobs": torch.tensor([-1.5, -2.0, -2.0, -2.0])}
    )
    sums = DPO(beta=0.5)(logprobs, tokens).metric_sums
    found = {name: float(numerator / denominator) for name, (numerator, denominator) in sums.items()}
    ratios = [0.5, 0.0, -1.0, 1.0]
    assert found == pytest.approx(
        {
            "reward_accuracy": 1.0, "reward_margin": 0.25, "reward_chosen": 0.25, "reward_rejected": 0.0,
            "logprobs_chosen": -3.0, "logprobs_rejected": -4.0, "logprob_drift": 2.5 / 4,
            "kl_to_reference": sum(math.exp(-r) - 1 + r for r in ratios) / 4,
        }
    )  # fmt: skip


def test_no_pairs_give_no_loss() -> None:
    empty = torch.zeros(0)
    signals = dict.fromkeys(("reference_logprobs", "rewards", "sft_shares"), empty)
    tokens = LabelledTokens(empty, torch.zeros(0, dtype=torch.int64), signals)
    for settings in VARIANTS:
        objective = DPO(**settings)
        assert {term.name: float(term.loss_sum) for term in objective(empty, tokens).terms} == {
            "preference": 0.0,
            "sft": 0.0,
        }
        assert objective.count_units(tokens) == {"preference": 0.0, "sft": 0.0}


def test_definitions_of_trl() -> None:
    """TRL 1.16: means over the micro-batch's pairs; IPO on token means; its `sft` a token mean of the micro-batch."""
    logprobs, tokens = batch(5)
    d = []
    for pair in range(PAIRS):
        chosen, rejected = (
            (logprobs - tokens.signals["reference_logprobs"])[tokens.document_N == 2 * pair + side] for side in (0, 1)
        )
        d.append((float(chosen.sum() - rejected.sum()), float(chosen.mean() - rejected.mean())))
    beta = 0.1
    expected = {
        ("sigmoid", "sum"): [math.log1p(math.exp(-beta * total)) for total, _ in d],
        ("hinge", "sum"): [max(0.0, 1 - beta * total) for total, _ in d],
        ("ipo", "mean"): [(mean - 1 / (2 * beta)) ** 2 for _, mean in d],
    }
    for (loss, how), values in expected.items():
        ours = loss_of(logprobs, tokens, DPO(loss=loss, preference_logprobs=how, sft_coefficient=0.0))  # type: ignore[arg-type]
        assert float(ours) == pytest.approx(sum(values) / PAIRS, rel=1e-12)
