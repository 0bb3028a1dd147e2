"""Scores of two runs before and after they get a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from megatron_redone.reporting.comparison_schema import Level, NotComparable, Verdict
from megatron_redone.scoring.paired import PairedDraws, mean_draws

Missing = Literal["refuse", "leave-out"]
LEVELS: tuple[Level, ...] = ("task", "group", "benchmark")
MIN_ITEMS = 10
"""With fewer items no verdict is given."""


@dataclass(frozen=True)
class CompareSettings:
    """How runs are compared.

    Attributes:
        missing: items that one run alone has: `refuse` leaves their task out, `leave-out` compares the others.
        false_discovery_rate: expected share of false verdicts among all that are given.
        num_resamples: of bootstrap and randomisation.
        seed: of both.
        sns: benchmarks of the domain for the seesaw, beside SNS-Bench and SNS-TransBench; all others are general.
    """

    missing: Missing = "refuse"
    false_discovery_rate: float = 0.05
    num_resamples: int = 10_000
    seed: int = 0
    sns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredPair:
    """A score of both runs, without its verdict, which needs all of them."""

    level: Level
    benchmark: str
    group: str
    name: str
    draws: PairedDraws
    num_items: int
    left_out: int = 0
    outcomes: tuple[int, int, int] = (0, 0, 0)
    """Items that the second run answers better, alike, worse."""
    note: str = ""


@dataclass
class RunPair:
    """A run against the first, while it is compared."""

    run: str
    scored: list[ScoredPair] = field(default_factory=list)
    not_comparable: list[NotComparable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, level: Level) -> list[ScoredPair]:
        """Its scores of one level."""
        return [one for one in self.scored if one.level == level]


def together(level: Level, name: str, parts: Sequence[ScoredPair]) -> ScoredPair:
    """The plain mean of scores, draw by draw."""
    return ScoredPair(
        level=level,
        benchmark=parts[0].benchmark,
        group=name if level == "group" else "",
        name=name,
        draws=mean_draws([part.draws for part in parts]),
        num_items=sum(part.num_items for part in parts),
        left_out=sum(part.left_out for part in parts),
    )


def verdict(draws: PairedDraws, q_value: float, num_items: int, settings: CompareSettings) -> Verdict:
    """Whether the second run is better or worse, at the false discovery rate of the settings."""
    low, high = draws.interval()
    if num_items < MIN_ITEMS or q_value > settings.false_discovery_rate or low <= 0 <= high:
        return "no conclusion"
    return "better" if draws.difference > 0 else "worse"
