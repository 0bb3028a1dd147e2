"""What a run shows, in figures and one sentence; and what the targeted stage did to the weak bucket."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from megatron_redone.reporting.run_files import RunFiles, StageFiles
from megatron_redone.reporting.tables import Cell, Column, ScoreTable, number, signed

_Scores = tuple[str, dict[str, float]]


@dataclass(frozen=True)
class Headline:
    """The mean score before and after, beside the best baseline and the arms."""

    sentence: str
    figures: tuple[tuple[str, str], ...]
    """(caption, figure), for tiles."""


def headline(table: ScoreTable) -> Headline:
    """One sentence about the run; what was not measured is said to be missing."""
    before, after = table.overall_of(table.before), table.overall_of(table.after)
    best = best_baseline(table)
    arms = [(column, cell) for column, cell in table.overall if column.group == "arm"]
    parts: list[str] = []
    figures: list[tuple[str, str]] = []
    if before and table.before:
        figures.append((f"before: {table.before}", before.text))
    if after and table.after:
        figures.append((f"after: {table.after}", after.text))
    if before and after:
        gain = signed(after.mean - before.mean)
        parts.append(
            f"The mean {table.split} score over {table.num_tasks} tasks goes from {before.text} "
            f"({table.before}{_over_seeds(before)}) to {after.text} ({table.after}{_over_seeds(after)}), "
            f"{gain} points"
        )
        figures.append(("points gained", gain))
    else:
        parts.append(_incomplete(table))
    if best:
        parts.append(f"the best baseline, {best[0].name}, has {best[1].text}")
        figures.append((f"best baseline: {best[0].name}", best[1].text))
    for column, cell in arms:
        seeds = f" ({len(cell.values)} seeds)" if len(cell.values) > 1 else ""
        parts.append(f"the arm {column.name} has {cell.text}{seeds}")
        figures.append((f"arm: {column.name}", cell.text))
    return Headline("; ".join(parts) + ".", tuple(figures))


def best_baseline(table: ScoreTable) -> tuple[Column, Cell] | None:
    """The baseline with the highest overall mean (the first of equals)."""
    baselines = [(column, cell) for column, cell in table.overall if column.group == "baseline"]
    return max(baselines, key=lambda pair: pair[1].mean, default=None)


def _over_seeds(cell: Cell) -> str:
    return f", {len(cell.values)} seeds" if len(cell.values) > 1 else ""


def _incomplete(table: ScoreTable) -> str:
    stages = [(column, cell) for column, cell in table.overall if column.group == "stage"]
    if not stages:
        return "No stage has been evaluated yet"
    column, cell = stages[-1]
    return (
        "The run is not complete, before and after cannot be compared yet; the last evaluated stage, "
        f"{column.name}, has a mean {table.split} score of {cell.text}{_over_seeds(cell)} "
        f"over {table.num_tasks} tasks"
    )


@dataclass(frozen=True)
class BucketEffect:
    """Mean scores of the weak tasks and of the other tasks, from the diagnosed stage on, for one seed."""

    seed: int | None
    tasks: tuple[str, ...]
    stages: tuple[str, ...]
    """The diagnosed stage, the targeted stage, then the later ones."""
    bucket: tuple[float, ...]
    others: tuple[float | None, ...]
    """None where every task is weak."""

    @property
    def gain(self) -> float:
        """Points that the targeted stage gave to the weak tasks."""
        return self.bucket[1] - self.bucket[0]


def bucket_effects(files: RunFiles) -> tuple[BucketEffect, ...]:
    """One effect a diagnosis with a bucket whose stage before and stage after it were evaluated.

    The targeted stage is the first evaluated stage of the same seed after the diagnosis; arms do not count.
    The bucket was chosen on diagnosis rows, the scores here are those of the evaluation.
    """
    effects = []
    for index, diagnosed in enumerate(files.stages):
        if diagnosed.diagnosis is None or not diagnosed.diagnosis.weak_bucket:
            continue
        seed = diagnosed.stage.seed
        before = _evaluations(files.stages[:index], seed, files.arms())
        after = _evaluations(files.stages[index + 1 :], seed, files.arms())
        if before and after:
            effects += _effect(diagnosed.diagnosis.weak_bucket, seed, [before[-1], *after])
    return tuple(effects)


def _evaluations(stages: Sequence[StageFiles], seed: int | None, arms: Sequence[str]) -> list[_Scores]:
    """(stage, task -> score) of the main line for this seed or for all seeds, in order."""
    return [
        (files.stage.name, {score.task: score.score for score in files.evaluation.tasks})
        for files in stages
        if files.evaluation and files.stage.seed in (seed, None) and files.stage.name not in arms
    ]


def _effect(bucket: Sequence[str], seed: int | None, line: Sequence[_Scores]) -> list[BucketEffect]:
    """An effect over the tasks that every stage of the line was scored on; none where no weak one is left."""
    scores = [of_stage for _, of_stage in line]
    shared = set.intersection(*(set(of_stage) for of_stage in scores))
    weak = [task for task in bucket if task in shared]
    others = sorted(shared - set(bucket))
    if not weak:
        return []
    effect = BucketEffect(
        seed=seed,
        tasks=tuple(weak),
        stages=tuple(name for name, _ in line),
        bucket=tuple(_mean(of_stage, weak) for of_stage in scores),
        others=tuple(_mean(of_stage, others) if others else None for of_stage in scores),
    )
    return [effect]


def _mean(scores: dict[str, float], tasks: Sequence[str]) -> float:
    return statistics.fmean(scores[task] for task in tasks)


def bucket_sentence(effects: Sequence[BucketEffect]) -> str:
    """What the targeted stage gave to the weak bucket, as one sentence."""
    if not effects:
        return "No weak bucket was diagnosed and trained in this run, so nothing can be said about it."
    gains = Cell(tuple(effect.gain for effect in effects), None)
    each = ", ".join(signed(gain) for gain in gains.values)
    seeds = f" on average over {len(effects)} seeds (each: {each})" if len(effects) > 1 else ""
    first = effects[0]
    return (
        f"From {first.stages[0]} to {first.stages[1]} the weak tasks change by {signed(gains.mean)} "
        f"points{seeds}, to a mean of {number(statistics.fmean(effect.bucket[1] for effect in effects))}."
    )
