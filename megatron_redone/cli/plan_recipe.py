"""`redone plan RECIPE`: every stage of a recipe with a model. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.planning.pages import GIB
from megatron_redone.planning.search import Planned, search
from megatron_redone.planning.throughput import step_time
from megatron_redone.recipes.cluster import ClusterConfig
from megatron_redone.recipes.forecast import StageForecast, forecast_stage
from megatron_redone.recipes.graph import load_recipe
from megatron_redone.recipes.plan import machines, model_shape
from megatron_redone.recipes.plan_page import RecipePlan
from megatron_redone.recipes.stage_config import ModelStage

WORTH_TELLING = 1.05
"""A layout is told that is so many times as fast as the recipe's."""
NARROWEST = 120
"""Characters of a line: a narrower terminal wraps it."""


def plan_recipe(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    gpus: int | None = None,
    gpu: str | None = None,
    model: str | None = None,
    replaced: Mapping[str, float | None] | None = None,
) -> RecipePlan:
    """Plans all stages.

    Args:
        overrides: settings of the recipe, `KEY=VALUE`.
        gpus: instead of the recipe's cluster.
        gpu: profile instead of the recipe's.
        model: shape by name for stages whose model folder is not there and has no name we know.
        replaced: figures of the profile, `None`: as it is.
    Raises:
        InputError: no stage has a model, or its shape is not known.
        ConfigError: layouts that do not divide model, ranks or batch.
    """
    recipe = load_recipe(path, overrides)
    cluster = recipe.config.cluster
    if cluster is None:
        cluster = ClusterConfig(nodes=1, gpus_per_node=gpus or 8, gpu=gpu or "h100")
    changed = {name: value for name, value in (replaced or {}).items() if value is not None}
    cluster = cluster.model_copy(update={**({"gpu": gpu} if gpu else {}), **changed})
    device = cluster.accelerator()
    number = gpus or cluster.num_gpus
    told = machines(cluster, device) if gpus is None else f"{gpus} {device.name.upper()}"
    stages, problems = [], []
    for name, stage in recipe.stages.items():
        if not isinstance(stage, ModelStage):
            continue
        shape = model_shape(recipe, name) or (get_preset(model) if model else None)
        if shape is None:
            problems.append(f"stage {name}: its model is not there yet; give its shape by --model qwen3-8b")
        try:
            stages.append(forecast_stage(recipe, name, shape, number, device))
        except ConfigError as error:
            problems += error.problems
    if not stages and not problems:
        raise InputError(f"{path}: no stage has a model; there is nothing to plan")
    if problems and not any(stage.shape for stage in stages):
        raise ConfigError(problems)
    if hard := [problem for problem in problems if "is not there yet" not in problem]:
        raise ConfigError(hard)
    better = _better(stages, device)
    return RecipePlan(recipe.config.name, told, device, recipe.config.expect, stages, better)


def _better(stages: list[StageForecast], gpu: Accelerator) -> dict[str, tuple[Planned, float]]:
    """The fastest layout of each training stage that leaves what a generator beside it takes, if it is faster."""
    found: dict[str, tuple[Planned, float]] = {}
    known: dict[tuple[object, ...], Planned | None] = {}
    for stage in stages:
        if stage.training is None or stage.full_batch is None or stage.shape is None:
            continue
        # states stay while answers are drawn: what they may take
        static = gpu.memory_bytes - (stage.drawing_bytes - stage.training.fullest.static) if stage.drawing_bytes else 0
        key = (stage.shape.model_dump_json(), stage.full_batch, round(static))
        if key not in known:
            known[key] = _fastest(stage.shape, stage, gpu, static or gpu.memory_bytes)
        fastest = known[key]
        given = step_time(stage.shape, stage.training.parallel, stage.gpus, stage.full_batch, gpu)
        times = 0.0 if fastest is None else given.seconds / given.tokens * fastest.time.tokens / fastest.time.seconds
        if fastest is not None and times > WORTH_TELLING:
            found[stage.name] = (fastest, times)
    return found


def _fastest(shape: ModelShape, stage: StageForecast, gpu: Accelerator, static: float) -> Planned | None:
    assert stage.full_batch is not None and stage.training is not None
    for planned in search(shape, stage.gpus, stage.full_batch, gpu, stage.training.parallel.precision):
        if planned.fits and planned.fullest.static <= static:
            return planned
    return None


def print_recipe(plan: RecipePlan) -> None:
    """A table of the stages, the sum, and what does not fit."""
    console = Console(width=max(Console().width, NARROWEST))
    table = Table("stage", "GPUs", "layout", "MFU", "drawn/s/GPU", "memory a GPU", "fits", "hours", "GPU-hours",
                  title=f"{plan.name} on {plan.machines}")  # fmt: skip
    for stage in plan.stages:
        if stage.training is None and not stage.rollouts:
            continue
        training = stage.training
        drawn = max((part.plan.tokens_per_second_per_rank for part in stage.rollouts), default=None)
        table.add_row(
            stage.name + (f" x {stage.times}" if stage.times > 1 else ""),
            str(stage.gpus),
            "" if training is None else training.layout().replace(",", " "),
            "" if training is None else f"{training.time.mfu:.0%}",
            "" if drawn is None else f"{drawn:,.0f}",
            f"{stage.memory_bytes / GIB:.1f} GiB",
            "yes" if not stage.problems else "NO",
            "unknown" if stage.seconds is None else f"{stage.seconds / 3600:,.2f}",
            "" if stage.gpu_hours is None else f"{stage.gpu_hours:,.0f}",
        )
    console.print(table)
    price = plan.gpu.dollars_per_hour
    cost = "" if price is None else f", ${plan.gpu_hours * price:,.0f} at ${price:.2f} a GPU and hour"
    console.print(f"together {plan.hours / 24:.2f} days, {plan.gpu_hours:,.0f} GPU-hours{cost}", highlight=False)
    if plan.unknown:
        console.print(
            f"time unknown: {', '.join(plan.unknown)} (their data decide; name their rows in the recipe's `expect`)",
            highlight=False,
        )
    for name, (better, times) in plan.better.items():
        memory = f"{better.fullest.total / GIB:.1f} GiB"
        console.print(f"{name}: {better.layout()} would be {times:.2f} times as fast, in {memory}", highlight=False)
    for problem in plan.problems:
        console.print(f"does not fit: {problem}", highlight=False)
