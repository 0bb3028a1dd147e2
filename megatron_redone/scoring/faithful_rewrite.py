"""Faithfulness of a rewritten title: the original's numbers, names and negation are kept, and none is invented.

The papers leave it open how to keep a title that is rewritten for engagement from distorting the note (RedOne 2.0,
online title re-creation). `faithfulness.py` scores facts that somebody lists; here they are found in the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, paired, total
from megatron_redone.scoring.original_facts import Facts, facts_of, is_negated, plain


@dataclass(frozen=True)
class Original:
    """What a rewrite is compared with.

    Attributes:
        title: its facts must be kept.
        context: the rest of the note: what stands there is not invented.
        language: of both, and of the rewrite.
        names: further names to watch.
    """

    title: str
    context: str
    language: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaithfulRewrite:
    """kept * unflipped * supported.

    kept: share of the title's numbers and names that stand in the rewrite (1 without any). unflipped: 0 where one of
    title and rewrite is negated and the other is not, unless the context carries a negation that the rewrite took
    over; else 1. supported: share of the rewrite's numbers that stand in title or context (1 without any).

    Aggregate: the mean of the item values.
    """

    name: str = "faithful_rewrite"

    def score(self, predictions: Sequence[str | None], references: Sequence[Any]) -> list[Score]:
        """One score per text and `Original`; statistics: `kept`, `facts`, `flipped`, `invented`, `numbers`."""
        return [_score(text, original) for text, original in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean over all items."""
        return total(scores, "value") / len(scores) if scores else 0.0


def _score(text: str | None, original: Original) -> Score:
    facts = facts_of(original.title, original.language, original.names)
    if text is None:
        return Score(0.0, parsed=False, statistics={"facts": float(_size(facts))}, reason=UNREADABLE)
    rewritten = facts_of(text, original.language, original.names)
    lost_numbers = facts.numbers - rewritten.numbers
    lost_names = {name for name in facts.names if not _stands(name, text, original.language)}
    flipped = _flipped(text, facts, original)
    known = facts.numbers | facts_of(original.context, original.language).numbers
    invented = rewritten.numbers - known
    size = _size(facts)
    kept = 1.0 - (len(lost_numbers) + len(lost_names)) / size if size else 1.0
    supported = 1.0 - len(invented) / len(rewritten.numbers) if rewritten.numbers else 1.0
    value = kept * supported * (not flipped)
    reasons = [
        f"lost: {', '.join(sorted([_shown(number) for number in lost_numbers] + list(lost_names)))}",
        "a negation was added or dropped",
        f"invented: {', '.join(sorted(map(_shown, invented)))}",
    ]
    told = [reason for reason, is_so in zip(reasons, (kept < 1.0, flipped, bool(invented)), strict=True) if is_so]
    statistics = {
        "value": value,
        "kept": float(size - len(lost_numbers) - len(lost_names)),
        "facts": float(size),
        "flipped": float(flipped),
        "invented": float(len(invented)),
        "numbers": float(len(rewritten.numbers)),
    }
    parts = {"kept": kept, "unflipped": float(not flipped), "supported": supported}
    return Score(value, parsed=True, statistics=statistics, reason="; ".join(told), parts=parts)


def _size(facts: Facts) -> int:
    return len(facts.numbers) + len(facts.names)


def _flipped(text: str, facts: Facts, original: Original) -> bool:
    negated = is_negated(text, original.language)
    if negated == facts.negated:
        return False
    return not (negated and is_negated(original.context, original.language))


def _stands(name: str, text: str, language: str) -> bool:
    """Whether a name stands in the text; in English as whole words."""
    words = plain(text)
    if language == "zh":
        return name in words
    place = words.find(name)
    while place >= 0:
        before, after = words[place - 1 : place] if place else "", words[place + len(name) : place + len(name) + 1]
        if not before.isalnum() and not after.isalnum():
            return True
        place = words.find(name, place + 1)
    return False


def _shown(number: tuple[Any, bool]) -> str:
    value, percent = number
    return f"{float(value):g}{'%' if percent else ''}"
