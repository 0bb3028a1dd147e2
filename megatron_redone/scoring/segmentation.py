"""Cuts of a text into segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.scoring.base import UNREADABLE, Score, paired, total


def spans(segments: Sequence[str]) -> frozenset[tuple[int, int]]:
    """(start, end) of each segment in characters, white space not counted, when they are put end to end."""
    found: set[tuple[int, int]] = set()
    start = 0
    for segment in segments:
        end = start + len("".join(segment.split()))
        found.add((start, end))
        start = end
    return frozenset(found)


@dataclass(frozen=True)
class SegmentF1:
    """F1 of segments by place, the usual measure of word segmentation (SIGHAN): a segment counts where both its ends
    are right. Aggregate: micro-F1 over the segments of all items.
    """

    name: str = "segment_f1"

    def score(self, predictions: Sequence[Sequence[str] | None], references: Sequence[Any]) -> list[Score]:
        """One score per pair of segmentations of one text; statistics: `hits`, `predicted`, `gold`."""
        return [_score_segments(prediction, reference) for prediction, reference in paired(predictions, references)]

    def aggregate(self, scores: Sequence[Score]) -> float:
        """2 * sum(hits) / (sum(predicted) + sum(gold))."""
        size = total(scores, "predicted") + total(scores, "gold")
        return 2.0 * total(scores, "hits") / size if size else 0.0


def _score_segments(prediction: Sequence[str] | None, reference: Sequence[str]) -> Score:
    gold = spans(reference)
    if prediction is None:
        statistics = {"hits": 0.0, "predicted": 0.0, "gold": float(len(gold))}
        return Score(0.0, parsed=False, statistics=statistics, reason=UNREADABLE)
    mine = spans(prediction)
    hits = float(len(mine & gold))
    statistics = {"hits": hits, "predicted": float(len(mine)), "gold": float(len(gold))}
    size = len(mine) + len(gold)
    return Score(2.0 * hits / size if size else 0.0, parsed=True, statistics=statistics)
