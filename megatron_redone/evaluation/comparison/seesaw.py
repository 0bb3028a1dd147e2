"""The seesaw: what a run gained in the domain, and what it paid for it in general ability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from megatron_redone.evaluation.comparison.reading import GENERAL_CAPABILITY, STAGE
from megatron_redone.evaluation.comparison.scored import CompareSettings, RunPair, ScoredPair, together, verdict
from megatron_redone.evaluation.sns_bench.benchmark import NAME as SNS_BENCH
from megatron_redone.evaluation.translation import NAME as SNS_TRANSBENCH
from megatron_redone.reporting.comparison_schema import FamilyScore, SeesawPoint
from megatron_redone.scoring.paired import PairedDraws, mean_draws, score_interval

SNS, GENERAL = "sns", "general"
SNS_BENCHMARKS = (SNS_BENCH, SNS_TRANSBENCH)


def families_of(pairs: Sequence[RunPair], settings: CompareSettings) -> dict[str, str]:
    """Benchmark, or capability of a recipe's held-out rows -> family."""
    families = {}
    for pair in pairs:
        for one in pair.of("task"):
            if one.benchmark.startswith(f"{STAGE}: "):
                families[f"{one.benchmark}: {one.group}"] = GENERAL if one.group == GENERAL_CAPABILITY else SNS
            else:
                families[one.benchmark] = SNS if one.benchmark in (*SNS_BENCHMARKS, *settings.sns) else GENERAL
    return families


def _family_parts(pair: RunPair, families: Mapping[str, str], family: str) -> list[ScoredPair]:
    """Each benchmark of a family as one score; of a recipe's rows the mean of the tasks of its capabilities."""
    parts = [one for one in pair.of("benchmark") if families.get(one.benchmark) == family]
    tasks: dict[str, list[ScoredPair]] = {}
    for one in pair.of("task"):
        if families.get(f"{one.benchmark}: {one.group}") == family:
            tasks.setdefault(one.benchmark, []).append(one)
    return parts + [together("benchmark", name, of_stage) for name, of_stage in tasks.items()]


def seesaw_points(
    first: str, pairs: Sequence[RunPair], families: Mapping[str, str], settings: CompareSettings
) -> tuple[SeesawPoint, ...]:
    """A point for every run that shares benchmarks of both families with the first, which comes before them.

    The first run's point is that on the items of the first of these.
    """
    points: list[SeesawPoint] = []
    for pair in pairs:
        parts = {family: _family_parts(pair, families, family) for family in (SNS, GENERAL)}
        if not all(parts.values()):
            continue
        draws = {family: mean_draws([part.draws for part in of_family]) for family, of_family in parts.items()}
        counts = {family: sum(part.num_items for part in of_family) for family, of_family in parts.items()}
        if not points:
            same = {
                family: PairedDraws(one.first, one.first, np.zeros_like(one.exchanged)) for family, one in draws.items()
            }
            points.append(_point(first, same, counts, settings))
        points.append(_point(pair.run, draws, counts, settings))
    return tuple(points)


def _point(
    run: str, draws: Mapping[str, PairedDraws], counts: Mapping[str, int], settings: CompareSettings
) -> SeesawPoint:
    scores = {
        family: FamilyScore(
            score=round(float(one.second[0]), 4),
            interval=score_interval(one.second),
            difference=round(one.difference, 4),
            difference_interval=one.interval(),
            verdict=verdict(one, one.p_value(), counts[family], settings),
        )
        for family, one in draws.items()
    }
    return SeesawPoint(run=run, sns=scores[SNS], general=scores[GENERAL])
