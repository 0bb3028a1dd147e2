"""DAPO's policy loss (arXiv 2503.14476, equation 8; RedOne 2.0, equations 5-7), token level.

    J = 1 / (tokens of the batch) * sum_i sum_t min(r_it A_i, clip(r_it, 1 - e_low, 1 + e_high) A_i)
    r_it = pi(o_it | q, o_i<t) / pi_old(o_it | q, o_i<t)

From the published DAPO code, where the papers are silent: the log-ratio is clamped to +-20, and for negative
advantages the loss is bounded by `dual_clip * |A|`. There is no KL and no entropy term, unless asked for:

    loss = -J + kl_coefficient * mean KL(pi || ref) - entropy_coefficient * mean entropy

with the same mean in all three. Truncated importance sampling (`importance_cap`) multiplies a token's part of J by
min(pi_old / pi_rollout, cap), where pi_rollout is what the generator says it sampled from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens, LossTerms, Term

MAX_LOG_RATIO = 20.0
KLEstimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class DAPO:
    """Clipped policy gradient with decoupled bounds, by default a mean over all response tokens of the mini-batch.

    Signals, each [N]: `advantages` (one value repeated over a response) and `old_logprobs`. Without `old_logprobs` the
    policy itself is the old one (one update a rollout): the ratio is 1 and its gradient that of the log-probability.
    `reference_logprobs` for KL (a metric, and with a coefficient a term), `rollout_logprobs` for importance sampling,
    `group_shares`, 1 / (response tokens of the group), for `group_mean`.

    Attributes:
        dual_clip: None sets no bound for negative advantages.
        normalisation: a mean over all response tokens (`token_mean`, DAPO), over responses of their token means
            (`sequence_mean`, GRPO), or over groups of their token means (`group_mean`: equation 8 for each prompt).
        kl_estimator: of a token, with d = log pi - log ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d
            (Schulman, "Approximating KL divergence"). As a term, k1's gradient is 0 in expectation: use k2 or k3.
    """

    clip_ratio_low: float = 0.2
    clip_ratio_high: float = 0.28
    dual_clip: float | None = 10.0
    temperature: float = 1.0
    needs_entropy: bool = True
    normalisation: Literal["token_mean", "sequence_mean", "group_mean"] = "token_mean"
    entropy_coefficient: float = 0.0
    kl_coefficient: float = 0.0
    kl_estimator: KLEstimator = "k3"
    importance_cap: float | None = None

    @property
    def trains_entropy(self) -> bool:
        """Whether there is an entropy bonus."""
        return self.entropy_coefficient > 0

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """Response tokens, responses, or groups (the shares of them that are in this micro-batch)."""
        weights = tokens.weights_N.double()
        if self.normalisation == "sequence_mean":
            units = float(tokens.document_N.unique().numel())
        elif self.normalisation == "group_mean":
            units = float((weights * tokens.signals["group_shares"].double()).sum())
        else:
            units = float(weights.sum())
        names = ["loss"]
        names += ["kl_term"] if self.kl_coefficient else []
        names += ["entropy_bonus"] if self.entropy_coefficient else []
        return dict.fromkeys(names, units)

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens) -> LossTerms:
        """Terms `loss`, and where asked for `kl_term` and `entropy_bonus`; metrics are means over response tokens.

        Metrics: `clip_share` (tokens beyond a bound), `dual_clip_share`, `ratio`, `kl_to_old` (k3), and where the
        signals are there `kl_to_reference`, `importance_weight`, `importance_capped` (share of tokens at the cap).
        """
        advantages, weights = tokens.signals["advantages"], tokens.weights_N
        old_logprobs = tokens.signals.get("old_logprobs", logprobs_N.detach())
        log_ratio = (logprobs_N - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1.0 - self.clip_ratio_low, 1.0 + self.clip_ratio_high)
        loss = torch.maximum(-advantages * ratio, -advantages * clipped)
        bounded = loss
        if self.dual_clip is not None:
            bounded = torch.where(advantages < 0, torch.minimum(loss, -advantages * self.dual_clip), loss)
        means: dict[str, Tensor] = {"ratio": ratio, "kl_to_old": ratio - 1.0 - log_ratio}
        beyond = torch.where(advantages < 0, ratio < clipped, ratio > clipped)
        means |= {"clip_share": beyond, "dual_clip_share": bounded < loss}
        if self.importance_cap is not None:
            gap = (old_logprobs - tokens.signals["rollout_logprobs"]).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
            importance = gap.exp().clamp(max=self.importance_cap)
            bounded = bounded * importance
            means |= {"importance_weight": importance, "importance_capped": gap.exp() > self.importance_cap}
        terms = [Term("loss", self._sum(bounded, tokens))]
        if "reference_logprobs" in tokens.signals:
            kl = self._kl(logprobs_N - tokens.signals["reference_logprobs"])
            means["kl_to_reference"] = kl
            if self.kl_coefficient:
                terms.append(Term("kl_term", self._sum(kl, tokens), self.kl_coefficient))
        if tokens.entropy_N is not None:
            means["entropy"] = tokens.entropy_N
            if self.entropy_coefficient:
                terms.append(Term("entropy_bonus", self._sum(tokens.entropy_N, tokens), -self.entropy_coefficient))
        count = weights.sum()
        metrics = {name: ((values.detach().to(weights.dtype) * weights).sum(), count) for name, values in means.items()}
        return LossTerms(tuple(terms), metrics)

    def _sum(self, values_N: Tensor, tokens: LabelledTokens) -> Tensor:
        """The sum that, divided by its units over the global batch, is the mean of the normalisation."""
        values = values_N * tokens.weights_N
        if self.normalisation == "group_mean":
            return (values * tokens.signals["group_shares"]).sum()
        if self.normalisation == "sequence_mean":
            size = int(tokens.document_N.max()) + 1 if tokens.document_N.numel() else 0
            lengths = tokens.weights_N.new_zeros(size).index_add(0, tokens.document_N, tokens.weights_N)
            return (values / lengths[tokens.document_N]).sum()
        return values.sum()

    def _kl(self, log_ratio_N: Tensor) -> Tensor:
        if self.kl_estimator == "k1":
            return log_ratio_N
        if self.kl_estimator == "k2":
            return log_ratio_N.square() / 2
        inverse = -log_ratio_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        return inverse.exp() - 1.0 - inverse
