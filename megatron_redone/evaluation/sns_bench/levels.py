"""QueryCorr-topic: five relevance levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from megatron_redone.evaluation.benchmark import Metrics, Row, Sums, statistic
from megatron_redone.scoring.base import Score

LEVELS = ("-1", "0", "1", "2", "3")
_LEVEL = re.compile(r"-1|[0123]")
EPSILON = 1e-5


@dataclass(frozen=True)
class LevelF1:
    """The mean of the five F1 values of the levels, times the share of answers in which a level was found.

    The level is the first `-1`, `0`, `1`, `2` or `3` anywhere in the answer, also inside a longer number. An answer
    without one is no false negative of its level. Percentages enter the official F1 with 1e-5 in its divisor.
    """

    name: str = "macro-F1 x parse rate"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `parsed`, and `tp LEVEL` or (`fn GOLD` and `fp LEVEL`)."""
        return [_score_one(output, row["answer"]) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`f1 LEVEL` for each, `macro_f1`, `parse_percent`, `score` = macro_f1 x parse rate."""
        values: Metrics = {}
        for level in LEVELS:
            tp = statistic(sums, f"tp {level}")
            precision = 100 * tp / (tp + statistic(sums, f"fp {level}") + EPSILON)
            recall = 100 * tp / (tp + statistic(sums, f"fn {level}") + EPSILON)
            values[f"f1 {level}"] = 2 * precision * recall / (precision + recall + EPSILON)
        share = statistic(sums, "parsed") / num_items
        values["macro_f1"] = np.mean([values[f"f1 {level}"] for level in LEVELS], axis=0)
        return values | {"parse_percent": 100 * share, "score": values["macro_f1"] * share}


def _score_one(output: str, gold: str) -> Score:
    match = _LEVEL.search(output)
    if match is None:
        return Score(0.0, False, {"parsed": 0.0}, "no level in the answer")
    level = match.group()
    if level == gold:
        return Score(1.0, True, {"parsed": 1.0, f"tp {gold}": 1.0})
    return Score(0.0, True, {"parsed": 1.0, f"fn {gold}": 1.0, f"fp {level}": 1.0}, f"level {level}, not {gold}")
