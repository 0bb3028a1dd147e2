"""What a recipe would do, without doing it. Imports no torch: a login node can run it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from megatron_redone.common.errors import InputError
from megatron_redone.models.config import ModelShape
from megatron_redone.models.families import read_shape
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.recipes.config import DAPOStage, DPOStage, PretrainStage, SFTStage
from megatron_redone.recipes.data_stages import TokenizerStage
from megatron_redone.recipes.graph import Recipe
from megatron_redone.recipes.stage_config import (
    ModelStage,
    StageConfig,
    TrainingStage,
    artefacts_of,
    is_path,
    model_folder,
)

WEIGHT_BYTES = {"fp32": 4, "bf16": 2}
OPTIMIZER_BYTES = {"fp32": 4 + 4 + 8, "bf16": 2 + 4 + 4 + 8}
"""Bytes a trained parameter takes: weight, fp32 gradient, (fp32 master copy,) two Adam moments."""


def input_problems(recipe: Recipe) -> list[str]:
    """Every path that a stage reads and that is not there, each once."""
    first_use: dict[str, str] = {}
    for name, stage in recipe.stages.items():
        for field, reference in artefacts_of(stage):
            if is_path(reference):
                first_use.setdefault(reference, f"stage {name}: {field}={reference!r}")
    return [
        f"{use}: {recipe.path.parent / reference} is not there; check the path, it is relative to the recipe file"
        for reference, use in first_use.items()
        if not (recipe.path.parent / reference).exists()
    ]


def layout_problems(recipe: Recipe, world_size: int, only: str | None = None) -> list[str]:
    """Every stage, or one alone, whose layout does not fit processes or model, or whose model we cannot read."""
    problems = []
    for name, stage in recipe.stages.items():
        if not isinstance(stage, ModelStage) or only not in (None, name):
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

    None where a folder that is not there yet decides.

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
    return read_shape(model_folder(folder)) if folder.is_dir() else None


def stage_bytes(shape: ModelShape, parallel: ParallelConfig, trained: bool = True) -> int:
    """Estimated bytes a rank needs: weights, and if it is trained gradients and optimizer (activations come on top)."""
    shard = shape.num_parameters() / parallel.model_parallel_size()
    if not trained:
        return round(shard * WEIGHT_BYTES[parallel.precision])
    return round(shard * OPTIMIZER_BYTES[parallel.precision])


def print_plan(recipe: Recipe, world_size: int) -> None:
    """Prints stages, layout, batch arithmetic, steps and memory."""
    console = Console()
    config = recipe.config
    console.print(
        f"[bold]{config.name}[/]: {len(recipe.runs)} stage runs (seeds {', '.join(map(str, config.seeds))}) into "
        f"{config.output}, {world_size} process(es) a model, {config.workers} side by side",
        highlight=False,
    )
    table = Table("stage", "kind", "layout", "batch", "steps", "model", "memory a rank")
    for name, stage in recipe.stages.items():
        label = f"{name} x {len(config.seeds)}" if stage.per_seed else name
        table.add_row(label, stage.kind, *_cells(recipe, name, stage, world_size))
    console.print(table)
    console.print(
        "memory: weights, and where it trains gradients and optimizer states; activations come on top", style="dim"
    )


def _cells(recipe: Recipe, name: str, stage: StageConfig, world_size: int) -> tuple[str, str, str, str, str]:
    if not isinstance(stage, ModelStage):
        return ("", "", "", "", "")
    p = stage.parallel
    dp = p.data_parallel_size(world_size)
    layout = f"tp{p.tp} pp{p.pp} dp{dp}" + (f" ep{p.ep}" if p.ep > 1 else "") + f" {p.precision}"
    shape = model_shape(recipe, name)
    model = f"{shape.num_parameters() / 1e6:,.1f}M" if shape else "from its folder"
    trained = isinstance(stage, TrainingStage)
    memory = f"{stage_bytes(shape, p, trained) / 2**30:.2f} GiB" if shape else ""
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
    return (layout, batch, steps, model, memory)
