"""What a recipe would do, without doing it. Imports no torch: a login node can run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from megatron_redone.common.errors import InputError
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape
from megatron_redone.models.presets import PRESETS, get_preset
from megatron_redone.planning.hardware import Accelerator
from megatron_redone.recipes.cluster import ClusterConfig
from megatron_redone.recipes.config import DAPOStage, DPOStage, PretrainStage, SFTStage
from megatron_redone.recipes.cost import Work
from megatron_redone.recipes.data_stages import TokenizerStage
from megatron_redone.recipes.forecast import StageForecast, forecast_stage
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.stage_config import ModelStage, StageConfig, artefacts_of, is_path, model_folder
from megatron_redone.recipes.standing import standings
from megatron_redone.recipes.workspace import Workspace

NARROWEST = 120
"""Characters of a line of the plan: a narrower terminal wraps it."""


def input_problems(recipe: Recipe, stages: Mapping[str, StageConfig] | None = None) -> list[str]:
    """Every path that a stage (of all, or of some) reads and that is not there, each once."""
    first_use: dict[str, str] = {}
    for name, stage in (recipe.stages if stages is None else stages).items():
        for field, reference in artefacts_of(stage):
            if is_path(reference):
                first_use.setdefault(reference, f"stage {name}: {field}={reference!r}")
    return [
        f"{use}: {recipe.path.parent / reference} is not there; check the path, it is relative to the recipe file"
        for reference, use in first_use.items()
        if not (recipe.path.parent / reference).exists()
    ]


def layout_problems(recipe: Recipe, world_size: int, stages: Mapping[str, StageConfig] | None = None) -> list[str]:
    """Every stage (of all, or of some) whose layout does not fit the processes or its model, or whose model we cannot
    read."""
    problems = []
    for name, stage in (recipe.stages if stages is None else stages).items():
        if not isinstance(stage, ModelStage):
            continue
        parallel = stage.parallel
        found = parallel.problems(world_size)
        try:
            shape = model_shape(recipe, name)
        except InputError as error:
            shape, found = None, [*found, str(error)]
        if shape is not None and not found:
            found = shape.layout_problems(parallel)
        problems += [f"stage {name}: {problem}" for problem in found]
    return problems


def model_shape(recipe: Recipe, stage: str) -> ModelShape | None:
    """The shape of the model a stage works on, followed back to a preset or to a model folder.

    Where the folder is not there yet, its name may tell: `.../Qwen3-4B` is the preset qwen3-4b. None where it does not.

    Raises:
        InputError: an unknown preset, or a model folder that we cannot read.
    """
    config: StageConfig = recipe.stages[stage]
    while True:
        if isinstance(config, PretrainStage) and config.model.preset is not None:
            shape = get_preset(config.model.preset)
            tokenizer = recipe.stages.get(config.tokenizer)
            size = config.model.vocab_size
            if size is None and isinstance(tokenizer, TokenizerStage):
                size = tokenizer.vocab_size
            return shape.model_copy(update={"vocab_size": size}) if size else shape
        reference = config.model.path if isinstance(config, PretrainStage) else getattr(config, "model", None)
        if not isinstance(reference, str):
            return None
        if is_path(reference):
            return _shape_of_folder(recipe.path.parent / reference)
        config = recipe.stages[reference]


def _shape_of_folder(folder: Path) -> ModelShape | None:
    return read_shape(model_folder(folder)) if folder.is_dir() else PRESETS.get(folder.name.lower())


def planned_gpus(recipe: Recipe, world_size: int) -> int:
    """Processes that the plan is for: those that were asked for, or one for each GPU of the recipe's cluster."""
    return recipe.config.cluster.num_gpus if world_size == 1 and recipe.config.cluster is not None else world_size


def print_plan(recipe: Recipe, world_size: int, rerun_on_new_code: bool = False) -> None:
    """Prints what stands and what would be run, layout, batch arithmetic, steps, cost and memory, and what is missing.

    Args:
        world_size: processes of a model; with 1, a recipe that states a cluster is planned for all its GPUs.
    """
    console = Console(width=max(Console().width, NARROWEST))
    config, gpus = recipe.config, planned_gpus(recipe, world_size)
    gpu = (config.cluster or ClusterConfig()).accelerator()
    console.print(
        f"[bold]{config.name}[/]: {len(recipe.runs)} stage runs (seeds {', '.join(map(str, config.seeds))}) into "
        f"{config.output}, {gpus} process(es) a model, {config.workers} side by side",
        highlight=False,
    )
    if config.cluster is not None:
        console.print(f"for {machines(config.cluster, gpu)}", highlight=False)
    states = _states(recipe, rerun_on_new_code)
    stages = Table("stage", "kind", "state", "layout", "batch", "steps")
    prices = Table(
        "stage", "model", "trained", "read", "drawn", "FLOPs", "time", "memory a rank", title="cost of one run"
    )
    forecasts = []
    for name, stage in recipe.stages.items():
        label = f"{name} x {len(config.seeds)}" if stage.per_seed else name
        shape = model_shape(recipe, name) if isinstance(stage, ModelStage) else None
        forecast = forecast_stage(recipe, name, shape, gpus, gpu)
        forecasts.append(forecast)
        stages.add_row(label, stage.kind, states[name], *_settings(stage, gpus))
        if isinstance(stage, ModelStage) or forecast.work is not None:
            model = f"{shape.num_parameters() / 1e6:,.1f}M" if shape else "from its folder"
            prices.add_row(name, model, *_cost_cells(forecast, timed=config.cluster is not None))
    console.print(stages)
    console.print(prices)
    _print_sum(console, forecasts, timed=config.cluster is not None)
    for missing in input_problems(recipe):
        console.print(f"will be needed: {missing.partition('; ')[0]}", highlight=False, markup=False, soft_wrap=True)


