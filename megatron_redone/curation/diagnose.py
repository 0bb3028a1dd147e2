"""Diagnosis after stage 1: which tasks the model fails, and how (RedOne 2.0's "bucket" of failure tasks)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from megatron_redone.curation.config import DiagnosisConfig
from megatron_redone.reporting.schema import DiagnosedTask, DiagnosisResult, Prediction, TaskScore


def diagnose(
    config: DiagnosisConfig, scores: Sequence[TaskScore], predictions: Sequence[Prediction], model: str
) -> DiagnosisResult:
    """The weak bucket, with a reason for every task in or out of it.

    A task is weak when the upper end of its 95% interval is below the threshold, so that chance alone does not put
    it there. Deterministic: it depends on the scores only.
    """
    ordered = sorted(scores, key=lambda score: (score.score, score.task))
    below = [score for score in ordered if score.interval[1] < config.threshold]
    others = [score for score in ordered if score not in below]
    weak = [*below, *others[: max(0, config.min_tasks - len(below))]][: config.max_tasks]
    names = {score.task for score in weak}
    tasks = [
        DiagnosedTask(
            task=score.task,
            capability=score.capability,
            score=score.score,
            interval=score.interval,
            weak=score.task in names,
            reason=_reason(score, config, score.task in names, score in below),
            failure_kinds=failure_kinds([p for p in predictions if p.task == score.task]),
        )
        for score in ordered
    ]
    rule = f"weak: the upper end of the 95% interval is below {config.threshold:g}"
    rule += f", or among the lowest others, to make {config.min_tasks}" if len(below) < config.min_tasks else ""
    rule += f"; at most {config.max_tasks} tasks" if config.max_tasks is not None else ""
    return DiagnosisResult(
        model=model,
        rule=rule,
        threshold=config.threshold,
        tasks=tuple(tasks),
        weak_bucket=tuple(sorted(names)),
    )


def _reason(score: TaskScore, config: DiagnosisConfig, weak: bool, below: bool) -> str:
    low, high = score.interval
    place = f"score {score.score:.1f}, interval {low:.1f} to {high:.1f}"
    if weak and below:
        return f"{place}: all of it below {config.threshold:g}"
    if weak:
        return f"{place}: among the lowest of those that reach {config.threshold:g}, to make {config.min_tasks}"
    if below:
        return f"{place}: below {config.threshold:g}, but {config.max_tasks} lower tasks fill the bucket"
    return f"{place}: reaches {config.threshold:g}"


def failure_kinds(predictions: Sequence[Prediction]) -> dict[str, int]:
    """How outputs that miss full marks fail: empty, format (unreadable), partial, wrong."""
    kinds: Counter[str] = Counter()
    for prediction in predictions:
        if prediction.value >= 1.0:
            continue
        if not prediction.output.strip():
            kinds["empty"] += 1
        elif not prediction.parsed:
            kinds["format"] += 1
        else:
            kinds["partial" if prediction.value > 0 else "wrong"] += 1
    return dict(sorted(kinds.items()))
