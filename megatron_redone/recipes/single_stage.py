"""One stage by itself: the same settings, executor, manifest and resume as in a recipe, without a recipe around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import apply_overrides, load_yaml, validate
from megatron_redone.recipes.config import STAGE_KINDS, RecipeConfig
from megatron_redone.recipes.graph import Recipe, StageRun
from megatron_redone.recipes.stage_config import RUN_KEYS, artefacts_of, is_path


def load_stage(kind: str, path: Path | None, overrides: Sequence[str], out: Path) -> Recipe:
    """A recipe of one stage, whose artefact will be the folder `out`.

    Args:
        path: YAML file with the settings of the stage, without `kind`, and if wanted `seed` and `max_refused_share` as
            in a recipe; None: all from `overrides`. Paths of inputs are relative to the file, or to the working folder
            where there is none or where an override gives them.
        overrides: `key=value`, as for a recipe.
        out: the artefact's folder.

    Raises:
        ConfigError: every problem of the settings at once, and inputs that are not there.
    """
    data: dict[str, Any] = load_yaml(path) if path is not None else {}
    data = apply_overrides({"kind": kind} | data, overrides)
    if data["kind"] != kind:
        raise ConfigError([f"{path}: kind={data['kind']!r}, but this command runs {kind!r}; leave `kind` out"])
    source = str(path) if path is not None else "settings"
    given = {key: data.pop(key) for key in RUN_KEYS if key in data}
    name = out.resolve().name
    run_settings = given | {"name": name, "output": str(out.resolve().parent), "stages": {name: {"kind": kind}}}
    config = validate(RecipeConfig, run_settings, source)
    stage = validate(STAGE_KINDS[kind], data, source)
    base = (path.parent if path is not None else Path()).resolve()
    inputs = {field: _located(reference, field, base, overrides) for field, reference in artefacts_of(stage)}
    missing = [
        f"{source}: {field}={reference!r} is not there; check the path"
        for field, reference in inputs.items()
        if not Path(reference).exists()
    ]
    if missing:
        raise ConfigError(missing)
    run = StageRun(name, stage, None, config.seed, inputs)
    return Recipe(path or base / "settings", config, {name: stage}, [run])


def _located(reference: str, field: str, base: Path, overrides: Sequence[str]) -> str:
    """The absolute path of an input, given in the file or by an override."""
    given = [override.partition("=")[0].strip() for override in overrides]
    overridden = any(field == key or field.startswith(f"{key}.") for key in given)
    path = (Path() if overridden else base) / reference
    located = str(path.resolve())
    assert is_path(located)
    return located
