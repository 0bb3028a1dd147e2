"""Rows of several corpora in given shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megatron_redone.data.document import Document
from megatron_redone.data.indexed_corpus import PretrainSamples


class Blend:
    """`num_rows` rows, each of one corpus; see `blend`."""

    def __init__(self, corpora: Sequence[PretrainSamples], weights: Sequence[float], num_rows: int) -> None:
        self.corpora = corpora
        shares, self.counts = np.array(weights) / sum(weights), np.zeros(len(corpora), dtype=np.int64)
        self._rows: list[tuple[int, int]] = []
        for row in range(num_rows):
            corpus = int(np.argmax(shares * (row + 1) - self.counts))
            self._rows.append((corpus, int(self.counts[corpus])))
            self.counts[corpus] += 1

    def __getitem__(self, row: int) -> list[Document]:
        corpus, place = self._rows[row]
        return self.corpora[corpus][place]


def blend(corpora: Sequence[PretrainSamples], weights: Sequence[float], num_rows: int) -> Blend:
    """Row k comes from the corpus that lies furthest behind its share of the first k + 1 rows.

    No corpus is ever a whole row ahead of its share, so the shares are exact wherever weight * rows is whole.
    """
    return Blend(corpora, weights, num_rows)
