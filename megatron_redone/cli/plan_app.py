"""`redone plan`, as the table of commands knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan_command(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe whose training stages are planned; or give --model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Shape by name: `qwen3-30b-a3b`.")] = None,
    gpus: Annotated[int, typer.Option("--gpus", "--cluster-gpus", min=1, help="Ranks.")] = 8,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100 or cpu.")] = "h100",
    seq: Annotated[int, typer.Option(min=8, help="Tokens of a packed row.")] = 4096,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows of an optimizer step; by default 4 a rank.")] = None,
    document_length: Annotated[int | None, typer.Option(min=1, help="Mean tokens of a document.")] = None,
    labelled: Annotated[float, typer.Option(min=0, max=1, help="Share of tokens with a loss.")] = 1.0,
    imbalance: Annotated[
        float,
        typer.Option(min=1, help="Tokens of the fullest rank of experts over the mean."),
    ] = 1.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, for time and cost.")] = None,
    layout: Annotated[
        list[str] | None, typer.Option(help="`tp=2,pp=4,...`: plan this instead of searching; may be repeated.")
    ] = None,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    memory_gib: Annotated[float | None, typer.Option(min=0, help="Memory of a rank instead of the profile's.")] = None,
    peak_tflops: Annotated[float | None, typer.Option(min=0, help="Peak of a rank instead of the profile's.")] = None,
    dollars: Annotated[float | None, typer.Option(min=0, help="Price of a rank for an hour.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Layouts shown.")] = 5,
    rows: Annotated[int | None, typer.Option(min=1, help="Packed rows of a recipe's stages that count epochs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown page (.md) or JSON file.")] = None,
) -> None:
    """Memory, speed, time and cost of training on a cluster, before anything is submitted. Needs no torch and no GPU.

    Searches tensor, pipeline, context and expert parallelism and recomputation, tells what fits, ranks it by time
    and says why. **Memory** is checked against traces of the real code; **time** is an estimate whose error on
    published records is large for experts (docs/measurements/planner.md says how large).

    Examples:

    `redone plan --model qwen3-30b-a3b --gpus 64 --gpu h200 --seq 16384`

    `redone plan --model qwen3-8b --gpus 8 --layout tp=2,sequence_parallel=true,distributed_optimizer=true`

    `redone plan recipe.yaml --cluster-gpus 64 --gpu h200 --out PLAN.md`

    Exit code 1: no layout fits.
    """
    from megatron_redone.cli.plan import PlanRequest, plan

    plan(
        PlanRequest(
            recipe, model, gpus, gpu, seq, batch, document_length, labelled, imbalance, steps, tuple(layout or ()),
            precision, memory_gib, peak_tflops, dollars, top, rows, out,
        )
    )  # fmt: skip
