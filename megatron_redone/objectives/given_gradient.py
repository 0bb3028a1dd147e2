"""A loss that is known outside by its gradient alone.

Where somebody else computes L from the log-probabilities, all that a backward pass needs is dL/dlogprob of every
label. The sum of gradient * logprob has exactly that gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from megatron_redone.objectives.base import LabelledTokens, LossTerms, Term


@dataclass(frozen=True)
class GivenGradient:
    """L = sum over labelled tokens of `gradient` * logprob.

    Signal: `gradient` [N], dL/dlogprob of each label times `num_labels`, because the engine divides by the units of
    the global batch, which are its labels.

    Attributes:
        temperature: of the log-probabilities that the gradient was computed at.
    """

    temperature: float = 1.0
    needs_entropy: bool = False
    trains_entropy: bool = False

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """Labels."""
        return {"linear": float(tokens.weights_N.numel())}

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens) -> LossTerms:
        """The one term; its value says nothing about the loss outside."""
        return LossTerms((Term("linear", (logprobs_N * tokens.signals["gradient"]).sum()),))
