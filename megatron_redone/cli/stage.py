"""One training stage by itself, on one or several processes: `redone dpo`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from megatron_redone.cli.curate import print_settings
from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import redone_command, run_on_host
from megatron_redone.models.families import read_shape
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.single_stage import load_stage
from megatron_redone.recipes.stage_config import ModelStage, model_folder


def train_stage(
    kind: str,
    settings: Sequence[str],
    out: Path | None,
    again: bool,
    nproc: int,
    exit_after_minutes: float | None = None,
) -> None:
    """Runs the stage into `out`, or tells its settings where there is none.

    Args:
        settings: a YAML file first, if wanted, then `key=value`.
    """
    if out is None:
        print_settings(kind)
        return
    given = list(settings)
    file = Path(given.pop(0)) if given and "=" not in given[0] else None
    recipe = load_stage(kind, file, given, out)
    place = from_environ(os.environ)
    problems = _layout_problems(recipe, place.world_size if place.world_size > 1 else nproc)
    if problems:
        raise ConfigError(problems)
    if nproc > 1 and place.world_size == 1:
        raise typer.Exit(run_on_host(redone_command(sys.argv[1:]), nproc, os.environ))
    _run_here(recipe, out, again, exit_after_minutes)


def with_nemo_config(kind: str, settings: Sequence[str], path: Path) -> list[str]:
    """The settings with those of a YAML file of NeMo-Aligner's before the ones that are given as `key=value`.

    Args:
        kind: of the stage: dpo or dapo.
    Raises:
        InputError: no such file, or no environment of NeMo-Aligner to read it in.
        ConfigError: keys that are unknown here.
    """
    import tempfile

    from megatron_redone.nemo_aligner import dapo_mapping, mapping
    from megatron_redone.nemo_aligner.config import NemoEnvironmentConfig
    from megatron_redone.nemo_aligner.train import settings_of_file

    if not path.is_file():
        raise InputError(f"--nemo-config {path}: no such file; check the path")
    file = [settings[0]] if settings and "=" not in settings[0] else []
    own = list(settings[len(file) :])
    named = [setting.partition("=")[2] for setting in own if setting.startswith("nemo_aligner.python=")]
    environment = NemoEnvironmentConfig(python=Path(named[-1])) if named else NemoEnvironmentConfig()
    read = dapo_mapping.from_nemo if kind == "dapo" else mapping.from_nemo
    with tempfile.TemporaryDirectory() as folder:
        found = settings_of_file(path, environment, Path(folder) / "log", read)
    return [*file, *(f"{name}={json.dumps(value)}" for name, value in found.items()), *own]


def _layout_problems(recipe: Recipe, world_size: int) -> list[str]:
    """Why the layout does not fit the processes or the model; empty when it does."""
    (run,) = recipe.runs
    assert isinstance(run.config, ModelStage)
    parallel = run.config.parallel
    shape = read_shape(model_folder(Path(run.inputs["model"])))
    return parallel.problems(world_size) or shape.layout_problems(parallel)


def _run_here(recipe: Recipe, out: Path, again: bool, exit_after_minutes: float | None) -> None:
    import contextlib

    from megatron_redone.parallel.context import left_together
    from megatron_redone.recipes.runner import StageExecutor
    from megatron_redone.recipes.workspace import Workspace
    from megatron_redone.training.stop import install_stop_signals

    install_stop_signals(exit_after_minutes)
    place = from_environ(os.environ)
    workspace = Workspace(recipe, recipe.config.output)
    (run,) = recipe.runs
    with left_together(place.world_size), workspace.locked(run.id) if place.is_main else contextlib.nullcontext():
        executor = StageExecutor(workspace, place)
        if executor.is_done(run, {run.id} if again else set()):
            _say(place.is_main, f"{out}: done before, with the same settings and inputs; --again makes it anew")
            return
        counts = executor.execute(run)
    for name, count in counts.items():
        _say(place.is_main, f"  {name}: {count:,}" if isinstance(count, int) else f"  {name}: {count:.4g}")
    _say(place.is_main, f"written: {out}")


def _say(speaks: bool, text: str) -> None:
    if speaks:
        CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
