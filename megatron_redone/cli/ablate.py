"""`redone ablate`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from megatron_redone.common.errors import ConfigError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import redone_command, run_on_host
from megatron_redone.recipes.ablation.expand import Ablation, load_ablation


def ablate(
    path: Path,
    overrides: Sequence[str],
    arms: Sequence[str],
    dry_run: bool,
    report_only: bool,
    nproc: int,
    exit_after_minutes: float | None = None,
) -> None:
    """Checks the ablation, then prints its plan, or runs it, and writes what came of it.

    Raises:
        ConfigError: all that is wrong, before anything is begun.
    """
    ablation = load_ablation(path, overrides)
    place = from_environ(os.environ)
    world_size = place.world_size if place.world_size > 1 else nproc
    from megatron_redone.recipes.plan import input_problems, layout_problems, print_plan

    known = [arm.name for arm in ablation.arms]
    problems = [f"--arm {arm} is no arm; arms: {', '.join(known)}" for arm in arms if arm not in known]
    problems += [*input_problems(ablation.recipe), *layout_problems(ablation.recipe, world_size)]
    if problems and not report_only:
        raise ConfigError(problems)
    if dry_run:
        _print_arms(ablation)
        print_plan(ablation.recipe_of(arms), world_size)
        return
    if nproc > 1 and place.world_size == 1:
        raise typer.Exit(run_on_host(redone_command(sys.argv[1:]), nproc, os.environ))
    if not report_only:
        _run(ablation, arms, exit_after_minutes)
    if place.is_main:
        _write(ablation)


def _run(ablation: Ablation, arms: Sequence[str], exit_after_minutes: float | None) -> None:
    from megatron_redone.parallel.context import left_together
    from megatron_redone.recipes.runner import RecipeRunner
    from megatron_redone.training.stop import install_stop_signals

    place = from_environ(os.environ)
    install_stop_signals(exit_after_minutes)
    with left_together(place.world_size):
        RecipeRunner(ablation.recipe_of(arms), _command(), place).run()


def _command() -> str:
    return shlex.join(["redone", *sys.argv[1:]])


def _write(ablation: Ablation) -> None:
    from megatron_redone.recipes.ablation.outcome import write_outcome
    from megatron_redone.reporting.html import write_report

    root = ablation.recipe.config.output
    page = write_outcome(ablation, _command())
    report = write_report(root, root / "report.html")
    CONSOLE.print(f"ablation: {page}\nreport of the run: {report}", highlight=False, markup=False, soft_wrap=True)


def _print_arms(ablation: Ablation) -> None:
    """Each arm's stages on top of the ones that every arm has."""
    console = Console()
    shared = set.intersection(*(set(arm.stages) for arm in ablation.arms))
    everywhere = [name for name in ablation.recipe.stages if name in shared]
    console.print(f"stages of all arms, run once: {', '.join(everywhere) or 'none'}", highlight=False)
    table = Table("arm", "stages beside these", "result")
    for arm in ablation.arms:
        own = [name for name in ablation.recipe.stages if name in arm.stages and name not in shared]
        table.add_row(arm.title, ", ".join(own), ", ".join(dict.fromkeys(arm.results.values())))
    console.print(table)
    total = sum(len(arm.stages) for arm in ablation.arms)
    console.print(f"{len(ablation.recipe.stages)} stages stand for {total} of the arms one by one", highlight=False)
