"""Scores of several arms on the same rows, with intervals over rows and seeds.

A draw takes rows with replacement, the same for all arms and seeds, and seeds with replacement, the same for all arms
that have the same seeds; each task's own metric is computed again. So the interval of an arm holds both what the choice
of rows and what the choice of seeds did, and the interval of a difference is paired by both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from megatron_redone.common.errors import DataError
from megatron_redone.common.seeding import derive_seed, numpy_rng
from megatron_redone.evaluation.comparison.metrics import task_metric, with_count
from megatron_redone.evaluation.comparison.reading import Evaluation
from megatron_redone.scoring.paired import Numbers
from megatron_redone.scoring.statistics import bootstrap_sums, wilson_interval

Interval = tuple[float, float]
Seeds = tuple[int | None, ...]


@dataclass(frozen=True)
class ArmDraws:
    """A score of one arm in 0..100.

    Attributes:
        seeds: of the models; (None,) for one that is made once.
        scores: [seeds], on all rows.
        draws: [seeds, resamples], on drawn rows.
        seed: of the draws of seeds.
        sure: where every row of every seed is right, or every row wrong: how many rows there are, else 0.
    """

    seeds: Seeds
    scores: Numbers
    draws: Numbers
    seed: int
    sure: int = 0

    @property
    def score(self) -> float:
        """Mean over the seeds."""
        return float(self.scores.mean())

    @cached_property
    def over_seeds(self) -> Numbers:
        """[resamples]: the mean over drawn seeds on drawn rows.

        The mean of n seeds drawn from n varies too little by the factor (n - 1) / n: deviations from the mean of all
        seeds are stretched by sqrt(n / (n - 1)).
        """
        number = len(self.seeds)
        whole = self.draws.mean(axis=0)
        if number == 1:
            return np.asarray(whole)
        picks = numpy_rng(self.seed, f"seeds {self.seeds}").integers(0, number, size=(number, self.draws.shape[1]))
        picked = np.take_along_axis(self.draws, picks, axis=0).mean(axis=0)
        return np.asarray(whole + math.sqrt(number / (number - 1)) * (picked - whole))

    def interval(self) -> Interval:
        """95% interval of the score; Wilson's over the rows where all rows are right or all wrong, since draws of equal
        values tell nothing."""
        if self.sure:
            right = self.sure if self.score > 50 else 0
            low, high = wilson_interval(right, self.sure)
            return 100 * low, 100 * high
        return _percentiles(self.over_seeds, self.score, 0.0, 100.0)


def difference(better: ArmDraws, than: ArmDraws) -> tuple[float, Interval]:
    """better - than in points, with its 95% interval: paired by row, and by seed where both have the same seeds."""
    points = better.score - than.score
    return points, _percentiles(better.over_seeds - than.over_seeds, points, -100.0, 100.0)


def overlap(first: Interval, second: Interval) -> bool:
    """Whether two intervals share a point."""
    return first[0] <= second[1] and second[0] <= first[1]


def _percentiles(values: Numbers, point: float, lowest: float, highest: float) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return max(lowest, min(float(low), point)), min(highest, max(float(high), point))


def mean_of(parts: Sequence[ArmDraws]) -> ArmDraws:
    """The plain mean of scores of one arm, draw by draw."""
    return ArmDraws(
        parts[0].seeds,
        np.mean([part.scores for part in parts], axis=0),
        np.mean([part.draws for part in parts], axis=0),
        parts[0].seed,
        sum(part.sure for part in parts) if all(part.sure and part.score == parts[0].score for part in parts) else 0,
    )


def task_draws(
    arms: Mapping[str, Mapping[int | None, Evaluation]], held_out: str, task: str, num_resamples: int, seed: int
) -> tuple[dict[str, ArmDraws], int]:
    """Scores of all arms on one task of one held-out set, and the number of its rows.

    Args:
        arms: arm -> seed -> its evaluation.

    Raises:
        DataError: rows differ between arms, or cannot be scored again.
    """
    evaluations = [one for by_seed in arms.values() for one in by_seed.values()]
    first = evaluations[0].tasks[task]
    for one in evaluations:
        gold = {name: item.gold for name, item in one.tasks.get(task, {}).items()}
        if gold != {name: item.gold for name, item in first.items()}:
            raise DataError(
                f"{one.folder} and {evaluations[0].folder}: rows of {task} differ; arms are compared on the same rows, "
                "let all read the same held-out set"
            )
    names = sorted(first)
    items = [[one.tasks[task][name] for name in names] for one in evaluations]
    metric = task_metric(evaluations, task, items)
    if isinstance(metric, str):
        raise DataError(f"{evaluations[0].folder}: {task}: {metric}")
    row_seed = derive_seed(seed, "ablation", held_out, task)
    found = {}
    for arm, by_seed in arms.items():
        matrices = [with_count(metric.matrix([one.tasks[task][name] for name in names])) for one in by_seed.values()]
        values = {item.value for one in by_seed.values() for item in one.tasks[task].values()}
        found[arm] = ArmDraws(
            tuple(by_seed),
            np.array([metric.score(matrix.sum(axis=0, keepdims=True))[0] for matrix in matrices]),
            np.array([metric.score(bootstrap_sums(matrix, row_seed, num_resamples)) for matrix in matrices]),
            seed,
            len(names) if values in ({0.0}, {1.0}) else 0,
        )
    return found, len(names)
