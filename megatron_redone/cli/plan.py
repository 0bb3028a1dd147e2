"""What `redone plan` does: one model and workload, or a whole recipe. Imports no torch."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
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

PRECISIONS = ("bf16", "fp32")
NARROWEST = 120
"""Characters of a line: a narrower terminal wraps it."""


@dataclass(frozen=True)
class PlanRequest:
    """The options of the command, in their order."""

    recipe: Path | None
    overrides: tuple[str, ...]
    model: str | None
    gpus: int | None
    gpu: str | None
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
    out: Path | None

    @property
    def ranks(self) -> int:
        """Of a model that is planned by itself."""
        return self.gpus or 8


def plan(request: PlanRequest) -> None:
    """Plans, prints and writes; ends with code 1 where something does not fit.

    Raises:
        InputError: an unknown model or profile, neither a recipe nor a model.
        ConfigError: a layout that cannot run.
    """
    if problems := list(_problems(request)):
        raise ConfigError(problems)
    if request.recipe is not None:
        _plan_recipe(request, request.recipe)
    elif request.model is not None:
        _plan_model(request, request.model)
    else:
        raise InputError("neither a recipe nor --model: give one, for example --model qwen3-8b")


def _problems(request: PlanRequest) -> Iterator[str]:
    """Every option that has no meaning, with the value and the rule."""
    if request.precision not in PRECISIONS:
        yield f"--precision {request.precision}: is none of {', '.join(PRECISIONS)}; take bf16 for a GPU"
    for name, value in (
        ("--peak-tflops", request.peak_tflops),
        ("--memory-gib", request.memory_gib),
        ("--imbalance", request.imbalance),
        ("--dollars", request.dollars),
    ):
        if value is not None and not (math.isfinite(value) and (value > 0 or name == "--dollars")):
            yield f"{name} {value:g}: must be a finite number above 0; change it, or leave it out"
    if request.document_length is not None and request.document_length > request.seq:
        yield (
            f"--document-length {request.document_length} is more than --seq {request.seq}: documents are packed "
            "whole; lower it, or leave it out for one document a row"
        )
    if request.recipe is not None and "=" in request.recipe.name and not request.recipe.exists():
        yield f"{request.recipe}: a setting stands where the file of a recipe is expected; name the file before it"


def _plan_recipe(request: PlanRequest, path: Path) -> None:
    from megatron_redone.cli.plan_recipe import plan_recipe, print_recipe
    from megatron_redone.recipes.plan_page import recipe_json, recipe_markdown

    if request.layouts or request.steps is not None:
        raise InputError("--layout and --steps are for --model; change a recipe by KEY=VALUE, as `redone run` takes it")
    found = plan_recipe(
        path,
        overrides=request.overrides,
        gpus=request.gpus,
        gpu=request.gpu,
        model=request.model,
        replaced={
            "memory_gib": request.memory_gib,
            "bf16_tflops": request.peak_tflops,
            "dollars_per_hour": request.dollars,
        },
    )
    print_recipe(found)
    if request.out is not None:
        if request.out.suffix == ".md":
            atomic_write_text(request.out, recipe_markdown(found, _command()))
        else:
            atomic_write_json(request.out, recipe_json(found))
        CONSOLE.print(f"written: {request.out}", highlight=False)
    if found.problems:
        raise typer.Exit(1)


def _plan_model(request: PlanRequest, model: str) -> None:
    if request.overrides:
        raise InputError(f"{request.overrides[0]}: settings of a recipe, and none is given; leave them out")
    gpu = get_accelerator(
        request.gpu or "h100",
        memory_gib=request.memory_gib,
        peak_tflops=request.peak_tflops,
        dollars_per_hour=request.dollars,
    )
    plans = _model_plans(request, model, gpu)
    _print(plans, gpu)
    if request.out is not None:
        _write(request.out, plans, gpu, request)
    if not all(one.chosen.fits for one in plans):
        raise typer.Exit(1)


def _command() -> str:
    """What was typed, as the page that it writes tells it."""
    return "redone " + shlex.join(sys.argv[1:])


def _model_plans(request: PlanRequest, model: str, gpu: Accelerator) -> list[StagePlan]:
    shape = get_preset(model)
    work = Workload(
        request.seq, request.batch or 4 * request.ranks, request.document_length, request.labelled, request.imbalance
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
    found = search(shape, request.ranks, work, gpu, request.precision)
    if not found:
        raise InputError(
            f"{name}: no layout of {request.ranks} ranks divides {model} with rows of {work.sequence_length} tokens "
            f"and {work.global_batch} rows a step; change --gpus, --seq or --batch"
        )
    return StagePlan(name, model, shape, request.ranks, work, found[0], found[1 : request.top], steps)


def _given(
    name: str, model: str, shape: ModelShape, layout: ParallelConfig, work: Workload, request: PlanRequest,
    gpu: Accelerator, steps: int | None,
) -> StagePlan:  # fmt: skip
    if problems := layout_problems(shape, layout, request.ranks, work):
        raise ConfigError([f"{name}: {problem}" for problem in problems])
    planned = plan_layout(shape, layout, request.ranks, work, gpu)
    others = [one for one in search(shape, request.ranks, work, gpu, layout.precision) if one.fits]
    return StagePlan(name, model, shape, request.ranks, work, planned, others[: request.top - 1], steps)


def _print(plans: list[StagePlan], gpu: Accelerator) -> None:
    console = Console(width=max(Console().width, NARROWEST))
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
                planned.layout().replace(",", " "),
                f"{planned.fullest.total / GIB:.1f} GiB",
                "yes" if planned.fits else "NO",
                f"{time.tokens_per_second_per_rank:,.0f}",
                f"{time.flops_per_second_per_rank / 1e12:.0f}",
                f"{time.mfu:.1%}",
                f"{time.bubble_share:.0%}",
                f"{time.seconds:.2f} s",
            )
        console.print(table)
        for planned in (one.chosen, *one.others):
            console.print(f"{planned.layout()}: {'; '.join(planned.reasons())}", highlight=False)
        fullest = one.chosen.fullest
        parts = ", ".join(f"{part} {getattr(fullest, part) / GIB:.2f}" for part in MEMORY_PARTS)
        console.print(f"memory of the fullest rank in GiB: {parts}", highlight=False)
        if one.hours is not None:
            cost = one.dollars(gpu)
            price = "" if cost is None else f", ${cost:,.0f} at ${gpu.dollars_per_hour:.2f} a rank and hour"
            console.print(f"{one.steps:,} steps: {one.hours:,.2f} hours{price}", highlight=False)
        if not one.chosen.fits:
            console.print("does not fit: " + one.chosen.reasons()[0], highlight=False)
    console.print(CERTIFIED, style="dim", highlight=False)


def _write(out: Path, plans: list[StagePlan], gpu: Accelerator, request: PlanRequest) -> None:
    if out.suffix == ".md":
        atomic_write_text(out, as_markdown(plans, gpu, f"Plan of {request.model}", _command()))
    else:
        atomic_write_json(out, as_json(plans, gpu))
    CONSOLE.print(f"written: {out}", highlight=False)
