"""`redone run`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from megatron_redone.common.errors import ConfigError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import redone_command, run_on_host
from megatron_redone.recipes.graph import Recipe, load_recipe


def run_recipe(
    path: Path,
    overrides: Sequence[str],
    dry_run: bool,
    nproc: int,
    from_stage: str | None,
    only_stage: str | None,
    exit_after_minutes: float | None = None,
) -> None:
    """Checks the recipe, then prints its plan, or starts the ranks, or runs it in this process."""
    recipe = load_recipe(path, overrides)
    place = from_environ(os.environ)
    world_size = place.world_size if place.world_size > 1 else nproc
    from megatron_redone.recipes.plan import input_problems, layout_problems, print_plan

    problems = [*input_problems(recipe), *layout_problems(recipe, world_size, only_stage)]
    for name in (from_stage, only_stage):
        if name is not None and name not in recipe.stages:
            problems.append(f"{name!r} is no stage; stages: {', '.join(recipe.stages)}")
    if problems:
        raise ConfigError(problems)
    if dry_run:
        print_plan(recipe, world_size)
        return
    if nproc > 1 and place.world_size == 1:
        raise typer.Exit(run_on_host(redone_command(sys.argv[1:]), nproc, os.environ))
    _run_here(recipe, from_stage, only_stage, exit_after_minutes)


def _run_here(recipe: Recipe, from_stage: str | None, only_stage: str | None, exit_after_minutes: float | None) -> None:
    from megatron_redone.parallel.context import left_together
    from megatron_redone.recipes.runner import RecipeRunner
    from megatron_redone.reporting.html import write_report
    from megatron_redone.reporting.run_files import load_run
    from megatron_redone.reporting.text import print_summary
    from megatron_redone.training.stop import install_stop_signals

    place = from_environ(os.environ)
    install_stop_signals(exit_after_minutes)
    command = shlex.join(["redone", *sys.argv[1:]])
    with left_together(place.world_size):
        workspace = RecipeRunner(recipe, command, place).run(from_stage, only_stage)
    if place.is_main:
        report = write_report(workspace.root, workspace.root / "report.html")
        print_summary(load_run(workspace.root), CONSOLE, report)
