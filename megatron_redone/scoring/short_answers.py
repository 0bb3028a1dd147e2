"""Short answers against several accepted ones: any match, and token F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired
from megatron_redone.scoring.exact_match import same
from megatron_redone.scoring.normalise import loose
from megatron_redone.scoring.pattern import words_of


@dataclass(frozen=True)
class AnyMatch:
    """1 where the answer is one of the accepted ones after `normalise.loose`, else 0; the aggregate is the mean."""

    name: str = "any_match"

    def score(self, predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> list[Score]:
        """One score per answer and list of accepted answers; statistics: `correct`."""
        return [_score_any(prediction, accepted) for prediction, accepted in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean over all items."""
        return mean_value(scores)


def _score_any(prediction: str | None, accepted: Sequence[str]) -> Score:
    if prediction is None:
        return Score(0.0, parsed=False, statistics={"correct": 0.0}, reason=UNREADABLE)
    value = float(any(same(prediction, answer) for answer in accepted))
    return Score(value, parsed=True, statistics={"correct": value})


@dataclass(frozen=True)
class TokenF1:
    """F1 of the words of the answer and of the accepted answer nearest to it, as counted with repeats.

    Words are those of `pattern.words_of` (a Han character counts as one) after `normalise.loose`; an answer
    equal to an accepted one after `loose` earns 1. The measure is that of SQuAD (Rajpurkar et al. 2016), which
    also drops articles: here they count. The aggregate is the mean.
    """

    name: str = "token_f1"

    def score(self, predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> list[Score]:
        """One score per answer and list of accepted answers; statistics: `token_f1`, `exact`."""
        return [_score_tokens(prediction, accepted) for prediction, accepted in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def token_f1(prediction: str, reference: str) -> float:
    """2 * common / (words of both), words with repeats; 1 for texts that are equal after `loose`."""
    if same(prediction, reference):
        return 1.0
    mine, theirs = Counter(words_of(loose(prediction))), Counter(words_of(loose(reference)))
    size = mine.total() + theirs.total()
    return 2.0 * (mine & theirs).total() / size if size else 0.0


def _score_tokens(prediction: str | None, accepted: Sequence[str]) -> Score:
    if prediction is None:
        return Score(0.0, parsed=False, statistics={"token_f1": 0.0, "exact": 0.0}, reason=UNREADABLE)
    value = max((token_f1(prediction, answer) for answer in accepted), default=0.0)
    exact = float(any(same(prediction, answer) for answer in accepted))
    return Score(value, parsed=True, statistics={"token_f1": value, "exact": exact})
