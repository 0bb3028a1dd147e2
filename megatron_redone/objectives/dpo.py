"""Direct preference optimisation with an SFT term on the chosen answers (RedOne, section 3.3).

    L = preference_coefficient * mean over pairs of l(d) + sft_coefficient * SFT term
    d = (log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))

The log-probability of an answer is the sum over its tokens, or their mean (`preference_logprobs`). With s the logistic
function, b `beta`, e `label_smoothing`, and r = gt_reward_scale * (reward of y_w - reward of y_l):

    sigmoid     -(1 - e) log s(b d) - e log s(-b d)     DPO (arXiv 2305.18290, equation 7); e > 0: conservative
    ipo         (d - 1 / (2 b))^2                       IPO (arXiv 2310.12036, equation 17)
    hinge       max(0, 1 - b d)                         SLiC's margin on DPO's rewards (arXiv 2309.06657, section 3)
    rpo_sq      (b d - r)^2                             RPO (Nemotron-4, arXiv 2406.11704) with a squared distance
    rpo_bwd_kl  KL(Bernoulli(s(r)) || Bernoulli(s(b d)))
    rpo_fwd_kl  KL(Bernoulli(s(b d)) || Bernoulli(s(r)))

Both means are over the global batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens, LossTerms, Term

PreferenceLoss = Literal["sigmoid", "ipo", "hinge", "rpo_sq", "rpo_bwd_kl", "rpo_fwd_kl"]
RPO_LOSSES = ("rpo_sq", "rpo_bwd_kl", "rpo_fwd_kl")
"""They need the signal `rewards`."""
SFTNormalisation = Literal["token_mean", "pair_token_mean", "pair_sum", "group_token_mean"]

MAX_LOG_RATIO = 20.0


@dataclass(frozen=True)
class DPO:
    """A preference loss over pairs whose chosen answer stands directly before the rejected one in the packed row.

    A micro-batch holds whole pairs: documents 2k and 2k + 1. Signals, each [N]: `reference_logprobs` of the frozen
    reference model; for the RPO losses `rewards`, one value repeated over an answer; for `group_token_mean`
    `sft_shares`, 1 / (tokens of the chosen answers of the pair's group).

    Attributes:
        sft_normalisation: the SFT term is the mean of -log pi over the tokens of all chosen answers (`token_mean`), the
            mean over pairs of their token means (`pair_token_mean`) or of their sums (`pair_sum`), or the mean over
            groups of pairs of the token means of the groups (`group_token_mean`).
    """

    beta: float = 0.1
    sft_coefficient: float = 0.3
    temperature: float = 1.0
    needs_entropy: bool = False
    loss: PreferenceLoss = "sigmoid"
    label_smoothing: float = 0.0
    gt_reward_scale: float = 1.0
    preference_coefficient: float = 1.0
    preference_logprobs: Literal["sum", "mean"] = "sum"
    sft_normalisation: SFTNormalisation = "token_mean"

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that a batch has to hold."""
        rewards = ("rewards",) if self.loss in RPO_LOSSES else ()
        shares = ("sft_shares",) if self.sft_normalisation == "group_token_mean" else ()
        return ("reference_logprobs", *rewards, *shares)

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """Pairs for `preference`; for `sft` tokens of chosen answers, pairs, or shares of groups of pairs."""
        pairs = float((tokens.document_N // 2).unique().numel())
        chosen = tokens.document_N % 2 == 0
        if self.sft_normalisation == "token_mean":
            return {"preference": pairs, "sft": float(tokens.weights_N[chosen].double().sum())}
        if self.sft_normalisation == "group_token_mean":
            shares = tokens.weights_N[chosen].double() * tokens.signals["sft_shares"][chosen].double()
            return {"preference": pairs, "sft": float(shares.sum())}
        return {"preference": pairs, "sft": pairs}

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens) -> LossTerms:
        """Terms `preference` and `sft`, and metrics.

        Metrics: `reward_chosen`, `reward_rejected` (beta times the log-ratio of the answer), `reward_margin`,
        `reward_accuracy` (share of pairs with a margin above 0), `logprobs_chosen`, `logprobs_rejected` (of whole
        answers, or their token means), `logprob_drift` (mean over tokens of |log pi - log ref|), `kl_to_reference`
        (mean over tokens of ref/pi - 1 - log(ref/pi); the answers are the data's, not the policy's, so it measures a
        distance and does not estimate the policy's own KL).
        """
        weights, log_ratio = tokens.weights_N, logprobs_N - tokens.signals["reference_logprobs"]
        lengths = _by_pair(weights, tokens.document_N)
        pairs = lengths.sum(dim=1) > 0
        scale = 1.0 / lengths.clamp(min=1.0) if self.preference_logprobs == "mean" else torch.ones_like(lengths)
        rewards = _by_pair(log_ratio * weights, tokens.document_N) * scale
        margin = rewards[:, 0] - rewards[:, 1]
        preference = (self._loss_of(margin, tokens, lengths) * pairs).sum()
        with torch.no_grad():
            metrics = self._metrics(log_ratio, self.beta * rewards, pairs, tokens)
            answers = _by_pair(logprobs_N.detach() * weights, tokens.document_N) * scale
            for place, name in enumerate(("chosen", "rejected")):
                metrics[f"logprobs_{name}"] = (answers[:, place].sum(), pairs.sum())
        terms = (
            Term("preference", preference, self.preference_coefficient),
            Term("sft", self._sft(logprobs_N, tokens, lengths), self.sft_coefficient),
        )
        return LossTerms(terms, metrics)

    def _loss_of(self, margin_P: Tensor, tokens: LabelledTokens, lengths_P2: Tensor) -> Tensor:
        """The loss [P] of each pair from the margin d of its log-ratios."""
        logits = self.beta * margin_P
        if self.loss == "sigmoid":
            return -(1 - self.label_smoothing) * F.logsigmoid(logits) - self.label_smoothing * F.logsigmoid(-logits)
        if self.loss == "ipo":
            return (margin_P - 1.0 / (2.0 * self.beta)) ** 2
        if self.loss == "hinge":
            return torch.relu(1.0 - logits)
        given = _by_pair(tokens.signals["rewards"] * tokens.weights_N, tokens.document_N) / lengths_P2.clamp(min=1.0)
        wanted = self.gt_reward_scale * (given[:, 0] - given[:, 1])
        if self.loss == "rpo_sq":
            return (logits - wanted) ** 2
        return _bernoulli_kl(wanted, logits) if self.loss == "rpo_bwd_kl" else _bernoulli_kl(logits, wanted)

    def _sft(self, logprobs_N: Tensor, tokens: LabelledTokens, lengths_P2: Tensor) -> Tensor:
        """The sum of the SFT term over the micro-batch, to be divided by its units."""
        chosen = (tokens.document_N % 2 == 0).to(logprobs_N.dtype)
        losses = -logprobs_N * tokens.weights_N * chosen
        if self.sft_normalisation == "group_token_mean":
            return (losses * tokens.signals["sft_shares"]).sum()
        if self.sft_normalisation == "pair_token_mean":
            return (_by_pair(losses, tokens.document_N)[:, 0] / lengths_P2[:, 0].clamp(min=1.0)).sum()
        return losses.sum()

    def _metrics(
        self, log_ratio_N: Tensor, rewards_P2: Tensor, pairs_P: Tensor, tokens: LabelledTokens
    ) -> dict[str, tuple[Tensor, Tensor]]:
        count, num_tokens = pairs_P.sum(), tokens.weights_N.sum()
        margin = rewards_P2[:, 0] - rewards_P2[:, 1]
        inverse = -log_ratio_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        return {
            "reward_accuracy": (((margin > 0) & pairs_P).sum(), count),
            "reward_margin": ((margin * pairs_P).sum(), count),
            "reward_chosen": (rewards_P2[:, 0].sum(), count),
            "reward_rejected": (rewards_P2[:, 1].sum(), count),
            "logprob_drift": ((log_ratio_N.abs() * tokens.weights_N).sum(), num_tokens),
            "kl_to_reference": (((inverse.exp() - 1.0 - inverse) * tokens.weights_N).sum(), num_tokens),
        }


def _by_pair(values_N: Tensor, document_N: Tensor) -> Tensor:
    """[P, 2]: sums over the chosen and the rejected answer of each pair."""
    num_documents = int(document_N.max()) + 1 if document_N.numel() else 0
    num_documents += num_documents % 2
    return values_N.new_zeros(num_documents).index_add(0, document_N, values_N).view(-1, 2)


def _bernoulli_kl(p_logit: Tensor, q_logit: Tensor) -> Tensor:
    """KL(Bernoulli(s(p)) || Bernoulli(s(q))) from logits."""
    log_p, log_q = F.logsigmoid(p_logit), F.logsigmoid(q_logit)
    log_not_p, log_not_q = F.logsigmoid(-p_logit), F.logsigmoid(-q_logit)
    return log_p.exp() * (log_p - log_q) + log_not_p.exp() * (log_not_p - log_not_q)
