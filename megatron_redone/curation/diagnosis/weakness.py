"""One task against its target: the gap, and how sure it is that the score lies below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from megatron_redone.common.seeding import derive_seed
from megatron_redone.curation.config import DiagnosisConfig
from megatron_redone.curation.diagnosis.results import MetricOf, ModelResults, shared_ids
from megatron_redone.reporting.schema import TaskScore
from megatron_redone.scoring.one_sided import (
    aggregate_below_target,
    below_reference,
    below_target,
    drawn_below_reference,
)
from megatron_redone.scoring.paired import PairedDraws, benjamini_hochberg, paired_draws

SEED = 0
"""Of resampling: a diagnosis is a function of its inputs."""


@dataclass(frozen=True)
class Weakness:
    """A task beside what it is held against.

    Attributes:
        target: in 0..100; None where no reference has the task.
        against: name of the model whose score the target is; "" for a number.
        p_value: of "the score reaches the target", one-sided; None where nothing can be said.
        unknown: why not.
    """

    score: TaskScore
    target: float | None
    against: str
    p_value: float | None
    unknown: str = ""

    @property
    def gap(self) -> float:
        """Score minus target, in points; 0 without a target."""
        return 0.0 if self.target is None else self.score.score - self.target


def weakness(
    config: DiagnosisConfig, task: str, own: ModelResults, references: Sequence[ModelResults], metric_of: MetricOf
) -> Weakness:
    """The gap to the best of the references, or without references to a number, with its p-value.

    With k references the p-value of the best is multiplied by k (Bonferroni): the best of several is partly lucky.
    """
    score = own.scores[task]
    having = [one for one in references if task in one.scores]
    if references and not having:
        return Weakness(score, None, "", None, "no reference has it")
    best = max(having, key=lambda one: (one.scores[task].score, one.name), default=None)
    target = best.scores[task].score if best is not None else config.targets.get(task, config.threshold)
    against = best.name if best is not None else ""
    num_rows = len(own.predictions[task] if best is None else shared_ids(task, own, best))
    if num_rows < config.min_rows:
        return Weakness(score, target, against, None, f"{num_rows} rows, and fewer than {config.min_rows} tell nothing")
    if best is None:
        p_value = _below_number(own, task, target, metric_of, config.num_resamples)
    else:
        p_value = min(1.0, len(having) * _below_model(own, best, task, metric_of, config.num_resamples))
    return Weakness(score, target, against, p_value)


def _below_number(own: ModelResults, task: str, target: float, metric_of: MetricOf, num_resamples: int) -> float:
    predictions = list(own.predictions[task].values())
    values = [one.value for one in predictions]
    if own.is_mean(task):
        return below_target(values, target / 100)
    metric = metric_of(task, [own])
    seed = derive_seed(SEED, "diagnose", task)
    return aggregate_below_target(
        metric.matrix(predictions), lambda sums: metric.score(sums) / 100, values, target / 100, seed, num_resamples
    )


def _below_model(
    own: ModelResults, reference: ModelResults, task: str, metric_of: MetricOf, num_resamples: int
) -> float:
    ids = shared_ids(task, own, reference)
    if own.is_mean(task) and reference.is_mean(task):
        exact = below_reference(own.values(task, ids), reference.values(task, ids))
        if exact is not None:
            return exact
    return drawn_below_reference(_draws(own, reference, task, metric_of, num_resamples))


def _draws(
    own: ModelResults, reference: ModelResults, task: str, metric_of: MetricOf, num_resamples: int
) -> PairedDraws:
    """The reference first, on the rows that both have."""
    ids = shared_ids(task, own, reference)
    metric = metric_of(task, [own, reference])
    first, second = (metric.matrix([side.predictions[task][name] for name in ids]) for side in (reference, own))
    return paired_draws(first, second, metric.score, derive_seed(SEED, "diagnose", task), num_resamples)


def trends(config: DiagnosisConfig, own: ModelResults, before: ModelResults, metric_of: MetricOf) -> dict[str, str]:
    """By task: `rose`, `fell` or `no conclusion` against earlier results, false discoveries controlled."""
    tasks = [task for task in sorted(own.scores) if task in before.scores]
    draws = {task: _draws(own, before, task, metric_of, config.num_resamples) for task in tasks}
    adjusted = benjamini_hochberg([draws[task].p_value() for task in tasks])
    return {
        task: "no conclusion"
        if q_value > config.false_discovery_rate or len(own.predictions[task]) < config.min_rows
        else ("rose" if draws[task].difference > 0 else "fell")
        for task, q_value in zip(tasks, adjusted, strict=True)
    }
