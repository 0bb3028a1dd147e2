"""Exact match: 1 where prediction and reference are the same after `normalise.loose`, else 0.

Lists match where they have the same items in the same order; numbers match by value; a number never matches a
text. The benchmark value is accuracy over all items, with unreadable answers counted as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired
from megatron_redone.scoring.normalise import loose, tidy


def same(prediction: Any, reference: Any) -> bool:
    """Equality after `loose`, item by item and in order for lists and tuples."""
    if isinstance(reference, str):
        if not isinstance(prediction, str):
            return False
        label = loose(reference)  # "" for a reference of stops alone, which then must stand as it is
        return tidy(prediction) == tidy(reference) or (label != "" and loose(prediction) == label)
    if isinstance(reference, list | tuple):
        return (
            isinstance(prediction, list | tuple)
            and len(prediction) == len(reference)
            and all(same(mine, theirs) for mine, theirs in zip(prediction, reference, strict=True))
        )
    return isinstance(prediction, type(reference)) and bool(prediction == reference)


@dataclass(frozen=True)
class ExactMatch:
    """1 or 0 per item; the aggregate is accuracy."""

    name: str = "exact_match"

    def score(self, predictions: Sequence[Any | None], references: Sequence[Any]) -> list[Score]:
        """One score per pair; statistics: `correct`."""
        return [_score_one(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """Accuracy: the mean over all items."""
        return mean_value(scores)


def _score_one(prediction: Any | None, reference: Any) -> Score:
    if prediction is None:
        return Score(0.0, parsed=False, statistics={"correct": 0.0}, reason=UNREADABLE)
    value = float(same(prediction, reference))
    return Score(value, parsed=True, statistics={"correct": value})
