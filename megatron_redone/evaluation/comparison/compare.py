"""Runs against the first one: what got better, what got worse, and what cannot be said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megatron_redone.common.errors import InputError
from megatron_redone.common.seeding import derive_seed
from megatron_redone.evaluation.comparison.metrics import benchmark_of, task_metric, with_count
from megatron_redone.evaluation.comparison.reading import EvaluatedRun, Evaluation, Item
from megatron_redone.evaluation.comparison.scored import (
    LEVELS,
    MIN_ITEMS,
    CompareSettings,
    RunPair,
    ScoredPair,
    together,
    verdict,
)
from megatron_redone.evaluation.comparison.seesaw import families_of, seesaw_points
from megatron_redone.evaluation.comparison.settings import differences, missing_tasks
from megatron_redone.reporting.comparison_schema import Change, ComparisonResult, NotComparable, RunComparison
from megatron_redone.scoring.paired import benjamini_hochberg, paired_draws


def compare_runs(runs: Sequence[EvaluatedRun], settings: CompareSettings) -> ComparisonResult:
    """Compares every run with the first.

    Raises:
        InputError: fewer than two runs, or nothing that could be compared.
    """
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run; give at least two, the first is what the others stand against")
    pairs = [_compare(runs[0], run, settings) for run in runs[1:]]
    if not any(pair.scored for pair in pairs):
        reasons = [f"  {one.benchmark} {one.task}: {one.reason}" for pair in pairs for one in pair.not_comparable][:10]
        raise InputError("nothing can be compared:\n" + "\n".join(reasons))
    q_values = {
        id(one): q for level in LEVELS for one, q in _adjusted([one for pair in pairs for one in pair.of(level)])
    }
    families = families_of(pairs, settings)
    return ComparisonResult(
        runs=tuple(run.name for run in runs),
        comparisons=tuple(
            RunComparison(
                run=pair.run,
                changes=tuple(_change(one, q_values[id(one)], settings) for one in pair.scored),
                not_comparable=tuple(pair.not_comparable),
                notes=tuple(pair.notes),
            )
            for pair in pairs
        ),
        seesaw=seesaw_points(runs[0].name, pairs, families, settings),
        families=families,
        settings={
            "missing": settings.missing,
            "false_discovery_rate": settings.false_discovery_rate,
            "num_resamples": settings.num_resamples,
            "seed": settings.seed,
            "min_items": MIN_ITEMS,
        },
    )


def _compare(first: EvaluatedRun, second: EvaluatedRun, settings: CompareSettings) -> RunPair:
    pair = RunPair(second.name)
    for name in sorted(set(first.evaluations) | set(second.evaluations)):
        if name not in first.evaluations or name not in second.evaluations:
            lacking = first.name if name not in first.evaluations else second.name
            reason = f"{lacking} has no evaluation on it"
            pair.not_comparable.append(NotComparable(benchmark=name, task="", reason=reason))
            continue
        _compare_benchmark(first.evaluations[name], second.evaluations[name], pair, settings)
    return pair


def _compare_benchmark(first: Evaluation, second: Evaluation, pair: RunPair, settings: CompareSettings) -> None:
    found, notes = differences(first, second)
    pair.not_comparable += found
    pair.notes += notes
    if any(not one.task for one in found):
        return
    pair.not_comparable += missing_tasks(first, second)
    refused = {one.task for one in found}
    tasks = []
    for task in first.tasks:
        if task in second.tasks and task not in refused:
            scored = _compare_task(first, second, task, settings)
            if isinstance(scored, str):
                pair.not_comparable.append(NotComparable(benchmark=first.benchmark, task=task, reason=scored))
            else:
                tasks.append(scored)
    if not tasks:
        return
    by_group = _by_group(tasks)
    groups = {group: together("group", group, of_group) for group, of_group in by_group.items()}
    pair.scored.append(together("benchmark", first.benchmark, tasks if first.is_stage else list(groups.values())))
    for group, of_group in by_group.items():
        told_by_its_task = len(of_group) == 1 and not first.is_stage
        pair.scored += of_group if told_by_its_task else [groups[group], *of_group]


def _compare_task(first: Evaluation, second: Evaluation, task: str, settings: CompareSettings) -> ScoredPair | str:
    """Both runs on the items that both have; or why not."""
    old, new = first.tasks[task], second.tasks[task]
    changed = [name for name in old if name in new and old[name].gold != new[name].gold]
    if changed:
        return f"{len(changed)} rows have other gold answers in the two runs, first {changed[0]!r}"
    names = sorted(set(old) & set(new), key=_numeric)
    left_out = len(set(old) ^ set(new))
    if not names:
        return "the runs have no item in common"
    if left_out and settings.missing == "refuse":
        alone = [len(set(one) - set(other)) for one, other in ((old, new), (new, old))]
        return (
            f"{alone[0]} items are in the first run alone and {alone[1]} in the other; "
            "--missing leave-out compares the rest"
        )
    metric = task_metric([first, second], task, [list(old.values()), list(new.values())])
    if isinstance(metric, str):
        return metric
    sides = [with_count(metric.matrix([side[name] for name in names])) for side in (old, new)]
    seed = derive_seed(settings.seed, "compare", first.benchmark, task)
    benchmark = benchmark_of(first.benchmark)
    known = benchmark is not None and task in benchmark.tasks
    return ScoredPair(
        level="task",
        benchmark=first.benchmark,
        group=benchmark.tasks[task].group if benchmark is not None and known else first.groups[task],
        name=task,
        draws=paired_draws(sides[0], sides[1], metric.score, seed, settings.num_resamples),
        num_items=len(names),
        left_out=left_out,
        outcomes=_outcomes([old[name] for name in names], [new[name] for name in names]),
        note=metric.note,
    )


def _numeric(name: str) -> tuple[int, str]:
    """Rows of a file in their order, ids by their letters: resampled alike whatever the order of the lines."""
    return (int(name), "") if name.isdecimal() and name.isascii() else (-1, name)


def _outcomes(old: Sequence[Item], new: Sequence[Item]) -> tuple[int, int, int]:
    signs = np.sign([after.value - before.value for before, after in zip(old, new, strict=True)])
    return int((signs > 0).sum()), int((signs == 0).sum()), int((signs < 0).sum())


def _by_group(tasks: Sequence[ScoredPair]) -> dict[str, list[ScoredPair]]:
    groups: dict[str, list[ScoredPair]] = {}
    for task in tasks:
        groups.setdefault(task.group, []).append(task)
    return groups


def _adjusted(scored: Sequence[ScoredPair]) -> list[tuple[ScoredPair, float]]:
    return list(zip(scored, benjamini_hochberg([one.draws.p_value() for one in scored]), strict=True))


def _change(one: ScoredPair, q_value: float, settings: CompareSettings) -> Change:
    low, high = one.draws.interval()
    wins, ties, losses = one.outcomes
    return Change(
        level=one.level,
        benchmark=one.benchmark,
        group=one.group,
        name=one.name,
        num_items=one.num_items,
        left_out=one.left_out,
        first=round(float(one.draws.first[0]), 4),
        second=round(float(one.draws.second[0]), 4),
        difference=round(one.draws.difference, 4),
        interval=(round(low, 4), round(high, 4)),
        p_value=one.draws.p_value(),
        q_value=q_value,
        verdict=verdict(one.draws, q_value, one.num_items, settings),
        wins=wins,
        ties=ties,
        losses=losses,
        note=one.note,
    )
