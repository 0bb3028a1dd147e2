"""`redone plan`, as the table of commands knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plan_command(
    recipe: Annotated[
        Path | None, typer.Argument(help="Recipe whose stages with a model are planned; or give --model.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings of the recipe: `parallel.tp=2 expect.response_tokens=900`.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Shape by name: `qwen3-30b-a3b`; with a recipe, of folders not there yet.")
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", "--cluster-gpus", min=1, help="Ranks; by default 8, or those of the recipe's cluster."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="h100, h200, a100 or cpu; by default h100, or that of the recipe's cluster.")
    ] = None,
    seq: Annotated[int, typer.Option(min=8, help="Tokens of a packed row.")] = 4096,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows of an optimizer step; by default 4 a rank.")] = None,
    document_length: Annotated[int | None, typer.Option(min=1, help="Mean tokens of a document.")] = None,
    labelled: Annotated[float, typer.Option(min=0, max=1, help="Share of tokens with a loss.")] = 1.0,
    imbalance: Annotated[
        float, typer.Option(min=1, help="Tokens of the fullest rank of experts over the mean; 1: balanced.")
    ] = 1.7,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, for time and cost.")] = None,
    layout: Annotated[
        list[str] | None, typer.Option(help="`tp=2,pp=4,...`: plan this instead of searching; may be repeated.")
    ] = None,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    memory_gib: Annotated[float | None, typer.Option(min=0, help="Memory of a rank instead of the profile's.")] = None,
    peak_tflops: Annotated[float | None, typer.Option(min=0, help="Peak of a rank instead of the profile's.")] = None,
    dollars: Annotated[float | None, typer.Option(min=0, help="Price of a rank for an hour.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Layouts shown.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Markdown page (.md) or JSON file.")] = None,
) -> None:
    """Memory, speed, time and cost of training on a cluster, before anything is submitted. Needs no torch and no GPU.

    With `--model` it searches tensor, pipeline, context and expert parallelism and recomputation, tells what fits,
    ranks it by time and says why. With a recipe it plans every stage that has a model as its settings say: memory,
    both while answers are drawn and while the trainer trains, hours, GPU-hours and cost, and faster layouts.
    **Memory** is checked against traces of the real code; **time** against published records
    (docs/measurements/planner.md says how far it is off).

    Examples:

    `redone plan --model qwen3-30b-a3b --gpus 64 --gpu h200 --seq 16384`

    `redone plan --model qwen3-8b --gpus 8 --layout tp=2,sequence_parallel=true,distributed_optimizer=true`

    `redone plan examples/redone2/8b.yaml --out PLAN.md`

    `redone plan examples/redone2/8b.yaml parallel.tp=2 expect.response_tokens=900 --cluster-gpus 32`

    Exit code 1: something does not fit. Exit code 2: it cannot be planned.
    """
    from megatron_redone.cli.plan import PlanRequest, plan

    given = (recipe, tuple(overrides or ()), model, gpus, gpu, seq, batch, document_length, labelled, imbalance, steps)
    plan(PlanRequest(*given, tuple(layout or ()), precision, memory_gib, peak_tflops, dollars, top, out))
