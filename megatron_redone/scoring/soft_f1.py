"""F1 over sets whose items may agree in part: reworded questions, shortened spans, pairs of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, paired, total
from megatron_redone.scoring.normalise import tidy
from megatron_redone.scoring.text_metrics import anls

Similarity = Callable[[Any, Any], float]


def text_similarity(first: str, second: str) -> float:
    """ANLS of two texts after `normalise.tidy`, 0..1."""
    return anls(tidy(first), tidy(second))


def part_similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """Mean ANLS of two tuples, part by part; 0 for tuples of different lengths."""
    if len(first) != len(second):
        return 0.0
    return fmean(text_similarity(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def substring_similarity(first: str, second: str) -> float:
    """Length of the longest common substring over the length of the longer text, 0..1; 1 for two empty texts."""
    a, b = tidy(first), tidy(second)
    longest = max(len(a), len(b))
    return longest_common_substring(a, b) / longest if longest else 1.0


def longest_common_substring(first: str, second: str) -> int:
    """Its length in characters; time grows with the product of the lengths."""
    best, previous = 0, [0] * (len(second) + 1)
    for character in first:
        current = [0]
        for index, other in enumerate(second):
            current.append(previous[index] + 1 if character == other else 0)
        best, previous = max(best, max(current)), current
    return best


def soft_hits(
    predicted: Sequence[Any], gold: Sequence[Any], similarity: Similarity, min_similarity: float = 0.0
) -> float:
    """Sum of the similarities of one-to-one pairs, taken greedily from the most similar pair down.

    A pair below `min_similarity` is none.
    """
    pairs = [
        (similarity(mine, theirs), -row, -column)
        for row, mine in enumerate(predicted)
        for column, theirs in enumerate(gold)
    ]
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    hits = 0.0
    for value, row, column in sorted(pairs, reverse=True):
        if value > 0.0 and value >= min_similarity and row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            hits += value
    return hits


@dataclass(frozen=True)
class SoftF1:
    """F1 of predicted against gold items that pair up one to one, most similar first, and count by similarity.

    Item value: 2 * hits / (predicted + gold), where hits sums the similarities of the pairs. Aggregate: the same
    formula over sums. Two empty lists agree (one hit of one); an unreadable answer predicts nothing.

    Attributes:
        similarity: 0..1 of two items; 1 for equal ones.
        min_similarity: a pair below it counts nothing, so that unrelated texts earn nothing for the letters that they
            share; 0.5 is the threshold that ANLS was published with (Biten et al. 2019).
    """

    similarity: Similarity
    min_similarity: float = 0.5
    name: str = "soft_f1"

    def score(self, predictions: Sequence[Sequence[Any] | None], references: Sequence[Any]) -> list[Score]:
        """One score per pair of lists; statistics: `hits`, `predicted`, `gold`."""
        return [self._score_one(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """2 * sum(hits) / (sum(predicted) + sum(gold))."""
        size = total(scores, "predicted") + total(scores, "gold")
        return 2.0 * total(scores, "hits") / size if size else 0.0

    def _score_one(self, prediction: Sequence[Any] | None, reference: Sequence[Any]) -> Score:
        gold_count = float(max(len(reference), 1))
        if prediction is None:
            statistics = {"hits": 0.0, "predicted": 0.0, "gold": gold_count}
            return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
        predicted_count = float(max(len(prediction), 1))
        both_empty = not prediction and not reference
        hits = 1.0 if both_empty else soft_hits(prediction, reference, self.similarity, self.min_similarity)
        statistics = {"hits": hits, "predicted": predicted_count, "gold": gold_count}
        value = min(2.0 * hits / (predicted_count + gold_count), 1.0)
        return Score(value, parsed=True, statistics=statistics)
