"""F1 over sets of texts, and F1 over levels.

Both follow the usual definitions; how SNS-Bench's own scorer departs from them is that benchmark's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired, total
from megatron_redone.scoring.normalise import tidy


@dataclass(frozen=True)
class SetF1:
    """F1 of the predicted set against the gold set, case-sensitive, after `normalise.tidy`.

    Item value: 2 * hits / (predicted + gold). Aggregate: micro-F1, the same formula over sums. An empty set
    counts as the set of one empty item, so that agreeing on "nothing" is one hit, and answering to nothing
    (or nothing to something) is a miss on both sides. An unreadable answer predicts no item: all gold items
    are missed.
    """

    name: str = "set_f1"

    def score(self, predictions: Sequence[Iterable[str] | None], references: Sequence[Any]) -> list[Score]:
        """One score per pair of collections; statistics: `hits`, `predicted`, `gold` (numbers of items)."""
        return [_score_sets(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """Micro-F1 = 2 * sum(hits) / (sum(predicted) + sum(gold))."""
        size = total(scores, "predicted") + total(scores, "gold")
        return 2.0 * total(scores, "hits") / size if size else 0.0

    def mean_of_items(self, scores: Sequence[Score]) -> float:
        """Macro-F1 over items (scikit-learn's "samples"): every item counts alike, however many labels it has."""
        return mean_value(scores)


def macro_f1(predictions: Sequence[Iterable[str] | None], references: Sequence[Iterable[str]]) -> float:
    """Macro-F1 over labels (scikit-learn's "macro"): the mean of the F1 of every label that gold or a prediction names.

    An unreadable answer (None) predicts nothing; an empty set counts as the label "". 0 for no items.

    Raises:
        ValueError: the two lengths differ.
    """
    hits: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for prediction, reference in paired(predictions, references):
        gold = _as_set(reference)
        predicted = frozenset[str]() if prediction is None else _as_set(prediction)
        hits.update(predicted & gold)
        sizes.update(predicted)
        sizes.update(gold)
    return sum(2.0 * hits[label] / size for label, size in sizes.items()) / len(sizes) if sizes else 0.0


def _as_set(items: Iterable[str]) -> frozenset[str]:
    return frozenset(tidy(item) for item in items) or frozenset({""})


def _score_sets(prediction: Iterable[str] | None, reference: Iterable[str]) -> Score:
    gold = _as_set(reference)
    if prediction is None:
        statistics = {"hits": 0.0, "predicted": 0.0, "gold": float(len(gold))}
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    predicted = _as_set(prediction)
    hits = len(predicted & gold)
    statistics = {"hits": float(hits), "predicted": float(len(predicted)), "gold": float(len(gold))}
    parts = {"precision": hits / len(predicted), "recall": hits / len(gold)}
    return Score(2.0 * hits / (len(predicted) + len(gold)), parsed=True, statistics=statistics, parts=parts)


@dataclass(frozen=True)
class LevelF1:
    """Grades of an ordered scale, such as relevance -1..3.

    Item value (the reward): 1 where the level is the gold level, else 0; a near miss earns nothing, because
    the benchmark gives nothing for it. The mean of the item values is `accuracy`. Aggregate: the mean of the
    F1 of each level (macro-F1) over the levels that occur as gold or as prediction among the items; an
    unreadable answer is a miss of its gold level. How near a miss is stands in the parts: `closeness` is
    1 - |predicted - gold| / (highest - lowest level), and 0 for an unreadable answer.
    """

    levels: tuple[int, ...]
    name: str = "level_f1"

    def score(self, predictions: Sequence[int | None], references: Sequence[int]) -> list[Score]:
        """One score per pair; statistics: `gold_L`, `predicted_L`, `hits_L` of the levels touched, `closeness`."""
        width = max(self.levels) - min(self.levels)
        return [_score_level(prediction, reference, width) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """Macro-F1 over the levels that occur."""
        values = [value for value in self.per_level(scores).values() if value is not None]
        return sum(values) / len(values) if values else 0.0

    def per_level(self, scores: Sequence[Score]) -> dict[int, float | None]:
        """F1 of each level; None for a level that neither gold nor a prediction names."""
        return {level: self._level_f1(scores, level) for level in self.levels}

    def accuracy(self, scores: Sequence[Score]) -> float:
        """The mean of the item values: the share of items whose level is right."""
        return mean_value(scores)

    def closeness(self, scores: Sequence[Score]) -> float:
        """The mean of `closeness`: 1 where all levels are right, and more than accuracy where misses are near."""
        return total(scores, "closeness") / len(scores) if scores else 0.0

    def _level_f1(self, scores: Sequence[Score], level: int) -> float | None:
        size = total(scores, f"predicted_{level}") + total(scores, f"gold_{level}")
        return 2.0 * total(scores, f"hits_{level}") / size if size else None


def _score_level(prediction: int | None, reference: int, width: int) -> Score:
    statistics = {f"gold_{reference}": 1.0}
    if prediction is None:
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    statistics[f"predicted_{prediction}"] = 1.0
    if prediction == reference:
        statistics[f"hits_{reference}"] = 1.0
    closeness = max(1.0 - abs(prediction - reference) / width, 0.0) if width else float(prediction == reference)
    statistics["closeness"] = closeness
    value = float(prediction == reference)
    return Score(value, parsed=True, statistics=statistics, parts={"closeness": closeness})
