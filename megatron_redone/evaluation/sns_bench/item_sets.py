"""Micro-F1 of sets of texts: NER, Hashtag-multiple, and highlight words of a comment (CHLW)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_redone.evaluation.benchmark import Metrics, Row, Sums, statistic
from megatron_redone.evaluation.sns_bench.accuracy import shortened
from megatron_redone.evaluation.sns_bench.cuts import comma_list_cut
from megatron_redone.evaluation.sns_bench.python_literal import first_list, read_python_literal
from megatron_redone.scoring.base import Score

EPSILON = 1e-4


@dataclass(frozen=True)
class CommaListF1:
    """2 * hits / (predicted + gold + 1e-4) over all rows, rounded to four digits as the official code does. Items are
    compared with case; the gold answer is cut like the prediction.
    """

    name: str = "micro-F1"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `hits`, `predicted`, `gold`, `parsed` (at least one item)."""
        return [
            _score(set(comma_list_cut(output)), set(comma_list_cut(row["answer"])), readable=None)
            for output, row in zip(outputs, rows, strict=True)
        ]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`f1` = `score`, `precision`, `recall`."""
        f1, precision, recall = _micro(sums)
        return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall, "score": 100 * f1}


@dataclass(frozen=True)
class HighlightF1:
    """CHLW: micro-F1 over the lists that could be read, times their share of all rows. An empty list counts as the list
    of one empty text on both sides, so two empty lists are a hit.
    """

    name: str = "micro-F1 x parse rate"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `hits`, `predicted`, `gold` of the rows that could be read, `parsed`."""
        return [self._score_one(output, row["answer"]) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`f1` of the readable rows, `parse_percent`, `score` their product."""
        f1, precision, recall = _micro(sums)
        share = statistic(sums, "parsed") / num_items
        return {
            "f1": 100 * f1,
            "precision": 100 * precision,
            "recall": 100 * recall,
            "parse_percent": 100 * share,
            "score": 100 * share * f1,
        }

    def _score_one(self, output: str, answer: str) -> Score:
        try:
            gold = read_python_literal(answer)
            gold = set(gold) if len(gold) else {""}
            found = read_python_literal(first_list(output))
        except (ValueError, TypeError):
            return _unreadable(output)
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            return _unreadable(output)
        return _score(set(found or [""]), gold, readable=True)


def _unreadable(output: str) -> Score:
    return Score(0.0, False, {"parsed": 0.0}, f"no list of texts in {shortened(output)}")


def _score(found: Set[str], gold: Set[str], readable: bool | None) -> Score:
    """`readable` None: an answer without an item counts as unreadable, in the parse rate only."""
    hits = len(found & gold)
    size = len(found) + len(gold)
    parsed = bool(found) if readable is None else readable
    statistics = {
        "hits": float(hits),
        "predicted": float(len(found)),
        "gold": float(len(gold)),
        "parsed": float(parsed),
    }
    missed, wrong = sorted(gold - found), sorted(found - gold)
    reason = "; ".join(
        f"{what}: {shortened(', '.join(items), 80)}" for what, items in (("missed", missed), ("wrong", wrong)) if items
    )
    return Score(2 * hits / size if size else 1.0, parsed, statistics, reason)


def _micro(sums: Sums) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    hits, predicted, gold = (statistic(sums, name) for name in ("hits", "predicted", "gold"))
    return (
        _rounded(2 * hits / (predicted + gold + EPSILON)),
        _rounded(hits / (predicted + EPSILON)),
        _rounded(hits / (gold + EPSILON)),
    )


def _rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Four digits as `round` gives them; numpy rounds a scaled number, which may differ in the last digit."""
    return np.array([round(float(value), 4) for value in values])
