"""Accuracy after an official cut: Taxonomy-single, Hashtag-single, Gender, QueryCorr-explain, Taxonomy-multiple."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from megatron_redone.evaluation.benchmark import Metrics, Row, Sums, statistic
from megatron_redone.evaluation.sns_bench.cuts import label_cut, normalised_path, short_cut
from megatron_redone.scoring.base import Score


@dataclass(frozen=True)
class CutAccuracy:
    """Share of answers that equal the gold answer, letter by letter, after the cut. The gold answer is not cut, so one
    that holds a border can never be met.

    Attributes:
        cut: the official parser.
        options: the labels of a row; an answer counts as readable where the cut leaves one of them.
    """

    name: str
    cut: Callable[[str], str]
    options: Callable[[Row], list[str]]

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `correct`, `parsed`."""
        return [self._score_one(output, row) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`accuracy` = `score`."""
        return _accuracy(sums, num_items)

    def _score_one(self, output: str, row: Row) -> Score:
        label = self.cut(output)
        correct, readable = label == row["answer"], label in self.options(row)
        reason = "" if correct else "another option" if readable else f"cut to {shortened(label)}, which is no option"
        return _score(correct, correct or readable, reason)


@dataclass(frozen=True)
class PathAccuracy:
    """Taxonomy-multiple: share of answers "primary | secondary | tertiary" that equal the gold answer after label cut
    and normalisation; the gold answer counts normalised and as it stands.
    """

    name: str = "exact match of the path"

    def score(self, outputs: Sequence[str], rows: Sequence[Row]) -> list[Score]:
        """Statistics: `correct`, `parsed` (three parts after the cut)."""
        return [self._score_one(output, row) for output, row in zip(outputs, rows, strict=True)]

    def aggregate(self, sums: Sums, num_items: int) -> Metrics:
        """`accuracy` = `score`."""
        return _accuracy(sums, num_items)

    def _score_one(self, output: str, row: Row) -> Score:
        label = label_cut(output)
        path = normalised_path(label)
        correct = path in (normalised_path(row["answer"]), row["answer"])
        readable = label.count("|") == 2
        reason = (
            "" if correct else "another path" if readable else f"cut to {shortened(label)}, which has no three parts"
        )
        return _score(correct, correct or readable, reason)


def yes_no() -> CutAccuracy:
    """Gender and QueryCorr-explain."""
    return CutAccuracy("accuracy", short_cut, lambda row: ["Yes", "No"])


def shortened(text: str, length: int = 40) -> str:
    """A text in quotes for a reason, not longer than a line."""
    return repr(text if len(text) <= length else text[:length] + "...")


def _score(correct: bool, parsed: bool, reason: str) -> Score:
    return Score(float(correct), parsed, {"correct": float(correct), "parsed": float(parsed)}, reason)


def _accuracy(sums: Sums, num_items: int) -> Metrics:
    accuracy = 100 * statistic(sums, "correct") / num_items
    return {"accuracy": accuracy, "score": accuracy}
