"""From the folder of an ablation's run to its table: what each arm scored, and whether the paper's orders show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.evaluation.comparison.arms import ArmDraws, difference, mean_of, overlap, task_draws
from megatron_redone.evaluation.comparison.reading import Evaluation, read_runs
from megatron_redone.recipes.ablation.arms import stage_references
from megatron_redone.recipes.ablation.config import ClaimConfig, GroupConfig
from megatron_redone.recipes.ablation.expand import Ablation, Arm
from megatron_redone.recipes.workspace import MANIFEST
from megatron_redone.reporting.ablation_page import write_ablation_page
from megatron_redone.reporting.ablation_schema import (
    RESULT,
    TABLE,
    AblationResult,
    ArmResult,
    ArmScore,
    ClaimResult,
    Level,
    PaperTable,
    ScoreRow,
)
from megatron_redone.reporting.ablation_table import ablation_markdown
from megatron_redone.reporting.comparison_schema import FamilyScore, SeesawPoint, Verdict
from megatron_redone.reporting.schema import Manifest, read_result

SEED = 0
"""Of the draws."""
TaskKey = tuple[str, str]
"""Held-out set, task."""
Evaluations = dict[str, dict[str, dict[int | None, Evaluation]]]
"""Held-out set -> arm -> seed -> evaluation."""


def write_outcome(ablation: Ablation, command: str) -> Path:
    """Writes ablation.json, ablation.md and ablation.html of what stands; returns the page."""
    root = ablation.recipe.config.output
    result = ablation_result(ablation, command)
    atomic_write_json(root / RESULT, result.model_dump(mode="json"))
    atomic_write_text(root / TABLE, ablation_markdown(result))
    return write_ablation_page(result, root)


@dataclass(frozen=True)
class _Row:
    """One line of the table before it is written."""

    level: Level
    name: str
    title: str
    held_out: str
    num_tasks: int
    num_rows: int
    draws: Mapping[str, ArmDraws]


def ablation_result(ablation: Ablation, command: str) -> AblationResult:
    """The table of what stands.

    Raises:
        DataError: nothing is scored yet, a broken file, or a group without tasks.
    """
    config = ablation.config
    manifests = _manifests(ablation)
    evaluations = _evaluations(ablation, manifests)
    rows = _rows(ablation, evaluations)
    groups = {row.name: row.draws for row in rows if row.level == "group"}
    everywhere = set.intersection(*(set(arm.stages) for arm in ablation.arms))
    arms = [_arm_result(ablation, arm, everywhere, manifests, evaluations) for arm in ablation.arms]
    return AblationResult(
        name=config.name,
        command=command,
        recipe=str(ablation.recipe.path),
        seeds=config.seeds,
        baseline=config.baseline,
        arms=tuple(arms),
        rows=tuple(_score_row(row, ablation) for row in rows),
        claims=tuple(_claim(claim, groups[claim.group], ablation) for claim in config.claims),
        seesaw_groups=config.seesaw,
        seesaw=_seesaw(ablation, groups),
        paper=PaperTable(**config.paper.model_dump()) if config.paper is not None else None,
        gaps=tuple(_gaps(arms)),
        notes=ablation.recipe.config.notes,
        settings={"num_resamples": config.num_resamples, "seed": SEED},
        machines=_distinct([manifest.machine for manifest in manifests.values()]),
    )


def _manifests(ablation: Ablation) -> dict[str, Manifest]:
    """Of the stage runs that are done."""
    root = ablation.recipe.config.output
    paths = {run.id: root / run.id / MANIFEST for run in ablation.recipe.runs}
    return {name: read_result(path, Manifest) for name, path in paths.items() if path.is_file()}


def _evaluations(ablation: Ablation, manifests: Mapping[str, Manifest]) -> Evaluations:
    root = ablation.recipe.config.output
    found: Evaluations = {}
    for arm in ablation.arms:
        for held_out, stage in arm.results.items():
            for run in ablation.recipe.runs:
                if run.name == stage and run.id in manifests:
                    (evaluated,) = read_runs([root / run.id])
                    (one,) = evaluated.evaluations.values()
                    found.setdefault(held_out, {}).setdefault(arm.name, {})[run.seed] = one
    if not found:
        raise DataError(f"{root}: no arm is scored yet; run the ablation first")
    return found


def _rows(ablation: Ablation, evaluations: Evaluations) -> list[_Row]:
    """Groups, then capabilities with their tasks."""
    tasks: dict[TaskKey, _Row] = {}
    capabilities: dict[TaskKey, str] = {}
    for held_out, by_arm in evaluations.items():
        groups = {
            task: group for by_seed in by_arm.values() for one in by_seed.values() for task, group in one.groups.items()
        }
        for task in sorted(groups, key=lambda name: (groups[name], name)):
            draws, num_rows = task_draws(by_arm, held_out, task, ablation.config.num_resamples, SEED)
            tasks[held_out, task] = _Row("task", task, task, held_out, 1, num_rows, draws)
            capabilities[held_out, task] = groups[task]
    rows = []
    for name, group in ablation.config.groups.items():
        members = [row for key, row in tasks.items() if _belongs(group, key, capabilities[key])]
        if not members:
            raise DataError(
                f"groups.{name}: no task of it was scored; scored are {', '.join(row.name for row in tasks.values())}"
            )
        rows.append(_mean_row("group", name, group.title or name, "", members))
    for held_out, capability in dict.fromkeys((key[0], capabilities[key]) for key in tasks):
        members = [row for key, row in tasks.items() if (key[0], capabilities[key]) == (held_out, capability)]
        if len(members) > 1:
            rows.append(_mean_row("capability", capability, capability, held_out, members))
        rows += members
    return rows


def _belongs(group: GroupConfig, key: TaskKey, capability: str) -> bool:
    held_out, task = key
    if group.held_out and held_out not in group.held_out:
        return False
    if group.capabilities or group.tasks:
        return capability in group.capabilities or task in group.tasks
    return capability not in group.but_capabilities


def _mean_row(level: Level, name: str, title: str, held_out: str, members: Sequence[_Row]) -> _Row:
    """The plain mean of the members, for arms that have all of them with the same seeds."""
    draws = {}
    for arm in members[0].draws:
        parts = [row.draws[arm] for row in members if arm in row.draws]
        if len(parts) == len(members) and len({part.seeds for part in parts}) == 1:
            draws[arm] = mean_of(parts)
    return _Row(level, name, title, held_out, len(members), sum(row.num_rows for row in members), draws)


def _score_row(row: _Row, ablation: Ablation) -> ScoreRow:
    baseline = row.draws.get(ablation.config.baseline)
    return ScoreRow(
        level=row.level,
        name=row.name,
        title=row.title,
        held_out=row.held_out,
        num_tasks=row.num_tasks,
        num_rows=row.num_rows,
        scores=tuple(
            _arm_score(row.draws[arm.name], baseline if arm.name != ablation.config.baseline else None)
            if arm.name in row.draws
            else None
            for arm in ablation.arms
        ),
    )


def _arm_score(draws: ArmDraws, baseline: ArmDraws | None) -> ArmScore:
    score, interval = round(draws.score, 4), _rounded(draws.interval())
    by_seed = tuple(round(float(value), 4) for value in draws.scores)
    if baseline is None:
        return ArmScore(score=score, interval=interval, by_seed=by_seed)
    points, of_points = difference(draws, baseline)
    return ArmScore(
        score=score,
        interval=interval,
        by_seed=by_seed,
        difference=round(points, 4),
        difference_interval=_rounded(of_points),
        verdict=_verdict(draws, baseline),
    )


def _verdict(draws: ArmDraws, other: ArmDraws) -> Verdict:
    """No conclusion where the intervals overlap."""
    if overlap(draws.interval(), other.interval()):
        return "no conclusion"
    return "better" if draws.score > other.score else "worse"


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    return round(interval[0], 4), round(interval[1], 4)


def _claim(claim: ClaimConfig, draws: Mapping[str, ArmDraws], ablation: Ablation) -> ClaimResult:
    better, than = draws.get(claim.better), draws.get(claim.than)
    names = ablation.arm(claim.better).title, ablation.arm(claim.than).title
    group = ablation.config.groups[claim.group].title or claim.group
    if better is None or than is None:
        return ClaimResult(**claim.model_dump(), shown="not run yet", told=f"{names[0]} or {names[1]} is not done.")
    points, interval = difference(better, than)
    verdict = _verdict(better, than)
    beginning = (
        f"{names[0]} has {better.score:.1f} and {names[1]} {than.score:.1f} on {group}: {points:+.1f} points, paired "
        f"95% interval {interval[0]:+.1f} to {interval[1]:+.1f}"
    )
    if verdict == "no conclusion":
        return _told(claim, "no conclusion", points, interval, f"{beginning}; the intervals of the two overlap.")
    shown = "shows" if verdict == "better" else "the other way"
    return _told(claim, shown, points, interval, f"{beginning}; the intervals of the two do not overlap.")


def _told(claim: ClaimConfig, shown: Any, points: float, interval: tuple[float, float], told: str) -> ClaimResult:
    return ClaimResult(
        **claim.model_dump(),
        shown=shown,
        difference=round(points, 4),
        difference_interval=_rounded(interval),
        told=told,
    )


def _seesaw(ablation: Ablation, groups: Mapping[str, Mapping[str, ArmDraws]]) -> tuple[SeesawPoint, ...]:
    """The baseline first, then every other arm that is scored on both groups."""
    if ablation.config.seesaw is None:
        return ()
    sns, general = (groups[name] for name in ablation.config.seesaw)
    first = ablation.config.baseline
    if first not in sns or first not in general:
        return ()
    others = [arm.name for arm in ablation.arms if arm.name != first and arm.name in sns and arm.name in general]
    return tuple(
        SeesawPoint(
            run=ablation.arm(name).title,
            sns=_family(sns[name], sns[first]),
            general=_family(general[name], general[first]),
        )
        for name in (first, *others)
    )


def _family(draws: ArmDraws, first: ArmDraws) -> FamilyScore:
    points, interval = difference(draws, first)
    return FamilyScore(
        score=round(draws.score, 4),
        interval=_rounded(draws.interval()),
        difference=round(points, 4),
        difference_interval=_rounded(interval),
        verdict=_verdict(draws, first),
    )


def _arm_result(
    ablation: Ablation,
    arm: Arm,
    everywhere: set[str],
    manifests: Mapping[str, Manifest],
    evaluations: Evaluations,
) -> ArmResult:
    wanted = {run.seed for run in ablation.recipe.runs if run.name in arm.results.values()}
    done = [set(evaluations.get(held_out, {}).get(arm.name, {})) for held_out in arm.results]
    seeds = set.intersection(*done)
    behind = _behind(ablation, arm)
    runs = [run for run in ablation.recipe.runs if run.name in behind and run.name not in everywhere]
    own = [(run, manifests[run.id]) for run in runs if run.id in manifests]
    compute: dict[str, list[float]] = {}
    for run, manifest in own:
        if "compute_tokens" in manifest.counts:
            compute.setdefault(run.name, []).append(manifest.counts["compute_tokens"])
    return ArmResult(
        name=arm.name,
        title=arm.title,
        stages=arm.stages,
        own_stages=tuple(stage for stage in arm.stages if stage in behind and stage not in everywhere),
        seeds=_in_order(seeds),
        missing_seeds=_in_order(wanted - seeds),
        seconds=round(sum(manifest.seconds + manifest.evaluation_seconds for _, manifest in own), 3),
        compute_tokens=round(sum(fmean(values) for values in compute.values())),
    )


def _behind(ablation: Ablation, arm: Arm) -> set[str]:
    """The stages whose output an arm's models are made of; not those that were only measured to match their compute."""
    found: set[str] = set()
    waiting = list(arm.results.values())
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            reads = stage_references(ablation.recipe.stages[name])
            waiting += [stage for field, stage in reads if not field.startswith("match_compute_of")]
    return found


def _in_order(seeds: set[int | None]) -> tuple[int | None, ...]:
    return tuple(sorted(seeds, key=lambda seed: -1 if seed is None else seed))


def _gaps(arms: Sequence[ArmResult]) -> list[str]:
    gaps = []
    for arm in arms:
        if arm.missing_seeds == (None,):
            gaps.append(f"{arm.title} is not done.")
        elif arm.missing_seeds:
            gaps.append(f"{arm.title} is not done for seeds {', '.join(map(str, arm.missing_seeds))}.")
    return gaps


def _distinct(values: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(
        json.loads(text) for text in dict.fromkeys(json.dumps(value, sort_keys=True) for value in values if value)
    )
