"""DAPO's policy loss (arXiv 2503.14476, equation 8; RedOne 2.0, equations 5-7), token level.

    J = 1 / (tokens of the batch) * sum_i sum_t min(r_it A_i, clip(r_it, 1 - e_low, 1 + e_high) A_i)
    r_it = pi(o_it | q, o_i<t) / pi_old(o_it | q, o_i<t)

From the published DAPO code, where the papers are silent: the log-ratio is clamped to +-20, and for negative
advantages the loss is bounded by `dual_clip * |A|`. There is no KL and no entropy term.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens, LossTerms, Term

MAX_LOG_RATIO = 20.0


@dataclass(frozen=True)
class DAPO:
    """Clipped policy gradient with decoupled bounds, a mean over all response tokens of the global mini-batch.

    Signals: `advantages` (one value repeated over a response) and `old_logprobs`, both [N]. Without `old_logprobs` the
    policy itself is the old one (one update a rollout): the ratio is 1 and its gradient that of the log-probability.
    """

    clip_ratio_low: float = 0.2
    clip_ratio_high: float = 0.28
    dual_clip: float = 10.0
    temperature: float = 1.0
    needs_entropy: bool = True

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """Response tokens."""
        return {"loss": float(tokens.weights_N.double().sum())}

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens) -> LossTerms:
        """One term, `loss`; metrics: share of clipped tokens, mean ratio, approximate KL to the old policy."""
        advantages, weights = tokens.signals["advantages"], tokens.weights_N
        old_logprobs = tokens.signals.get("old_logprobs", logprobs_N.detach())
        log_ratio = (logprobs_N - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1.0 - self.clip_ratio_low, 1.0 + self.clip_ratio_high)
        loss = torch.maximum(-advantages * ratio, -advantages * clipped)
        bounded = torch.minimum(loss, -advantages * self.dual_clip)
        loss = torch.where(advantages < 0, bounded, loss)
        with torch.no_grad():
            count = weights.sum()
            beyond = torch.where(advantages < 0, ratio < clipped, ratio > clipped).to(weights.dtype)
            metrics = {
                "clip_share": ((beyond * weights).sum(), count),
                "ratio": ((ratio * weights).sum(), count),
                "kl_to_old": (((ratio - 1.0 - log_ratio) * weights).sum(), count),
            }
            if tokens.entropy_N is not None:
                metrics["entropy"] = ((tokens.entropy_N * weights).sum(), count)
        return LossTerms((Term("loss", (loss * weights).sum()),), metrics)
