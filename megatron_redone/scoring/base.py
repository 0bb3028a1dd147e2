"""What a scorer is: one object that is both the reward of a task and its benchmark metric.

A scorer compares parsed predictions with references and returns, per item, a value in 0..1 and the sufficient
statistics of the benchmark value. The benchmark value is computed from those statistics by `aggregate`,
because micro-F1, per-level F1 and their like are not means of item values. A prediction of None stands for an
answer that could not be read in the asked format: it scores 0 and still counts wherever the reference counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

UNREADABLE = "the answer could not be read in the asked format"


@dataclass(frozen=True)
class Score:
    """The score of one answer.

    Attributes:
        value: 0..1; the reward of the answer.
        parsed: whether the answer could be read in the asked format.
        statistics: what `Scorer.aggregate` needs of this item, summed over items there.
        reason: why the answer scored less than 1, where more is known than that it is wrong; may be empty.
        parts: the shares 0..1 that the value is made of, by name (such as `bleu` and `chrf`), where it is made of
            several; for people and diagnosis, never summed.
    """

    value: float
    parsed: bool
    statistics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("score", self.value), *self.parts.items()):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"a {name} of {value!r} is outside 0..1; a scorer must scale its metric")


class Scorer(Protocol):
    """One metric. Stateless: equal inputs give equal scores."""

    @property
    def name(self) -> str:
        """Short name for tables, such as `exact_match`."""
        ...

    def score(self, predictions: Sequence[Any | None], references: Sequence[Any]) -> list[Score]:
        """One score per pair, in order. Raises ValueError where the two lengths differ, and nothing else."""
        ...

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The benchmark value in 0..1 of these items, from their statistics; 0 for no items."""
        ...


def paired(predictions: Sequence[Any | None], references: Sequence[Any]) -> list[tuple[Any | None, Any]]:
    """The pairs to score. Raises ValueError where the two lengths differ."""
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references; give one for each")
    return list(zip(predictions, references, strict=True))


def mean_value(scores: Sequence[Score]) -> float:
    """The plain mean of the item values (0 for no items), for metrics that are a mean of items."""
    return sum(score.value for score in scores) / len(scores) if scores else 0.0


def total(scores: Sequence[Score], name: str) -> float:
    """The sum of one statistic over the items; an item without it counts 0."""
    return sum(score.statistics.get(name, 0.0) for score in scores)
