"""From an ablation file to one recipe in which every arm's stages stand, those of several arms once."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import apply_overrides, load_yaml, merge_sections, validate
from megatron_redone.recipes.ablation.arms import ArmStages, arm_stages, identities, set_reference
from megatron_redone.recipes.ablation.config import AblationConfig, ArmConfig
from megatron_redone.recipes.config import SECTION_DEFAULTS
from megatron_redone.recipes.graph import Recipe, StageRun, check_recipe, recipe_data
from megatron_redone.tasks.catalogue import TASKS


@dataclass(frozen=True)
class Arm:
    """One arm of the expanded recipe.

    Attributes:
        stages: all that it needs, by their names in the expanded recipe.
        results: held-out set -> the stage that answers it.
    """

    name: str
    title: str
    stages: tuple[str, ...]
    results: Mapping[str, str]


@dataclass(frozen=True)
class Ablation:
    """A checked ablation."""

    path: Path
    config: AblationConfig
    recipe: Recipe
    """Every arm's stages."""
    arms: tuple[Arm, ...]

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def runs_of(self, arms: Sequence[str]) -> list[StageRun]:
        """The stage runs that some arms need; all arms where none is named."""
        stages = {stage for arm in self.arms if not arms or arm.name in arms for stage in arm.stages}
        return [run for run in self.recipe.runs if run.name in stages]

    def recipe_of(self, arms: Sequence[str]) -> Recipe:
        """The recipe with the runs that some arms need."""
        return dataclasses.replace(self.recipe, runs=self.runs_of(arms))


def load_ablation(path: Path, overrides: Sequence[str] = ()) -> Ablation:
    """Reads and checks an ablation, its recipe and every arm.

    Raises:
        ConfigError: every problem of the file, or else of all arms, at once.
    """
    data = apply_overrides(load_yaml(path), overrides)
    config = validate(AblationConfig, data, str(path))
    recipe_path = Path(os.path.normpath(path.parent / config.recipe))
    base = recipe_data(recipe_path)
    if not isinstance(base.get("stages"), dict):
        raise ConfigError([f"{recipe_path}: no stages; `recipe` names a recipe file"])
    base = merge_sections(base, config.settings)
    problems = [*_new_stages(config, recipe_path), *_group_problems(config)]
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    arms, stages = _together(config, base, str(path))
    merged = {
        **base,
        "name": config.name,
        "output": str(config.output),
        "seeds": list(config.seeds),
        "notes": [*(base.get("notes") or ()), *config.notes],
        "comparison": _comparison(config, arms),
        "stages": stages,
    }
    return Ablation(path, config, check_recipe(recipe_path, merged), tuple(arms))


def _new_stages(config: AblationConfig, recipe: Path) -> list[str]:
    """Problems of stages in `settings` that the recipe has not: a misspelt one has no kind."""
    known = recipe_data(recipe)["stages"]
    stages = config.settings.get("stages") or {}
    return [
        f"settings.stages: {name!r} is no stage of {recipe}; a new one has a `kind`, known: {', '.join(known)}"
        for name, section in stages.items()
        if name not in known and "kind" not in (section or {})
    ]


def _group_problems(config: AblationConfig) -> list[str]:
    capabilities = {task.capability for task in TASKS.values()}
    problems = []
    for name, group in config.groups.items():
        for capability in (*group.capabilities, *group.but_capabilities):
            if capability not in capabilities:
                known = ", ".join(sorted(capabilities))
                problems.append(f"groups.{name}: {capability!r} is no capability; known: {known}")
        problems += [
            f"groups.{name}: {task!r} is no task; `redone tasks list` names them"
            for task in group.tasks
            if task not in TASKS
        ]
    return problems


def _together(config: AblationConfig, base: Mapping[str, Any], source: str) -> tuple[list[Arm], dict[str, Any]]:
    """Arms and stages of the expanded recipe. A stage that is as in the recipe keeps its name; others are named after
    the first arm that has them."""
    sections = {name: base[name] for name in SECTION_DEFAULTS if isinstance(base.get(name), Mapping)}
    held_out = {
        name: one.model_dump(mode="json", exclude_unset=True) if one is not None else None
        for name, one in config.held_out.items()
    }
    expanded: dict[str, ArmStages] = {}
    problems: list[str] = []
    for name, arm in config.arms.items():
        try:
            expanded[name] = arm_stages(arm, base["stages"], sections, held_out, source)
        except ConfigError as error:
            problems += [f"{source}: arm {name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    unchanged = _of_the_recipe(base["stages"], sections, source)
    names = {identity: name for name, identity in unchanged.items()}
    stages: dict[str, Any] = {}
    arms = []
    for name, of_arm in expanded.items():
        called: dict[str, str] = {}
        for stage, identity in identities(of_arm).items():
            called[stage] = names.setdefault(
                identity, _free_name(stage, name, identity, {*names.values(), *base["stages"]})
            )
            if called[stage] not in stages:
                section = copy.deepcopy(of_arm.sections[stage])
                for field, reference in of_arm.reads(stage):
                    if called[reference] != reference:
                        set_reference(section, field, called[reference])
                stages[called[stage]] = section
        results = {held: called[stage] for held, stage in of_arm.results.items()}
        arms.append(Arm(name, config.arms[name].title or name, tuple(called.values()), results))
    return arms, stages


def _of_the_recipe(base: Mapping[str, Any], sections: Mapping[str, Any], source: str) -> dict[str, str]:
    """Identities of the recipe's own stages; one that is broken in the recipe has none."""
    found: dict[str, str] = {}
    for name in base:
        try:
            found |= identities(arm_stages(ArmConfig(result=name), base, sections, {"own": None}, source))
        except ConfigError:
            continue
    return found


def _free_name(stage: str, arm: str, identity: str, taken: set[str]) -> str:
    if stage not in taken:
        return stage
    name = f"{stage}-{arm}"
    return name if name not in taken else f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _comparison(config: AblationConfig, arms: Sequence[Arm]) -> dict[str, Any]:
    """What the report of the run compares: the baseline's result, the last arm's, and the others as arms."""
    results = {arm.name: next(iter(arm.results.values())) for arm in arms}
    before, after = results[config.baseline], list(results.values())[-1]
    others = [name for name in dict.fromkeys(results.values()) if name not in (before, after)]
    return {"before": before, "after": after, "arms": others}
