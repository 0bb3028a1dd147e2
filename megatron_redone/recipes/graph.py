"""From a recipe file to runs of stages in order. Imports no torch, so a login node can check a recipe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import apply_overrides, merge_sections, validate
from megatron_redone.recipes.config import SECTION_DEFAULTS, STAGE_KINDS, RecipeConfig
from megatron_redone.recipes.recipe_file import read_recipe_file, without_null_stages
from megatron_redone.recipes.stage_config import RUN_KEYS, StageConfig, artefacts_of, is_path

_RECIPE_KEY_REMEDY = {
    "seed": "a stage has no seed of its own; set the recipe's `seed`, or `seeds` with per_seed: true here",
    "max_refused_share": "holds for all stages; set it at the top of the recipe",
}


@dataclass(frozen=True)
class StageRun:
    """One execution of a stage: a stage that is repeated per seed has one for each seed."""

    name: str
    config: StageConfig
    seed: int | None
    run_seed: int
    """Seed of everything random in it."""
    inputs: Mapping[str, str]
    """Field -> id of the stage run that is read, or a path."""

    @property
    def id(self) -> str:
        """Name of the stage run and of its folder."""
        return self.name if self.seed is None else f"{self.name}.seed{self.seed}"

    @property
    def dependencies(self) -> list[str]:
        """Ids of the stage runs that must be done first."""
        return [reference for reference in self.inputs.values() if not is_path(reference)]


@dataclass(frozen=True)
class Recipe:
    """A checked recipe."""

    path: Path
    config: RecipeConfig
    stages: Mapping[str, StageConfig]
    """Each after the stages that it reads, else in the order of the file."""
    runs: Sequence[StageRun]
    """In an order in which every run comes after what it reads."""

    def run_of(self, run_id: str) -> StageRun:
        """The run of that id."""
        return next(run for run in self.runs if run.id == run_id)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads, overrides and checks a recipe, which may extend another (`recipe_file.py`).

    An override's first part may be a stage (`explore.optimizer.lr=3e-6`) or a key of the recipe (`seed=2`);
    `STAGE=null` takes a stage out.

    Raises:
        ConfigError: every problem of the file, of all stages and of the graph at once.
    """
    return check_recipe(path, recipe_data(path, overrides))