def _states(recipe: Recipe, rerun_on_new_code: bool) -> dict[str, str]:
    """By stage: what stands of its runs and why it would be run; seeds that agree are told once."""
    told: dict[str, list[str]] = {}
    for run, found, waits_for in standings(Workspace(recipe, recipe.config.output, rerun_on_new_code)):
        if found.state == "done" and waits_for:
            text = f"if {', '.join(waits_for)} changes"
        elif found.state == "done":
            text = f"done ({found.reason})" if found.reason else "done"
        else:
            text = {"absent": "to do", "begun": "goes on", "again": "again", "changed": "again"}[found.state]
            text += f" ({found.reason})" if found.reason else ""
        told.setdefault(run.name, []).append(text)
    return {name: "; ".join(dict.fromkeys(texts)) for name, texts in told.items()}


def machines(cluster: ClusterConfig, gpu: Accelerator) -> str:
    """The machines of a plan in words."""
    return (
        f"{cluster.nodes} x {cluster.gpus_per_node} {gpu.name.upper()} ({gpu.memory_bytes / 2**30:g} GiB, "
        f"{gpu.peak / 1e12:g} TFLOP/s bf16, {gpu.memory_bandwidth / 1e12:g} TB/s)"
    )


def _print_sum(console: Console, forecasts: list[StageForecast], *, timed: bool) -> None:
    whole = sum((forecast.work or Work() for forecast in forecasts for _ in range(forecast.times)), Work())
    parts = [f"in all {_amount(_tokens(whole))} tokens, {_amount(whole.flops)} FLOPs"]
    seconds = sum(forecast.times * (forecast.seconds or 0.0) for forecast in forecasts)
    if timed and seconds:
        gpu_hours = sum(forecast.gpu_hours or 0.0 for forecast in forecasts)
        parts.append(f"{_duration(seconds)}, {gpu_hours:,.0f} GPU-hours")
    console.print(", ".join(parts), highlight=False)
    console.print(
        "tokens trained on, read without training, drawn one by one; empty: the settings do not tell (see `expect`). "
        "Memory: of the fullest rank, training or drawing, with allowances. Time without loading, checkpoints and "
        "scoring. `redone plan RECIPE` tells more.",
        style="dim",
    )


def _settings(stage: StageConfig, world_size: int) -> tuple[str, str, str]:
    """Layout, batch, steps."""
    if not isinstance(stage, ModelStage):
        return ("", "", "")
    p = stage.parallel
    dp = p.data_parallel_size(world_size)
    layout = f"tp{p.tp} pp{p.pp} dp{dp}" + (f" cp{p.cp}" if p.cp > 1 else "") + (f" ep{p.ep}" if p.ep > 1 else "")
    batch = steps = ""
    if isinstance(stage, PretrainStage | SFTStage):
        tokens = stage.global_batch_size * stage.sequence_length
        batch = f"{stage.global_batch_size} x {stage.sequence_length} = {tokens:,} tokens"
        steps = str(stage.steps) if stage.steps else f"{stage.epochs:g} epochs" if stage.epochs else "matched compute"
    elif isinstance(stage, DPOStage):
        batch = f"{stage.global_batch_size} pairs"
        steps = str(stage.steps) if stage.steps else f"{stage.epochs:g} epochs"
    elif isinstance(stage, DAPOStage):
        batch = (
            f"{stage.prompts_per_rollout} x {stage.responses_per_prompt} = "
            f"{stage.prompts_per_rollout * stage.responses_per_prompt:,} responses"
        )
        steps = f"{stage.num_rollouts} rollouts x {stage.updates_per_rollout}"
    return (f"{layout} {p.precision}", batch, steps)


def _cost_cells(forecast: StageForecast, *, timed: bool) -> tuple[str, ...]:
    """Tokens trained, read and drawn, operations, time, memory."""
    memory = ""
    if forecast.memory_bytes:
        memory = f"{forecast.memory_bytes / 2**30:.1f} GiB" + (" too much" if timed and forecast.problems else "")
    work = forecast.work
    if work is None or not _tokens(work):
        return ("", "", "", "", "", memory)
    parts = (work.trained_tokens, work.read_tokens, work.drawn_tokens, work.flops)
    time = _duration(forecast.seconds) if timed and forecast.seconds is not None else ""
    return (*(_amount(part) if part else "" for part in parts), time, memory)


def _tokens(work: Work) -> float:
    return work.trained_tokens + work.read_tokens + work.drawn_tokens


def _amount(value: float) -> str:
    """Three digits: 950, 12.3K, 4.56M, 7.89B, 1.2T; operations beyond as a power of ten."""
    if value >= 1e16:
        return f"{value:.2e}".replace("e+", "e")
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
