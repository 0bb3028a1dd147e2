"""How long chosen and rejected answers are: whether length alone would tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from megatron_redone.scoring.statistics import wilson_interval


class Lengths(Protocol):
    """The lengths of a pair's answers."""

    @property
    def chosen_characters(self) -> int:
        """Of the chosen answer."""

    @property
    def rejected_characters(self) -> int:
        """Of the rejected answer."""

    @property
    def chosen_tokens(self) -> int | None:
        """Likewise in tokens, where a tokenizer counted them."""

    @property
    def rejected_tokens(self) -> int | None:
        """Likewise."""


def length_report(pairs: Sequence[Lengths]) -> dict[str, Any]:
    """Mean, median and 90th percentile of the lengths, and how often the longer answer is the chosen one.

    `longer_is_chosen` is over pairs of unequal lengths, in characters, with Wilson's 95% interval: 0.5 is no bias.
    """
    if not pairs:
        return {"pairs": 0}
    unequal = [pair for pair in pairs if pair.chosen_characters != pair.rejected_characters]
    longer = sum(pair.chosen_characters > pair.rejected_characters for pair in unequal)
    report: dict[str, Any] = {
        "pairs": len(pairs),
        "equally_long": len(pairs) - len(unequal),
        "characters": {
            "chosen": _spread([pair.chosen_characters for pair in pairs]),
            "rejected": _spread([pair.rejected_characters for pair in pairs]),
        },
    }
    if unequal:
        low, high = wilson_interval(longer, len(unequal))
        report |= {
            "longer_is_chosen": round(longer / len(unequal), 4),
            "longer_is_chosen_interval": [round(low, 4), round(high, 4)],
        }
    counted = [(p.chosen_tokens, p.rejected_tokens) for p in pairs if p.chosen_tokens and p.rejected_tokens]
    if counted:
        chosen, rejected = zip(*counted, strict=True)
        report["tokens"] = {"chosen": _spread(chosen), "rejected": _spread(rejected)}
    return report


def _spread(values: Sequence[int]) -> dict[str, float]:
    median, high = np.percentile(values, [50, 90])
    return {"mean": round(float(np.mean(values)), 2), "median": float(median), "p90": round(float(high), 2)}
