"""QueryGen: closeness in meaning and in letters to the one published query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from megatron_redone.evaluation.benchmark import Metrics, Row, Sums, statistic
from megatron_redone.evaluation.sns_bench.cuts import first_line_cut
from megatron_redone.scoring.base import Score
from megatron_redone.scoring.text_metrics import anls

Embed = Callable[[Sequence[str]], npt.NDArray[np.float64]]
"""Vectors [texts, width] of texts, of any length."""


@dataclass(frozen=True)
class QueryCloseness:
    """(100 * cosine + 100 * ANLS) / 2, the mean over rows.

    The cosine sees the first line only (cut also at `<` and `>`), ANLS = 1 - edits / longer length the whole answer,
    white space included. Without an embedder the score is ANLS alone, which nothing published compares with.

    Attributes:
        embed: gives the vectors of the cosine.
    """

    embed: Embed | None
    name: str = "mean of cosine and ANLS"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `anls`, `cosine` (-1..1) where there is an embedder, `parsed` (first line not empty)."""
        firsts, golds = [first_line_cut(output) for output in outputs], [str(row["answer"]) for row in rows]
        cosines = self._cosines(firsts, golds)
        return [
            self._score_one(output, gold, first, cosine)
            for output, gold, first, cosine in zip(outputs, golds, firsts, cosines, strict=True)
        ]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`anls`, `cosine` (where there is an embedder), `score`."""
        letters = 100 * statistic(sums, "anls") / num_items
        if "cosine" not in sums:
            return {"anls": letters, "score": letters}
        cosine = 100 * statistic(sums, "cosine") / num_items
        return {"anls": letters, "cosine": cosine, "score": (cosine + letters) / 2}

    def _cosines(self, firsts: Sequence[str], golds: Sequence[str]) -> list[float | None]:
        if self.embed is None or not firsts:
            return [None] * len(firsts)
        texts = list(dict.fromkeys([*firsts, *golds]))
        vectors = self.embed([text.encode("utf-8", "replace").decode("utf-8") for text in texts])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        of_text = dict(zip(texts, vectors / np.maximum(lengths, 1e-8), strict=True))
        return [float(of_text[first] @ of_text[gold]) for first, gold in zip(firsts, golds, strict=True)]

    def _score_one(self, output: str, gold: str, first: str, cosine: float | None) -> Score:
        letters = anls(output, gold)
        statistics = {"anls": letters, "parsed": float(bool(first))}
        value = letters
        if cosine is not None:
            statistics["cosine"] = cosine
            value = (cosine + letters) / 2
        reason = f"ANLS {letters:.2f}" + (f", cosine {cosine:.2f}" if cosine is not None else "")
        return Score(min(max(value, 0.0), 1.0), bool(first), statistics, reason)
