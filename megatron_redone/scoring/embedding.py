"""Nearness in meaning: the cosine of two texts' vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_redone.scoring.base import UNREADABLE, Score, mean_value, paired

Embed = Callable[[Sequence[str]], npt.NDArray[np.float64]]
"""[n, d] vectors of n texts; of any length, not 0."""


def cosines(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[n] cosines of the rows of two [n, d] arrays; 0 where a vector has no length."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(axis=1)
    found: npt.NDArray[np.float64] = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return found


@dataclass(frozen=True)
class EmbeddingCosine:
    """The cosine of prediction and reference, negative ones as 0; the aggregate is the mean."""

    embed: Embed
    name: str = "embedding_cosine"

    def score(self, predictions: Sequence[str | None], references: Sequence[str]) -> list[Score]:
        """One score per pair, embedded in one call; statistics: `cosine` (-1..1)."""
        pairs = paired(predictions, references)
        read = [(prediction, reference) for prediction, reference in pairs if prediction is not None]
        values = iter(self._cosines(read))
        return [
            Score(0.0, parsed=False, statistics={"cosine": 0.0}, reason=UNREADABLE)
            if prediction is None
            else _score_of(next(values))
            for prediction, _ in pairs
        ]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """The mean of the item values."""
        return mean_value(scores)

    def _cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        texts = [text for pair in pairs for text in pair]
        different = list(dict.fromkeys(texts))
        vectors = dict(zip(different, self.embed(different), strict=True))
        first, second = (np.stack([vectors[pair[side]] for pair in pairs]) for side in (0, 1))
        found: list[float] = cosines(first, second).tolist()
        return found


def _score_of(cosine: float) -> Score:
    return Score(min(max(cosine, 0.0), 1.0), parsed=True, statistics={"cosine": cosine})