def recipe_data(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What the file of a recipe says, with overrides, unchecked."""
    data = read_recipe_file(path)
    return apply_overrides(data, [_of_stage(override, data.get("stages")) for override in overrides])


def check_recipe(path: Path, data: dict[str, Any]) -> Recipe:
    """The recipe that `data` describes; `path` is the file that its paths are relative to.

    Raises:
        ConfigError: as `load_recipe`.
    """
    if not isinstance(data.get("stages"), dict) or not data["stages"]:
        raise ConfigError([f"{path}: no stages; list them under `stages:`, each with its `kind`"])
    data["stages"] = without_null_stages(data["stages"])
    problems: list[str] = []
    config: RecipeConfig | None = None
    try:
        config = validate(RecipeConfig, data, str(path))
        problems += _recipe_problems(config, data["stages"])
    except ConfigError as error:
        problems += error.problems
    sections = {name: data[name] for name in SECTION_DEFAULTS if isinstance(data.get(name), Mapping)}
    stages: dict[str, StageConfig] = {}
    for name, section in data["stages"].items():
        try:
            stages[name] = check_stage(section, sections, str(path))
        except ConfigError as error:
            problems += [f"stage {name}: {problem}" for problem in error.problems]
    problems += _graph_problems(data["stages"], stages)
    ordered, circles = _ordered(stages)
    problems += circles
    if problems or config is None:
        raise ConfigError(problems)
    return Recipe(path, config, ordered, _expand(config, ordered))


def _of_stage(override: str, stages: Any) -> str:
    first = override.partition("=")[0].partition(".")[0]
    return f"stages.{override}" if isinstance(stages, Mapping) and first in stages else override


def check_stage(section: Any, sections: Mapping[str, Any], source: str) -> StageConfig:
    """The configuration of one stage, with the recipe's defaults of its sections.

    Raises:
        ConfigError: its problems.
    """
    if not isinstance(section, dict) or "kind" not in section:
        raise ConfigError([f"must be a section with a `kind`; known kinds: {', '.join(STAGE_KINDS)}"])
    kind = section["kind"]
    if kind not in STAGE_KINDS:
        near = difflib.get_close_matches(str(kind), STAGE_KINDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known kinds: {', '.join(STAGE_KINDS)}"
        raise ConfigError([f"kind={kind!r} is unknown; {hint}"])
    if misplaced := [key for key in RUN_KEYS if key in section]:
        raise ConfigError([f"{key}={section[key]!r}: {_RECIPE_KEY_REMEDY[key]}" for key in misplaced])
    model = STAGE_KINDS[kind]
    for field, default in sections.items():
        own = section.get(field, {})  # null switches a section off
        if field in model.model_fields and isinstance(own, Mapping):
            section = merge_sections(section, {field: merge_sections(default, own)})
    return validate(model, section, source)


def _graph_problems(names: Mapping[str, Any], stages: Mapping[str, StageConfig]) -> list[str]:
    problems = [
        f"stage {name!r}: a name is made of letters, digits, - and _, since it names a folder; choose another"
        for name in names
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name)
    ]
    problems += _shared_folders(names)
    for name, stage in stages.items():
        for field, reference in artefacts_of(stage):
            if is_path(reference):
                continue
            if reference not in names:
                near = difflib.get_close_matches(reference, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "name a stage, or a path with a slash"
                problems.append(f"stage {name}: {field}={reference!r} is no stage; {hint}")
            elif reference in stages and stages[reference].per_seed and not stage.per_seed:
                problems.append(
                    f"stage {name}: {field}={reference!r} runs once per seed; set per_seed: true here as well"
                )
    return problems


def _shared_folders(names: Mapping[str, Any]) -> Iterator[str]:
    """Stages whose artefacts would be one folder where capitals do not count."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name:
            yield f"stages {other!r} and {name!r} differ in capitals only and may write one folder; rename one"


def _ordered(stages: Mapping[str, StageConfig]) -> tuple[dict[str, StageConfig], list[str]]:
    """The stages, each after those it reads and else as they are listed; and a problem for each circle."""
    reads = {
        name: [reference for _, reference in artefacts_of(stage) if reference in stages]
        for name, stage in stages.items()
    }
    ordered: dict[str, StageConfig] = {}
    waiting = list(stages)
    while waiting:
        ready = next((name for name in waiting if all(read in ordered for read in reads[name])), None)
        if ready is None:
            return ordered, _circles(waiting, reads)
        waiting.remove(ready)
        ordered[ready] = stages[ready]
    return ordered, []


def _circles(waiting: Sequence[str], reads: Mapping[str, Sequence[str]]) -> list[str]:
    """The circles among stages that all wait for another one, each told once."""
    found: dict[frozenset[str], str] = {}
    for start in waiting:
        way = [start]
        while way.count(way[-1]) == 1:
            way.append(next(read for read in reads[way[-1]] if read in waiting))
        circle = way[way.index(way[-1]) :]
        shown = " -> ".join(circle)
        found.setdefault(
            frozenset(circle), f"stages read each other in a circle: {shown}; let one of them read something else"
        )
    return list(found.values())


def _recipe_problems(config: RecipeConfig, names: Mapping[str, Any]) -> list[str]:
    problems = []
    if config.comparison is not None:
        compared = [config.comparison.before, config.comparison.after, *config.comparison.arms]
        problems += [f"comparison names {name!r}, which is no stage" for name in compared if name not in names]
    if len(set(config.seeds)) != len(config.seeds):
        problems.append(f"seeds={list(config.seeds)} has repeats; each seed once")
    return problems


def _expand(config: RecipeConfig, stages: Mapping[str, StageConfig]) -> list[StageRun]:
    """All runs: stage by stage, each for all seeds, so that a pool of processes never waits for one long chain."""
    runs = []
    for name, stage in stages.items():
        for seed in config.seeds if stage.per_seed else (None,):
            inputs = {
                field: f"{reference}.seed{seed}" if reference in stages and stages[reference].per_seed else reference
                for field, reference in artefacts_of(stage)
            }
            runs.append(StageRun(name, stage, seed, config.seed if seed is None else seed, inputs))
    return runs
