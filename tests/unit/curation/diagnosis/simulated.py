"""Results of a model on many tasks, drawn from known abilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean

import numpy as np

from megatron_redone.common.seeding import numpy_rng
from megatron_redone.curation.diagnosis.results import ModelResults
from megatron_redone.reporting.schema import Prediction, TaskScore
from megatron_redone.scoring.paired import Numbers
from megatron_redone.scoring.statistics import mean_interval
from megatron_redone.tasks.catalogue import TASKS, get_task


def prediction(task: str, number: int, value: float, **more: object) -> Prediction:
    fields = {"prompt": "question", "output": "answer", "target": "gold", "parsed": True, **more}
    return Prediction.model_validate(
        {"id": f"{task}-{number:04}", "task": task, "language": "en", "value": value, **fields}
    )


@cache
def _right_or_wrong(task: str, number: int, value: float) -> Prediction:
    """Made once: a simulation has hundreds of thousands."""
    return prediction(task, number, value, output="answer" if value else "")


def results(name: str, predictions: Sequence[Prediction]) -> ModelResults:
    """Every task's score is the mean of its rows."""
    by_task: dict[str, list[float]] = {}
    for one in predictions:
        by_task.setdefault(one.task, []).append(one.value)
    scores = []
    for task, values in by_task.items():
        low, high = mean_interval(values, 0, num_resamples=200)
        scores.append(
            TaskScore(
                task=task,
                capability=get_task(task).capability if task in TASKS else "other",
                reward_kind="exact_match",
                num_rows=len(values),
                score=100 * fmean(values),
                interval=(100 * low, 100 * high),
                parse_rate=1.0,
            )
        )
    return ModelResults.of(name, scores, predictions)


def simulated(
    name: str, abilities: Mapping[str, float], rows: int, seed: int, graded: Sequence[str] = ()
) -> ModelResults:
    """Right or wrong answers with the probability of the task's ability; of `graded` tasks scores with that mean."""
    predictions = []
    for task, ability in abilities.items():
        generator = numpy_rng("simulated", name, seed, task)
        if task in graded:
            values = generator.beta(6 * ability, 6 * (1 - ability), rows)
            predictions += [prediction(task, number, float(value)) for number, value in enumerate(values)]
        else:
            values = (generator.random(rows) < ability).astype(np.float64)
            predictions += [_right_or_wrong(task, number, float(value)) for number, value in enumerate(values)]
    return results(name, predictions)


class MeanMetric:
    """100 times the mean of the values."""

    def matrix(self, predictions: Sequence[Prediction]) -> Numbers:
        return np.array([[one.value, 1.0] for one in predictions])

    def score(self, sums: Numbers) -> Numbers:
        return np.asarray(100 * sums[:, 0] / sums[:, 1])


def mean_metric(task: str, sides: Sequence[ModelResults]) -> MeanMetric:
    return MeanMetric()
