"""Translations that must keep some terms: emoji, mentions and hashtags as they are, names as a glossary has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired
from megatron_redone.scoring.faithfulness import has_fact
from megatron_redone.scoring.text_metrics import BleuChrf


@dataclass(frozen=True)
class TermReference:
    """A reference translation and the terms that must stand in every translation of the text."""

    text: str
    terms: tuple[str, ...]


@dataclass(frozen=True)
class KeptTermsTranslation:
    """(sentence BLEU + chrF2) / 2 times the share of the terms that stand in the translation, 0..1.

    Without terms it is the mean of BLEU and chrF2 alone. The aggregate is the mean.

    Attributes:
        language: language of the translations; it chooses BLEU's tokenizer.
    """

    language: str
    name: str = "kept_terms_translation"

    def score(self, predictions: Sequence[str | None], references: Sequence[TermReference]) -> list[Score]:
        """One score per translation and reference; statistics: those of `BleuChrf`, `kept`, `terms`."""
        pairs = paired(predictions, references)
        plain = BleuChrf(self.language).score([text for text, _ in pairs], [reference.text for _, reference in pairs])
        return [_with_terms(score, text, reference) for score, (text, reference) in zip(plain, pairs, strict=True)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)


def _with_terms(score: Score, text: str | None, reference: TermReference) -> Score:
    missing = [term for term in reference.terms if text is None or not has_fact(text, term)]
    kept = len(reference.terms) - len(missing)
    statistics = {**score.statistics, "kept": float(kept), "terms": float(len(reference.terms))}
    if text is None:
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    reason = f"{len(missing)} of {len(reference.terms)} terms are missing" if missing else ""
    share = kept / len(reference.terms) if reference.terms else 1.0
    parts = {**score.parts, "terms": share}
    return replace(score, value=score.value * share, statistics=statistics, reason=reason, parts=parts)
