"""Faithfulness of a rewritten text: does it keep the facts it was told to keep, within its length?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, paired, total
from megatron_redone.scoring.pattern import Pattern


@dataclass(frozen=True)
class FactReference:
    """The facts to keep (names, places, numbers as written) and the form the text must have."""

    facts: tuple[str, ...]
    pattern: Pattern


@dataclass(frozen=True)
class KeptFacts:
    """Share of the facts that stand in the text; 0 where the text breaks its pattern (length, language).

    Aggregate: facts kept over facts asked, of all items (a text that breaks its pattern keeps none).
    """

    name: str = "kept_facts"

    def score(self, predictions: Sequence[str | None], references: Sequence[Any]) -> list[Score]:
        """One score per text and `FactReference`; statistics: `kept`, `facts`."""
        return [_score_facts(text, reference) for text, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """sum(kept) / sum(facts)."""
        facts = total(scores, "facts")
        return total(scores, "kept") / facts if facts else 0.0


def has_fact(text: str, fact: str) -> bool:
    """Whether the fact stands in the text as a whole: "5" is not in "15" or "5.5", "art" is not in "party".

    Case and width do not matter (NFKC, case folded, white space collapsed).
    """
    wanted = _plain(fact)
    if not wanted:
        return False
    before = r"(?<![0-9a-z])(?<![0-9][.,])" if wanted[0].isascii() and wanted[0].isalnum() else ""
    after = r"(?![0-9a-z])(?![.,][0-9])" if wanted[-1].isascii() and wanted[-1].isalnum() else ""
    return re.search(before + re.escape(wanted) + after, _plain(text)) is not None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _score_facts(text: str | None, reference: FactReference) -> Score:
    statistics = {"kept": 0.0, "facts": float(len(reference.facts))}
    if text is None:
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    problems = reference.pattern.problems(text)
    if problems:
        return Score(0.0, parsed=True, statistics=statistics, reason="; ".join(problems.values()))
    missing = [fact for fact in reference.facts if not has_fact(text, fact)]
    kept = len(reference.facts) - len(missing)
    reason = f"{len(missing)} of {len(reference.facts)} facts are missing" if missing else ""
    value = kept / len(reference.facts) if reference.facts else 1.0
    return Score(value, parsed=True, statistics=statistics | {"kept": float(kept)}, reason=reason)
