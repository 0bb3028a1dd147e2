"""Diagnosis after stage 1: which tasks a model fails, and how (RedOne 2.0's "bucket" of failure tasks).

The paper names no rule. Ours: a task is weak when its score is shown to lie below its target, by a one-sided test that
holds for few rows (`scoring/one_sided.py`), with false discoveries controlled over all tasks. Of the tasks that are
named so, the expected share that reaches its target is at most `false_discovery_rate`.

How often a healthy task is named: with m tasks of which k are weak, Benjamini and Hochberg's border for one p-value is
at most (k + 1) q / m while nothing else is named by mistake. For 80 tasks, 6 of them weak, and q = 0.01 that is 0.0009,
so that the chance that any healthy task is named in two or more of 20 diagnoses is below 80 * 190 * 0.0009^2 = 1.2%,
even if every healthy task lies exactly on its target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from megatron_redone.curation.config import DiagnosisConfig
from megatron_redone.curation.diagnosis.failure_kinds import failure_examples, failure_kinds
from megatron_redone.curation.diagnosis.results import MetricOf, ModelResults
from megatron_redone.curation.diagnosis.weakness import Weakness, trends, weakness
from megatron_redone.reporting.schema import DiagnosedCapability, DiagnosedTask, DiagnosisResult, TaskScore
from megatron_redone.scoring.paired import benjamini_hochberg


def diagnose(
    config: DiagnosisConfig,
    own: ModelResults,
    metric_of: MetricOf,
    *,
    references: Sequence[ModelResults] = (),
    earlier: Sequence[ModelResults] = (),
) -> DiagnosisResult:
    """The weak bucket, with a reason for every task in or out of it. Deterministic.

    Args:
        references: models whose best score of a task is its target; without them the targets of the settings are.
        earlier: results of earlier stages, for the trend.

    Raises:
        DataError: results on other rows.
    """
    found = [weakness(config, task, own, references, metric_of) for task in sorted(own.scores)]
    q_values = _q_values(found)
    order = sorted(found, key=lambda one: (one.gap, one.score.task))
    below = [one for one in order if _is_below(one, q_values, config)]
    others = [one for one in order if one not in below and one.target is not None]
    weak = [*below, *others[: max(0, config.min_tasks - len(below))]][: config.max_tasks]
    names = {one.score.task for one in weak}
    trend = trends(config, own, earlier[-1], metric_of) if earlier else {}
    tasks = [
        DiagnosedTask(
            task=one.score.task,
            capability=one.score.capability,
            score=one.score.score,
            interval=one.score.interval,
            weak=one.score.task in names,
            reason=_reason(one, q_values, config, one.score.task in names, one in below),
            failure_kinds=failure_kinds(list(own.predictions[one.score.task].values())),
            num_rows=one.score.num_rows,
            target=one.target,
            p_value=one.p_value,
            q_value=q_values.get(one.score.task),
            earlier=tuple(_score_in(before, one.score.task) for before in earlier),
            trend=trend.get(one.score.task, ""),
            examples=failure_examples(list(own.predictions[one.score.task].values()), config.examples_per_kind),
        )
        for one in order
    ]
    return DiagnosisResult(
        model=own.name,
        rule=_rule(config, references, len(below), len(q_values)),
        threshold=None if references or config.targets else config.threshold,
        tasks=tuple(tasks),
        weak_bucket=tuple(sorted(names)),
        capabilities=_capabilities(found, names),
        target_name=_target_name(config, references),
        earlier=tuple(before.name for before in earlier),
        settings=config.model_dump(mode="json", exclude={"generation"}),
    )


def _q_values(found: Sequence[Weakness]) -> dict[str, float]:
    tested = [one for one in found if one.p_value is not None]
    adjusted = benjamini_hochberg([one.p_value for one in tested if one.p_value is not None])
    return {one.score.task: q for one, q in zip(tested, adjusted, strict=True)}


def _is_below(one: Weakness, q_values: Mapping[str, float], config: DiagnosisConfig) -> bool:
    q_value = q_values.get(one.score.task, 1.0)
    return q_value <= config.false_discovery_rate and one.gap < 0 and -one.gap >= config.min_gap


def _score_in(results: ModelResults, task: str) -> float | None:
    return results.scores[task].score if task in results.scores else None


def _target_name(config: DiagnosisConfig, references: Sequence[ModelResults]) -> str:
    if len(references) == 1:
        return f"the score of {references[0].name}"
    if references:
        return f"the best score among {', '.join(one.name for one in references)}"
    return f"{config.threshold:g}" + (
        f", but for {len(config.targets)} tasks a target of their own" * bool(config.targets)
    )


def _rule(config: DiagnosisConfig, references: Sequence[ModelResults], num_below: int, num_tested: int) -> str:
    rule = (
        f"weak: the score is shown to lie below its target ({_target_name(config, references)}); one-sided tests of "
        f"{num_tested} tasks, false discovery rate {config.false_discovery_rate:g}"
    )
    rule += f"; and by at least {config.min_gap:g} points" if config.min_gap else ""
    rule += f"; the lowest others join to make {config.min_tasks}" if num_below < config.min_tasks else ""
    return rule + (f"; at most {config.max_tasks} tasks" if config.max_tasks is not None else "")


def _reason(one: Weakness, q_values: Mapping[str, float], config: DiagnosisConfig, weak: bool, below: bool) -> str:
    low, high = one.score.interval
    place = f"score {one.score.score:.1f}, interval {low:.1f} to {high:.1f}"
    if one.target is None:
        return f"{place}: {one.unknown}, so it has no target"
    place += f", {one.gap:+.1f} points to {one.target:.1f}" + (f" of {one.against}" if one.against else "")
    told = one.unknown if one.p_value is None else f"q = {q_values[one.score.task]:.2g}"
    if weak and below:
        return f"{place}: shown to lie below ({told})"
    if weak:
        return f"{place}: not shown to lie below ({told}); among the lowest others, to make {config.min_tasks}"
    if below:
        return f"{place}: shown to lie below ({told}), but {config.max_tasks} tasks with larger gaps fill the bucket"
    if one.gap >= 0:
        return f"{place}: reaches its target"
    if one.p_value is not None and q_values[one.score.task] <= config.false_discovery_rate:
        return f"{place}: shown to lie below ({told}), but by less than {config.min_gap:g} points"
    return f"{place}: not shown to lie below ({told})"


def _capabilities(found: Sequence[Weakness], weak: set[str]) -> tuple[DiagnosedCapability, ...]:
    by_name: dict[str, list[Weakness]] = {}
    for one in found:
        by_name.setdefault(one.score.capability, []).append(one)
    return tuple(
        DiagnosedCapability(
            capability=name,
            num_tasks=len(members),
            num_weak=sum(one.score.task in weak for one in members),
            score=_mean([one.score.score for one in members]),
            interval=mean_interval_of([one.score for one in members]),
            target=_mean([one.score.score if one.target is None else one.target for one in members]),
        )
        for name, members in sorted(by_name.items())
    )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def mean_interval_of(scores: Sequence[TaskScore]) -> tuple[float, float]:
    """95% interval of the mean of independent scores from their own intervals (Zou and Donner 2008, MOVER): each side
    is the root of the sum of the squared distances to the limits, divided by the number of scores. It keeps the width
    that Wilson's intervals have where all answers are right or wrong."""
    middle = sum(score.score for score in scores) / len(scores)
    down = math.sqrt(sum((score.score - score.interval[0]) ** 2 for score in scores)) / len(scores)
    up = math.sqrt(sum((score.interval[1] - score.score) ** 2 for score in scores)) / len(scores)
    return round(max(0.0, middle - down), 4), round(min(100.0, middle + up), 4)
