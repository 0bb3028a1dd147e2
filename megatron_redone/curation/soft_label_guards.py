"""What keeps a set of a model's own answers from growing long, repetitive and alike. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from megatron_redone.curation.config import SoftLabelConfig
from megatron_redone.data.ngrams import ngram_hashes, unit_hashes, units

MIN_TOKENS, MIN_UNITS = 32, 20
"""Shorter answers (labels, numbers) are alike by their nature and pass."""
REPEATED_NGRAM, COMMON_NGRAM = 4, 8


class Guards:
    """Looks at answers in turn; it knows those that were kept."""

    def __init__(self, config: SoftLabelConfig) -> None:
        self.config = config
        self._known: set[int] = set()

    def problem(self, text: str) -> str:
        """`repetitive`, `near_duplicate`, or nothing."""
        found = units(text)
        if len(found) < MIN_UNITS:
            return ""
        hashes = unit_hashes(found)
        repeated = ngram_hashes(hashes, REPEATED_NGRAM)
        if len(np.unique(repeated)) < self.config.min_distinct * len(repeated):
            return "repetitive"
        common = ngram_hashes(hashes, COMMON_NGRAM).tolist()
        overlap = sum(ngram in self._known for ngram in common) / len(common)
        return "near_duplicate" if overlap > self.config.max_overlap else ""

    def keep(self, text: str) -> None:
        """Notes an answer that stands in the set."""
        found = units(text)
        if len(found) >= MIN_UNITS:
            self._known.update(ngram_hashes(unit_hashes(found), COMMON_NGRAM).tolist())


def too_long(num_tokens: int, lengths: Sequence[int], max_ratio: float | None) -> bool:
    """Whether an answer is over `MIN_TOKENS` and over `max_ratio` times the median of the lengths."""
    return max_ratio is not None and num_tokens > MIN_TOKENS and num_tokens > max_ratio * statistics.median(lengths)
