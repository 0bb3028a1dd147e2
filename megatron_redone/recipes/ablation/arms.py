"""One arm's stages: the base recipe's, changed. Imports no torch."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import merge_sections
from megatron_redone.recipes.ablation.config import ArmConfig
from megatron_redone.recipes.graph import check_stage
from megatron_redone.recipes.stage_config import StageConfig, artefacts_of, is_path

SCORES = "scores"
"""Stages that answer a held-out set are called `scores-NAME`."""


@dataclass(frozen=True)
class ArmStages:
    """The stages that an arm needs, each after those it reads.

    Attributes:
        sections: as a recipe file would list them.
        configs: the same, checked.
        results: held-out set -> the stage that answers it.
    """

    sections: dict[str, dict[str, Any]]
    configs: dict[str, StageConfig]
    results: dict[str, str]

    def reads(self, name: str) -> list[tuple[str, str]]:
        """(field, stage) of the stages that one reads."""
        return stage_references(self.configs[name])


def stage_references(config: StageConfig) -> list[tuple[str, str]]:
    """(field, stage) of all that a stage reads, folders made elsewhere left out."""
    return [(field, reference) for field, reference in artefacts_of(config) if not is_path(reference)]


def arm_stages(
    arm: ArmConfig,
    base: Mapping[str, Any],
    sections: Mapping[str, Any],
    held_out: Mapping[str, Mapping[str, Any] | None],
    source: str,
) -> ArmStages:
    """The stages of an arm.

    Args:
        base: stages of the base recipe, as its file lists them.
        sections: the recipe's defaults of sections.
        held_out: sections `evaluate` by name; None for what the result stage answers itself.

    Raises:
        ConfigError: unknown stages, what is read and not there, circles, wrong settings: all of them at once.
    """
    problems = [*_unknown("remove", arm.remove, base), *_unknown("change", list(arm.change), base)]
    problems += [f"add: {name!r} is a stage of the recipe; use `change`" for name in arm.add if name in base]
    problems += [f"change: {name!r} is removed as well; do one of both" for name in arm.change if name in arm.remove]
    if problems:
        raise ConfigError(problems)
    stages = {name: copy.deepcopy(section) for name, section in base.items() if name not in arm.remove}
    for name in arm.remove:
        _read_past(name, base, stages, arm.remove)
    for name, change in arm.change.items():
        stages[name] = merge_sections(stages[name], change)
    stages.update({name: dict(section) for name, section in arm.add.items()})
    if arm.result not in stages:
        raise ConfigError(_unknown("result", [arm.result], stages, arm.remove))
    per_seed = {"per_seed": True} if stages[arm.result].get("per_seed") else {}
    results = {}
    for name, rows in held_out.items():
        results[name] = arm.result if rows is None else f"{SCORES}-{name}"
        if rows is not None:
            section = {"kind": "evaluate", "model": arm.result, "evaluate": dict(rows), **per_seed}
            stages[results[name]] = section
    return _needed(stages, sections, results, arm.remove, source)


def _unknown(field: str, names: Sequence[str], known: Mapping[str, Any], removed: Sequence[str] = ()) -> list[str]:
    problems = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"stages: {', '.join(known)}"
            problems.append(f"{field}: {name!r} is {'removed' if name in removed else 'no stage'}; {hint}")
    return problems


def _read_past(
    removed: str, base: Mapping[str, Any], stages: Mapping[str, dict[str, Any]], all_removed: Sequence[str]
) -> None:
    """What read the removed stage's model reads the model that the stage started from."""
    before = _model_of(base[removed])
    while before is not None and before in all_removed:
        before = _model_of(base[before]) if before in base else None
    if before is None:
        return
    for section in stages.values():
        if section.get("model") == removed:
            section["model"] = before
        elif _model_of(section) == removed:
            section["model"]["path"] = before


def _model_of(section: Mapping[str, Any]) -> str | None:
    """The model that a stage reads: `model: NAME`, or `model: {path: NAME}` of a `pretrain` stage."""
    model = section.get("model")
    named = model.get("path") if isinstance(model, Mapping) else model
    return named if isinstance(named, str) else None


def _needed(
    stages: Mapping[str, dict[str, Any]],
    sections: Mapping[str, Any],
    results: dict[str, str],
    removed: Sequence[str],
    source: str,
) -> ArmStages:
    """The stages that the results need, directly or not, each after those it reads."""
    done: dict[str, StageConfig] = {}
    problems: list[str] = []

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in way:
            circle = " -> ".join((*way[way.index(name) :], name))
            problems.append(f"stages read each other in a circle: {circle}; let one of them read something else")
            return
        try:
            config = check_stage(stages[name], sections, source)
        except ConfigError as error:
            problems.extend(f"stage {name}: {problem}" for problem in error.problems)
            return
        for field, reference in stage_references(config):
            if reference in stages:
                visit(reference, (*way, name))
            else:
                problems.extend(f"stage {name}: {told}" for told in _unknown(field, [reference], stages, removed))
        done[name] = config

    for held_out, stage in results.items():
        visit(stage, ())
        if stage in done and getattr(done[stage], "evaluate", None) is None:
            problems.append(
                f"result {stage}: it answers no held-out rows; give it an `evaluate` section, or rows to "
                f"`held_out.{held_out}`"
            )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return ArmStages({name: stages[name] for name in done}, done, results)


def identities(stages: ArmStages) -> dict[str, str]:
    """By stage what decides its result: its settings, and the same of everything that it reads.

    Two stages of two arms with one identity are one stage.
    """
    found: dict[str, str] = {}
    for name, config in stages.configs.items():
        reads = {field: found[reference] for field, reference in stages.reads(name)}
        settings = config.model_dump(mode="json")
        for field in reads:
            set_reference(settings, field, "")
        found[name] = json.dumps([settings, reads], sort_keys=True)
    return found


def set_reference(section: dict[str, Any], field: str, reference: str) -> None:
    """Sets the dotted field of a section; sections that are not there yet are made."""
    *way, last = field.split(".")
    current: Any = section
    for part in way:
        if isinstance(current, list):
            current = current[int(part)]
            continue
        if current.get(part) is None:
            current[part] = {}
        current = current[part]
    if isinstance(current, list):
        current[int(last)] = reference
    else:
        current[last] = reference
