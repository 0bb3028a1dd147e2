"""Complex machine reading: options found in a document, each with a reason.

SNS-Bench's measure has three parts: whether there is an answer at all, how well the options agree by longest
common substring, and how many agree exactly; each question here earns the mean of the three. The official
scorer averages the parts over different sets of questions and multiplies by the parse rate; that is its
business, not the reward's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired
from megatron_redone.scoring.normalise import tidy
from megatron_redone.scoring.soft_f1 import soft_hits, substring_similarity


@dataclass(frozen=True)
class OptionAgreement:
    """Mean of existence (1 or 0), soft F1 of the options by longest common substring, and exact F1 of the options.

    Two answers without options agree wholly; where only one of them has options the value is 0. Reasons are not
    compared, because many quotations can support one option. The aggregate is the mean.
    """

    name: str = "option_agreement"

    def score(
        self, predictions: Sequence[Mapping[str, Any] | None], references: Sequence[Mapping[str, Any]]
    ) -> list[Score]:
        """One score per pair of answers with a list `options`; statistics: `existence`, `soft_f1`, `exact_f1`."""
        return [_score_options(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def _score_options(prediction: Mapping[str, Any] | None, reference: Mapping[str, Any]) -> Score:
    nothing = {"existence": 0.0, "soft_f1": 0.0, "exact_f1": 0.0}
    if prediction is None:
        return Score(0.0, parsed=False, statistics=nothing, reason=UNREADABLE)
    mine, theirs = list(prediction["options"]), list(reference["options"])
    if not mine and not theirs:
        return Score(1.0, parsed=True, statistics=dict.fromkeys(nothing, 1.0))
    if not mine or not theirs:
        asked = "options were found where there are none" if mine else "no option was found where there are some"
        return Score(0.0, parsed=True, statistics=nothing, reason=asked)
    size = len(mine) + len(theirs)
    soft = min(2.0 * soft_hits(mine, theirs, substring_similarity) / size, 1.0)
    exact_mine, exact_theirs = {tidy(item) for item in mine}, {tidy(item) for item in theirs}
    exact = 2.0 * len(exact_mine & exact_theirs) / (len(exact_mine) + len(exact_theirs))
    statistics = {"existence": 1.0, "soft_f1": soft, "exact_f1": exact}
    return Score((1.0 + soft + exact) / 3.0, parsed=True, statistics=statistics)
