"""What `redone plan` does: one model and workload, or the training stages of a recipe. Imports no torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.common.logging import CONSOLE
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.models.config import ModelShape
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator, get_accelerator
from megatron_redone.planning.memory import Workload
from megatron_redone.planning.pages import CERTIFIED, GIB, MEMORY_PARTS, StagePlan, as_json, as_markdown
from megatron_redone.planning.search import layout_problems, plan_layout, search


@dataclass(frozen=True)
class PlanRequest:
    """The options of the command, in their order."""

    recipe: Path | None
    model: str | None
    gpus: int
    gpu: str
    seq: int
    batch: int | None
    document_length: int | None
    labelled: float
    imbalance: float
    steps: int | None
    layouts: tuple[str, ...]
    precision: str
    memory_gib: float | None
    peak_tflops: float | None
    dollars: float | None
    top: int
    rows: int | None
    out: Path | None


def plan(request: PlanRequest) -> None:
    """Plans, prints and writes; ends with code 1 where something does not fit.

    Raises:
        InputError: an unknown model or profile, neither a recipe nor a model.
        ConfigError: a layout that cannot run.
    """
    gpu = get_accelerator(request.gpu, memory_gib=request.memory_gib, peak_tflops=request.peak_tflops)
    if request.dollars is not None:
        gpu = replace(gpu, dollars_per_hour=request.dollars)
    if request.recipe is not None:
        plans = list(_recipe_plans(request, request.recipe, gpu))
    elif request.model is not None:
        plans = _model_plans(request, request.model, gpu)
    else:
        raise InputError("neither a recipe nor --model: give one, for example --model qwen3-8b")
    if not plans:
        raise InputError(f"{request.recipe}: no stage trains a model; there is nothing to plan")
    _print(plans, gpu)
    if request.out is not None:
        _write(request.out, plans, gpu, request)
    if not all(one.chosen.fits for one in plans):
        raise typer.Exit(1)


def _model_plans(request: PlanRequest, model: str, gpu: Accelerator) -> list[StagePlan]:
    shape = get_preset(model)
    work = Workload(
        request.seq, request.batch or 4 * request.gpus, request.document_length, request.labelled, request.imbalance
    )
    if not request.layouts:
        return [_searched("training", model, shape, work, request, gpu, request.steps)]
    plans = []
    for words in request.layouts:
        settings = apply_overrides({"precision": request.precision}, [word for word in words.split(",") if word])
        layout = validate(ParallelConfig, settings, "redone plan --layout")
        plans.append(_given("training", model, shape, layout, work, request, gpu, request.steps))
    return plans


def _searched(
    name: str, model: str, shape: ModelShape, work: Workload, request: PlanRequest, gpu: Accelerator, steps: int | None
) -> StagePlan:
    found = search(shape, request.gpus, work, gpu, request.precision)
    if not found:
        raise InputError(
            f"{name}: no layout of {request.gpus} ranks divides {model} with rows of {work.sequence_length} tokens and "
            f"{work.global_batch} rows a step; change --gpus, --seq or --batch"
        )
    return StagePlan(name, model, shape, request.gpus, work, found[0], found[1 : request.top], steps)


def _given(
    name: str, model: str, shape: ModelShape, layout: ParallelConfig, work: Workload, request: PlanRequest,
    gpu: Accelerator, steps: int | None,
) -> StagePlan:  # fmt: skip
    if problems := layout_problems(shape, layout, request.gpus, work):
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    planned = plan_layout(shape, layout, request.gpus, work, gpu)
    others = [one for one in search(shape, request.gpus, work, gpu, layout.precision) if one.fits]
    return StagePlan(name, model, shape, request.gpus, work, planned, others[: request.top - 1], steps)


def _recipe_plans(request: PlanRequest, path: Path, gpu: Accelerator) -> Iterator[StagePlan]:
    """A plan of every stage that trains, on the layout its section gives."""
    from megatron_redone.recipes.graph import load_recipe
    from megatron_redone.recipes.plan import model_shape
    from megatron_redone.recipes.stage_config import TrainingStage

    recipe = load_recipe(path)
    for name, stage in recipe.stages.items():
        if not isinstance(stage, TrainingStage):
            continue
        shape = get_preset(request.model) if request.model else model_shape(recipe, name)
        if shape is None:
            raise InputError(f"{path}: stage {name}: its model is not there yet; give its shape by --model qwen3-8b")
        work, steps = _stage_work(stage, request)
        yield _given(name, request.model or shape.family, shape, stage.parallel, work, request, gpu, steps)


def _stage_work(stage: Any, request: PlanRequest) -> tuple[Workload, int | None]:
    """Rows, batch and steps of a stage; steps are None where its data decide and --rows does not."""
    if hasattr(stage, "sequence_length"):
        length, batch, document = stage.sequence_length, stage.global_batch_size, request.document_length
    elif hasattr(stage, "max_tokens_per_microbatch"):
        length = stage.max_tokens_per_microbatch
        document = request.document_length or length // 4
        sequences = 2 * getattr(stage, "global_batch_size", 0) or _answers(stage)
        replicas = max(1, stage.parallel.data_parallel_size(request.gpus))
        batch = -(-sequences * document // length)
        batch = -(-batch // replicas) * replicas
    else:
        raise InputError(f"stage kind {stage.kind}: no batch to plan by")
    work = Workload(length, batch, document, request.labelled, request.imbalance)
    if getattr(stage, "num_rollouts", None):
        return work, stage.num_rollouts * stage.updates_per_rollout
    if stage.steps is not None:
        return work, stage.steps
    if request.rows is None or stage.epochs is None:
        return work, None
    return work, max(1, round(stage.epochs * request.rows / stage.global_batch_size))


def _answers(stage: Any) -> int:
    return int(stage.prompts_per_rollout * stage.responses_per_prompt // stage.updates_per_rollout)


def _print(plans: list[StagePlan], gpu: Accelerator) -> None:
    for one in plans:
        work = one.work
        rows = f"{work.global_batch} rows of {work.sequence_length:,} tokens a step"
        table = Table(
            "layout", "memory a rank", "fits", "tokens/s/rank", "TFLOP/s", "MFU", "bubble", "step",
            title=f"{one.name}: {one.model}, {one.world_size} x {gpu.name}, {rows}",
        )  # fmt: skip
        for planned in (one.chosen, *one.others):
            time = planned.time
            table.add_row(
                planned.layout(),
                f"{planned.fullest.total / GIB:.1f} GiB",
                "yes" if planned.fits else "NO",
                f"{time.tokens_per_second_per_rank:,.0f}",
                f"{time.flops_per_second_per_rank / 1e12:.0f}",
                f"{time.mfu:.1%}",
                f"{time.bubble_share:.0%}",
                f"{time.seconds:.2f} s",
            )
        CONSOLE.print(table)
        for planned in (one.chosen, *one.others):
            CONSOLE.print(f"{planned.layout()}: {'; '.join(planned.reasons())}", highlight=False)
        fullest = one.chosen.fullest
        parts = ", ".join(f"{part} {getattr(fullest, part) / GIB:.2f}" for part in MEMORY_PARTS)
        CONSOLE.print(f"memory of the fullest rank in GiB: {parts}", highlight=False)
        if one.hours is not None:
            cost = one.dollars(gpu)
            price = "" if cost is None else f", ${cost:,.0f} at ${gpu.dollars_per_hour:.2f} a rank and hour"
            CONSOLE.print(f"{one.steps:,} steps: {one.hours:,.2f} hours{price}", highlight=False)
        if not one.chosen.fits:
            CONSOLE.print("does not fit: " + one.chosen.reasons()[0], highlight=False)
    CONSOLE.print(CERTIFIED, style="dim", highlight=False)


def _write(out: Path, plans: list[StagePlan], gpu: Accelerator, request: PlanRequest) -> None:
    if out.suffix == ".md":
        title = f"Plan of {request.recipe.name if request.recipe else request.model}"
        words = [Path(word).name if word.endswith((".md", ".yaml")) else word for word in sys.argv[1:]]
        atomic_write_text(out, as_markdown(plans, gpu, title, "redone " + shlex.join(words)))
    else:
        atomic_write_json(out, as_json(plans, gpu))
    CONSOLE.print(f"written: {out}", highlight=False)
