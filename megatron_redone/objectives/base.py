"""What an objective is: a pure function of per-token log-probabilities.

An objective knows no groups and no Megatron. It gives sums; the engine divides each term once, by the number of
its units over the whole global batch, so that the loss cannot depend on layout, micro-batch count or packing.

Shape legend: N labelled tokens of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class LabelledTokens:
    """The labelled tokens of a micro-batch, in packed order."""

    weights_N: Tensor
    """Loss weight of each label (nonzero)."""
    document_N: Tensor
    """Number of the document that each token belongs to."""
    signals: Mapping[str, Tensor]
    """Per-token inputs by name, each [N]: advantages, old_logprobs, ..."""
    entropy_N: Tensor | None = None
    """Entropy of each prediction in nats, where asked for (with a gradient where the objective trains it)."""


@dataclass(frozen=True)
class Term:
    """One term of a loss: `weight * loss_sum / (num_units over the global batch)`."""

    name: str
    loss_sum: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class LossTerms:
    """The terms of a loss and sums for metrics (name -> (numerator, denominator), both summed globally)."""

    terms: tuple[Term, ...]
    metric_sums: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class Objective(Protocol):
    """A loss over labelled tokens."""

    @property
    def temperature(self) -> float:
        """Log-probabilities are taken of logits divided by this."""
        ...

    @property
    def needs_entropy(self) -> bool:
        """Whether the entropy of each prediction is to be computed."""
        ...

    @property
    def trains_entropy(self) -> bool:
        """Whether the entropy is part of the loss, so that it needs a gradient."""
        ...

    def count_units(self, tokens: LabelledTokens) -> dict[str, float]:
        """Units of each term in a micro-batch, known before the forward pass."""
        ...

    def __call__(self, logprobs_N: Tensor, tokens: LabelledTokens, /) -> LossTerms:
        """The terms from the labels' log-probabilities."""
        ...
