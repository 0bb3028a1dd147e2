"""Keeps held-out rows out of training sets: by id, and by n-grams of their texts.

`redone contamination` tells afterwards what a training file holds of a benchmark; here a row is left out before it is
written. The n-grams, and what makes them too common to count, are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from megatron_redone.common.logging import get_logger
from megatron_redone.curation.config import HeldOutConfig
from megatron_redone.curation.contamination.config import ContaminationConfig
from megatron_redone.curation.contamination.index import load_items
from megatron_redone.curation.filter.benchmarks import benchmark_files, rows_of
from megatron_redone.data.ngrams import ngram_hashes, unit_hashes, units
from megatron_redone.tasks.row import Row

LOG = get_logger("held_out")
MAX_LOGGED = 3


@dataclass(frozen=True)
class HeldOutSources:
    """What a process needs to make the index by itself."""

    paths: tuple[Path, ...]
    config: HeldOutConfig


class HeldOut:
    """Ids and n-grams of held-out files.

    Args:
        sources: files or folders of JSON rows.

    Raises:
        DataError: a file that cannot be read: what it holds could not be kept out.
    """

    def __init__(self, sources: Sequence[Path], config: HeldOutConfig) -> None:
        self.config = config
        paths = list(dict.fromkeys(path for source in sources for path in benchmark_files(source)))
        self.ids = {
            str(row["id"]) for path in paths for _, row in rows_of(path) if isinstance(row, dict) and "id" in row
        }
        of_ngrams = ContaminationConfig(
            ngram_words=config.ngram_units,
            ngram_characters=config.ngram_units,
            min_words=min(config.min_units, config.ngram_units),
            min_characters=config.ngram_units,
            max_rows_per_ngram=config.max_rows_per_ngram,
        )
        self._items = load_items({str(path): [path] for path in paths}, of_ngrams)

    def reason(self, row: Row) -> str | None:
        """Why a training row is too near to a held-out one; None where it is not."""
        return self.reason_for(row.id, row.to_json())

    def reason_for(self, row_id: str | None, value: Any) -> str | None:
        """The same of anything else that is trained on: its id, and a JSON value with all its texts."""
        if row_id in self.ids:
            return "id"
        shared: Counter[int] = Counter()
        hashes = [unit_hashes(units(text)) for text in _texts(value)]
        if not hashes:
            return None
        for n, grams in self._items.grams.items():
            own = np.unique(np.concatenate([ngram_hashes(of_text, n) for of_text in hashes]))
            for key in grams.find(own)[1]:
                shared.update(grams.owners(int(key)).tolist())
        near = any(count >= self.config.share * self._items.text_grams[text] for text, count in shared.items())
        return "ngrams" if near else None

    def without(self, rows: Sequence[Row]) -> tuple[list[Row], dict[str, int]]:
        """The rows that may be trained on, and how many were left out for which reason."""
        kept: list[Row] = []
        counts = {"id": 0, "ngrams": 0}
        for row in rows:
            reason = self.reason(row)
            if reason is None:
                kept.append(row)
                continue
            counts[reason] += 1
            if sum(counts.values()) <= MAX_LOGGED:
                LOG.warning("%s is left out: it shares its %s with a held-out row", row.id, reason)
        return kept, counts


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _texts(member)
