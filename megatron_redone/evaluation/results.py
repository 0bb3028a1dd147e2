"""Files of an evaluation on a benchmark: results.json for people and tables, scores.jsonl for comparisons.

    results.json       BenchmarkResult
    scores.jsonl       one ItemScore a line, in order of the tasks and of the rows in each
    failures.jsonl     rows that lost points, some of each task, to be read
    evaluation.html    the page
    predictions.jsonl  where a model answered: one object a line, {"file", "index", "output", ...}

All scores are in 0..100, item values in 0..1. The score of a task is no mean of items for most metrics, so a line of
scores.jsonl holds the statistics that its metric sums up (`Metric.aggregate` in evaluation/benchmark.py): sums over
resampled items give resampled scores, which is what a paired bootstrap of two evaluations needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import read_jsonl, write_jsonl
from megatron_redone.reporting.benchmark_schema import BaselineScores, BenchmarkResult, Failure
from megatron_redone.reporting.schema import read_result

__all__ = [
    "BaselineScores",
    "BenchmarkResult",
    "Failure",
    "ItemScore",
    "read_item_scores",
    "read_results",
    "write_results",
]

RESULTS, SCORES, FAILURES, PAGE, PREDICTIONS = (
    "results.json",
    "scores.jsonl",
    "failures.jsonl",
    "evaluation.html",
    "predictions.jsonl",
)


@dataclass(frozen=True)
class ItemScore:
    """One line of scores.jsonl.

    Attributes:
        task: the task's name in `BenchmarkResult.tasks`, for example Note-NER.json.
        index: place of the row in the task's file, from 0.
        value: 0..1, how good this answer is by itself.
        parsed: whether the answer could be read.
        statistics: what the metric of the task sums up.
    """

    task: str
    index: int
    value: float
    parsed: bool
    statistics: dict[str, float]


def write_results(
    folder: Path, result: BenchmarkResult, items: Iterable[ItemScore], failures: Iterable[Failure] = ()
) -> None:
    """scores.jsonl, failures.jsonl and, last, results.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / FAILURES, (failure.model_dump() for failure in failures))
    write_jsonl(folder / SCORES, (asdict(item) for item in items))
    atomic_write_json(folder / RESULTS, result.model_dump(mode="json"))


def read_results(folder: Path) -> BenchmarkResult:
    """results.json of an evaluation.

    Raises:
        DataError: no such file, or one that breaks the schema.
    """
    return read_result(folder / RESULTS, BenchmarkResult)


def read_item_scores(folder: Path) -> Iterator[ItemScore]:
    """The lines of scores.jsonl.

    Raises:
        DataError: no such file, or a line that is no ItemScore (names file and line).
    """
    path = folder / SCORES
    for number, line in read_jsonl(path):
        try:
            yield ItemScore(
                task=str(line["task"]),
                index=int(line["index"]),
                value=float(line["value"]),
                parsed=bool(line["parsed"]),
                statistics={str(name): float(value) for name, value in line["statistics"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path}:{number}: {error!r}; a line holds task, index, value, parsed and statistics; "
                "run `redone evaluate` again"
            ) from error
