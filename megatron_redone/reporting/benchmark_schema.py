"""Result files of `redone evaluate`: results.json and failures.jsonl, written by evaluation/results.py."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from megatron_redone.reporting.schema import ResultModel


class BaselineScores(ResultModel):
    """A rule without a model, or the gold answers themselves, scored like the model."""

    score: float
    groups: dict[str, float]
    tasks: dict[str, float]


class BenchmarkResult(ResultModel):
    """`results.json`: one model, or one file of predictions, on one benchmark."""

    benchmark: str
    label: str
    """What answered: a model's folder or a file of predictions."""
    score: float
    """0..100. With a cosine in it a score may lie a little below 0."""
    interval: tuple[float, float]
    """95% interval of `score`."""
    score_rule: str
    """How `score` comes from the tasks, in a sentence."""
    groups: dict[str, float]
    tasks: dict[str, dict[str, Any]]
    """By task: `score`, `interval`, `num_rows`, `parse_rate` (0..1), `official_errors`, and the metric's parts."""
    baselines: dict[str, BaselineScores]
    missing: tuple[str, ...] = ()
    """Tasks of the benchmark that were not there."""
    notes: tuple[str, ...] = ()
    """What must be known beside the numbers, as sentences."""
    settings: dict[str, Any] = Field(default_factory=dict)


class Failure(ResultModel):
    """One line of failures.jsonl: a row that lost points."""

    file: str
    index: int
    value: float
    """What the answer is worth by itself, in 0..1."""
    reason: str
    prompt: str
    output: str
    gold: str
