"""ROUGE of Chinese and English text: rouge-score over jieba's words (Lin 2004).

SNS-Bench's own scorer counts in another way; that stands with the benchmark.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired

KINDS = ("rouge1", "rouge2", "rougeL")


class JiebaWords:
    """The tokenizer that rouge-score is given: words as jieba cuts them, case folded, without white space."""

    def tokenize(self, text: str) -> list[str]:
        """Words in order."""
        import jieba

        jieba.setLogLevel(logging.ERROR)
        return [word.casefold() for word in jieba.cut(text) if word.strip()]


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(KINDS), tokenizer=JiebaWords())


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L by name, each in 0..1."""
    found = _scorer().score(reference, prediction)
    return {kind: float(found[kind].fmeasure) for kind in KINDS}


@dataclass(frozen=True)
class Rouge:
    """The mean of the F1 of ROUGE-1, -2 and -L against one reference; the aggregate is the mean."""

    name: str = "rouge"

    def score(self, predictions: Sequence[str | None], references: Sequence[str]) -> list[Score]:
        """One score per pair; statistics: `rouge1`, `rouge2`, `rougeL`."""
        return [_score_one(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def _score_one(prediction: str | None, reference: str) -> Score:
    if prediction is None:
        return Score(0.0, parsed=False, statistics=dict.fromkeys(KINDS, 0.0), reason=UNREADABLE)
    found = rouge(prediction, reference)
    return Score(sum(found.values()) / len(KINDS), parsed=True, statistics=found, parts=found)
