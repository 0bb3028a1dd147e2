"""The score of a task as a function of sums over its items, whatever wrote the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from megatron_redone.evaluation.benchmark import Benchmark
from megatron_redone.evaluation.comparison.reading import Evaluation, Item
from megatron_redone.evaluation.sns_bench.benchmark import NAME as SNS_BENCH, sns_bench
from megatron_redone.evaluation.translation import NAME as SNS_TRANSBENCH, sns_transbench
from megatron_redone.scoring.base import Score, Scorer
from megatron_redone.scoring.paired import Numbers, ScoreOfSums
from megatron_redone.tasks.catalogue import TASKS

TOLERANCE = 0.01
"""Points by which a score that was computed again may differ from the one reported, which is rounded."""
VALUE, PARSED = "", " parsed"
"""Columns beside the statistics: the item's value, and whether it could be read."""


@dataclass(frozen=True)
class TaskMetric:
    """How a task is scored.

    Attributes:
        names: the columns of `matrix`.
        score: their sums to the score in 0..100.
        note: how it departs from the task's own metric, "" where it does not.
    """

    names: tuple[str, ...]
    score: ScoreOfSums
    note: str = ""

    def matrix(self, items: Sequence[Item]) -> Numbers:
        """[items, columns]"""
        return np.array(
            [
                [item.value, float(item.parsed), *(item.statistics.get(name, 0.0) for name in self.names[2:])]
                for item in items
            ]
        )


def benchmark_of(name: str) -> Benchmark | None:
    """A benchmark of files with official metrics, without what only answers need; None for others."""
    if name == SNS_BENCH:
        return sns_bench(None, "")
    return sns_transbench() if name == SNS_TRANSBENCH else None


def task_metric(evaluations: Sequence[Evaluation], task: str, items: Sequence[Sequence[Item]]) -> TaskMetric | str:
    """The metric of a task that both evaluations hold, tried on the whole evaluation of each; or why there is none.

    In this order: the official metric of a known benchmark, the scorer of a task of the catalogue, the mean of the
    items. Each counts only if it gives the scores that the evaluations report. Rows of a recipe that were scored
    before their statistics were written are compared by the mean of their values, and that is said.

    Args:
        items: all items of the task, by evaluation.
    """
    names = sorted({name for of_side in items for item in of_side for name in item.statistics})
    columns = (VALUE, PARSED, *names)
    num_items = len(items[0])
    candidates = [
        *_official(evaluations[0], task, columns),
        *_of_catalogue(evaluations[0], task, columns),
        TaskMetric(columns, _mean),
    ]
    for candidate in candidates:
        if all(_gives(candidate, of_side, one.reported[task]) for one, of_side in zip(evaluations, items, strict=True)):
            return candidate
    if evaluations[0].is_stage and not names:
        return TaskMetric(columns, _mean, "mean of the rows, not the task's own metric: no statistics in the file")
    return f"the {num_items} items do not give the reported score; the files are of different evaluations"


def _gives(metric: TaskMetric, items: Sequence[Item], reported: float) -> bool:
    if not items:
        return False
    score = metric.score(with_count(metric.matrix(items)).sum(axis=0, keepdims=True))
    return bool(abs(float(score[0]) - reported) <= TOLERANCE)


def with_count(matrix: Numbers) -> Numbers:
    """A last column of ones, so that sums tell the number of items."""
    return np.column_stack([matrix, np.ones(len(matrix))])


def _mean(sums: Numbers) -> Numbers:
    return np.asarray(100 * sums[:, 0] / sums[:, -1])


def _official(evaluation: Evaluation, task: str, columns: tuple[str, ...]) -> list[TaskMetric]:
    benchmark = benchmark_of(evaluation.benchmark)
    if benchmark is None or task not in benchmark.tasks:
        return []
    metric = benchmark.tasks[task].metric

    def score(sums: Numbers) -> Numbers:
        by_name = {name: sums[:, place] for place, name in enumerate(columns) if name not in (VALUE, PARSED)}
        values = metric.aggregate(by_name, int(sums[0, -1]))
        return np.broadcast_to(values["score"], (len(sums),)).astype(np.float64)

    return [TaskMetric(columns, score)]


def _of_catalogue(evaluation: Evaluation, task: str, columns: tuple[str, ...]) -> list[TaskMetric]:
    if not evaluation.is_stage or task not in TASKS:
        return []
    scorer: Scorer = TASKS[task].scorer

    def score(sums: Numbers) -> Numbers:
        means = sums / sums[:, -1:]
        return np.array([100 * scorer.aggregate([_average_item(row, columns)]) for row in means])

    return [TaskMetric(columns, score)]


def _average_item(means: Numbers, columns: tuple[str, ...]) -> Score:
    """An item with the mean of every statistic: the scorers of the catalogue are ratios of sums and means of items, for
    which it scores as all items together do. (`task_metric` tries whether it does.)"""
    statistics = {name: float(means[place]) for place, name in enumerate(columns) if name not in (VALUE, PARSED)}
    return Score(min(max(float(means[0]), 0.0), 1.0), True, statistics)
