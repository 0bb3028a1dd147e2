"""What a diagnosis reads: the scores and answers of a model, and how a task's score comes from its answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from megatron_redone.common.errors import DataError
from megatron_redone.reporting.schema import Prediction, TaskScore
from megatron_redone.scoring.paired import Numbers


@dataclass(frozen=True)
class ModelResults:
    """One model on the rows of one split or benchmark.

    Attributes:
        name: of the model, as people know it.
        scores: by task.
        predictions: by task, by id of the row.
    """

    name: str
    scores: Mapping[str, TaskScore]
    predictions: Mapping[str, Mapping[str, Prediction]]

    @staticmethod
    def of(name: str, scores: Sequence[TaskScore], predictions: Sequence[Prediction]) -> ModelResults:
        """Sorts predictions by task and id.

        Raises:
            DataError: a row that stands twice, or a prediction of a task without a score.
        """
        by_task: dict[str, dict[str, Prediction]] = {score.task: {} for score in scores}
        for one in predictions:
            if one.task not in by_task:
                raise DataError(f"{name}: predictions of {one.task!r}, which has no score; run the evaluation again")
            if one.id in by_task[one.task]:
                raise DataError(f"{name}: {one.task} has the row {one.id!r} twice; run the evaluation again")
            by_task[one.task][one.id] = one
        return ModelResults(name, {score.task: score for score in scores}, by_task)

    def values(self, task: str, ids: Sequence[str]) -> list[float]:
        """Item scores in 0..1."""
        return [self.predictions[task][name].value for name in ids]

    def is_mean(self, task: str) -> bool:
        """Whether the task's score is the mean of its items."""
        found = self.predictions[task].values()
        return bool(found) and math.isclose(
            100 * fmean(one.value for one in found), self.scores[task].score, abs_tol=0.01
        )


class TaskMetric(Protocol):
    """A score as a function of sums over items."""

    def matrix(self, predictions: Sequence[Prediction]) -> Numbers:
        """[items, statistics]"""
        ...

    def score(self, sums: Numbers) -> Numbers:
        """[n, statistics] to scores [n] in 0..100."""
        ...


MetricOf = Callable[[str, Sequence[ModelResults]], TaskMetric]
"""The metric of a task that gives the scores of all these results.

Raises:
    DataError: there is none.
"""


def shared_ids(task: str, own: ModelResults, other: ModelResults) -> list[str]:
    """Ids of the rows that both answered, sorted.

    Raises:
        DataError: no such row, or one with other gold answers in the two.
    """
    ours, theirs = own.predictions[task], other.predictions.get(task, {})
    ids = sorted(set(ours) & set(theirs))
    if not ids:
        raise DataError(f"{other.name} answered no row of {task} that {own.name} answered; evaluate both on one split")
    changed = [name for name in ids if ours[name].target != theirs[name].target]
    if changed:
        raise DataError(
            f"{task}: {len(changed)} rows have other gold answers in {own.name} and {other.name}, first "
            f"{changed[0]!r}; evaluate both on the same rows"
        )
    return ids
