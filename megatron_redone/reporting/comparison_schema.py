"""`comparison.json`: runs against the first one, task by task."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from megatron_redone.reporting.schema import ResultModel, Share

RESULT, PAGE = "comparison.json", "comparison.html"
Verdict = Literal["better", "worse", "no conclusion"]
Level = Literal["benchmark", "group", "task"]


class Change(ResultModel):
    """One score of two runs. Scores in 0..100; differences are second minus first, in points."""

    level: Level
    benchmark: str
    group: str
    """What a task is a part of; of a benchmark ""."""
    name: str
    num_items: int = Field(ge=0)
    """Items that both runs answered, and that count."""
    left_out: int = Field(ge=0)
    """Items that one run alone has."""
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    """95% interval of the difference, by the paired bootstrap."""
    p_value: Share
    q_value: Share
    """The p-value adjusted over all scores of its level (Benjamini and Hochberg)."""
    verdict: Verdict
    wins: int = Field(0, ge=0)
    """Items that the second run answers better; of tasks only, as are ties and losses."""
    ties: int = Field(0, ge=0)
    losses: int = Field(0, ge=0)
    note: str = ""


class NotComparable(ResultModel):
    """What cannot be compared, and why."""

    benchmark: str
    task: str
    """ "" where it is the whole benchmark."""
    reason: str


class RunComparison(ResultModel):
    """A run against the first."""

    run: str
    changes: tuple[Change, ...]
    not_comparable: tuple[NotComparable, ...]
    notes: tuple[str, ...] = ()


class FamilyScore(ResultModel):
    """A run's score on the benchmarks of one family, the plain mean of them, in 0..100."""

    score: float
    interval: tuple[float, float]
    """95% interval of the score."""
    difference: float
    """Points against the first run on the same items."""
    difference_interval: tuple[float, float]
    verdict: Verdict


class SeesawPoint(ResultModel):
    """What a run gained in the domain, and what it paid for it in general ability."""

    run: str
    sns: FamilyScore
    general: FamilyScore


class ComparisonResult(ResultModel):
    """The whole comparison."""

    runs: tuple[str, ...]
    """The first is the one that the others stand against."""
    comparisons: tuple[RunComparison, ...]
    seesaw: tuple[SeesawPoint, ...]
    """Empty where the runs hold no benchmarks of both families."""
    families: dict[str, str]
    """Benchmark, or capability of a recipe's rows -> `sns` or `general`."""
    settings: dict[str, Any]
