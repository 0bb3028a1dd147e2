"""Next-token cross entropy: pretraining and SFT."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens, LossTerms, Term


@dataclass(frozen=True)
class NextToken:
    """Negative log-likelihood, a mean over all labelled tokens of the global batch.

    loss = -sum_t w_t log p(x_t | x_<t) / sum_t w_t
    """

    temperature: float = 1.0
    needs_entropy: bool = False
    trains_entropy: bool = False

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """The sum of label weights (their number where weights are 1)."""
        return {"loss": float(tokens.weights_N.double().sum())}

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens) -> LossTerms:
        """One term, `loss`."""
        return LossTerms((Term("loss", -(logprobs_N * tokens.weights_N).sum()),))
