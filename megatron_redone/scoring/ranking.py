"""Agreement of two orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from megatron_redone.scoring.base import UNREADABLE, Score, paired, total
from megatron_redone.scoring.normalise import tidy


@dataclass(frozen=True)
class PairwiseOrder:
    """Share of the gold order's pairs that the prediction puts in the same order, (Kendall's tau + 1) / 2.

    A random order earns 0.5 on average and the reversed one 0. A pair of which the prediction lacks a member
    is a miss. Aggregate: agreeing pairs over pairs of all items (unreadable answers agree on none). An order
    of one thing has no pair: it scores 1 where the prediction names that thing.
    """

    name: str = "pairwise_order"

    def score(self, predictions: Sequence[Sequence[str] | None], references: Sequence[Sequence[str]]) -> list[Score]:
        """One score per pair of orders; statistics: `agreeing`, `pairs`."""
        return [_score_order(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """sum(agreeing) / sum(pairs)."""
        pairs = total(scores, "pairs")
        return total(scores, "agreeing") / pairs if pairs else 0.0


def _score_order(prediction: Sequence[str] | None, reference: Sequence[str]) -> Score:
    pairs = max(len(reference) * (len(reference) - 1) / 2, 1.0)
    if prediction is None:
        return Score(0.0, parsed=False, statistics={"agreeing": 0.0, "pairs": pairs}, reason=UNREADABLE)
    place = {item: index for index, item in enumerate(prediction)}
    if len(reference) < 2:
        agreeing = float(list(prediction) == list(reference))
    else:
        agreeing = float(sum(a in place and b in place and place[a] < place[b] for a, b in combinations(reference, 2)))
    return Score(agreeing / pairs, parsed=True, statistics={"agreeing": agreeing, "pairs": pairs})


@dataclass(frozen=True)
class OrderedF1:
    """F1 of two orders of things that may lack some: 2 * (longest common subsequence) / (predicted + gold).

    Aggregate: the same formula over sums. An unreadable answer predicts nothing.
    """

    name: str = "ordered_f1"

    def score(self, predictions: Sequence[Sequence[str] | None], references: Sequence[Sequence[str]]) -> list[Score]:
        """One score per pair of orders, items compared after `normalise.tidy`; statistics: `hits`, `predicted`,
        `gold`."""
        return [_score_subsequence(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """2 * sum(hits) / (sum(predicted) + sum(gold))."""
        size = total(scores, "predicted") + total(scores, "gold")
        return 2.0 * total(scores, "hits") / size if size else 0.0


def _score_subsequence(prediction: Sequence[str] | None, reference: Sequence[str]) -> Score:
    statistics = {"hits": 0.0, "predicted": 0.0, "gold": float(len(reference))}
    if prediction is None:
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    hits = _common_subsequence([tidy(item) for item in prediction], [tidy(item) for item in reference])
    size = len(prediction) + len(reference)
    statistics |= {"hits": float(hits), "predicted": float(len(prediction))}
    return Score(2.0 * hits / size if size else 0.0, parsed=True, statistics=statistics)


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    previous = [0] * (len(second) + 1)
    for item in first:
        current = [0]
        for index, other in enumerate(second):
            current.append(previous[index] + 1 if item == other else max(previous[index + 1], current[index]))
        previous = current
    return previous[-1]
