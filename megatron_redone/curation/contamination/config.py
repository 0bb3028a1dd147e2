"""Settings of `redone contamination`. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from megatron_redone.config.base import StrictModel

ANSWER_FIELDS = (
    "answer", "answers", "target", "output", "solution", "canonical_solution", "code", "reference", "chosen",
)  # fmt: skip


class ContaminationConfig(StrictModel):
    """What counts as overlap of training texts with a benchmark item.

    n-grams of 13 words are those of GPT-3 (Brown et al. 2020, appendix C); the two borders are those of Llama 2
    (Touvron et al. 2023, appendix A.6), where an item is "not clean" from 20% and "dirty" from 80% of its tokens on.
    """

    ngram_words: int = Field(13, ge=2)
    """Units in a row that must be shared, in texts of which most units are words."""
    ngram_characters: int = Field(13, ge=2)
    """The same in texts of which most units are single Han or kana characters."""
    min_words: int = Field(8, ge=1)
    """A benchmark text shorter than an n-gram is searched for as a whole, from this length on (GPT-3's least)."""
    min_characters: int = Field(13, ge=1)
    """The same in Han and kana characters: eight of them are a common phrase."""
    partial_share: float = Field(0.2, gt=0, le=1)
    """Share of a benchmark text's n-grams in the training texts from which on its item counts as partly known."""
    contaminated_share: float = Field(0.8, gt=0, le=1)
    """Share from which on the item counts as contaminated."""
    max_rows_per_ngram: int = Field(10, ge=1)
    """N-grams that stand in more rows of a benchmark file belong to its prompt and do not count."""
    fields: tuple[str, ...] = ()
    """Keys of benchmark rows whose texts count, wherever they stand; by default every text."""
    answer_fields: tuple[str, ...] = ANSWER_FIELDS
    """Keys of benchmark rows under which the answer stands."""
    max_refused_share: float = Field(0.01, ge=0, le=1)
    """Share of broken training lines from which on the check ends: it would say too little."""
    examples: int = Field(10, ge=0)
    """Items of each benchmark, those with the largest overlap first, that the page shows."""

    def rule_violations(self) -> Iterator[str]:
        """Borders in order; a short text is shorter than an n-gram."""
        if self.partial_share > self.contaminated_share:
            yield f"partial_share={self.partial_share} is above contaminated_share={self.contaminated_share}; swap them"
        if self.min_words > self.ngram_words:
            yield f"min_words={self.min_words} is above ngram_words={self.ngram_words}; lower it"
        if self.min_characters > self.ngram_characters:
            yield f"min_characters={self.min_characters} is above ngram_characters={self.ngram_characters}; lower it"
