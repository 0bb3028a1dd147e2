"""`ablation.json`: arms of one recipe, group by group and task by task."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from megatron_redone.reporting.comparison_schema import SeesawPoint, Verdict
from megatron_redone.reporting.schema import ResultModel

RESULT, PAGE, TABLE = "ablation.json", "ablation.html", "ablation.md"
Level = Literal["group", "capability", "task"]
Shown = Literal["shows", "the other way", "no conclusion", "not run yet"]


class ArmResult(ResultModel):
    """One arm: what it is made of, and what it cost."""

    name: str
    title: str
    stages: tuple[str, ...]
    """All that it needs, shared ones included."""
    own_stages: tuple[str, ...]
    """Those that not every arm has."""
    seeds: tuple[int | None, ...]
    """Seeds whose model is scored; (None,) for a model that is made once."""
    missing_seeds: tuple[int | None, ...]
    """Seeds that are not done."""
    seconds: float = Field(ge=0)
    """Wall time of its own stages over all seeds, as if no arm shared them; without those of all arms."""
    compute_tokens: int = Field(ge=0)
    """Tokens that its own training stages of one seed computed (mean over the seeds)."""


class ArmScore(ResultModel):
    """What one arm got, in 0..100: the mean over its seeds."""

    score: float
    interval: tuple[float, float]
    """95% interval over rows and seeds."""
    by_seed: tuple[float, ...]
    difference: float | None = None
    """Points against the baseline on the same rows; None for the baseline itself."""
    difference_interval: tuple[float, float] | None = None
    """95% interval of the difference, paired by row and seed."""
    verdict: Verdict | None = None
    """`no conclusion` where the interval overlaps the baseline's."""


class ScoreRow(ResultModel):
    """One group, capability or task."""

    level: Level
    name: str
    title: str
    held_out: str
    """The held-out set of a task; "" for groups."""
    num_tasks: int
    num_rows: int
    scores: tuple[ArmScore | None, ...]
    """One an arm, in their order; None where the arm is not done."""


class ClaimResult(ResultModel):
    """Whether an order that a paper reports shows here."""

    better: str
    than: str
    group: str
    source: str
    shown: Shown
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    """Of better - than, paired."""
    told: str


class PaperTable(ResultModel):
    """The paper's figures."""

    source: str
    columns: tuple[str, ...]
    arms: dict[str, tuple[float | None, ...]]


class AblationResult(ResultModel):
    """The whole ablation."""

    name: str
    command: str
    recipe: str
    seeds: tuple[int, ...]
    baseline: str
    arms: tuple[ArmResult, ...]
    rows: tuple[ScoreRow, ...]
    claims: tuple[ClaimResult, ...] = ()
    seesaw_groups: tuple[str, str] | None = None
    seesaw: tuple[SeesawPoint, ...] = ()
    paper: PaperTable | None = None
    gaps: tuple[str, ...] = ()
    """What is not done or cannot be compared."""
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    machines: tuple[dict[str, Any], ...] = ()

    def title_of(self, arm: str) -> str:
        """How tables call an arm."""
        return next(one.title for one in self.arms if one.name == arm)
