"""`redone verify-plan`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def verify_plan_command(
    preset: Annotated[list[str] | None, typer.Option(help="Only these shapes; may be repeated.")] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(help="`qwen3-8b tp=2,pp=2 16 8192 1`: shape, layout, ranks, tokens of a row, pipeline stage."),
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Instead: times against published records, each expected from the others.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keeps one file a case; a case that is there is not traced again.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown table (.md) or JSON file of the errors.")] = None,
) -> None:
    """Compare the planner's memory with a trace of the real code under fake tensors; exit code 1 above 5%.

    With `--speed` it tells the error of the planner's times instead.

    Needs no GPU and little memory: the model, its gradient buffers and its optimizer have shapes but no data, and the
    other ranks do not exist.
    """
    if speed:
        from megatron_redone.planning.records_page import speed_markdown, steps_markdown

        typer.echo(speed_markdown() + "\n" + steps_markdown(), nl=False)
        return
    from rich.table import Table

    from megatron_redone.common.errors import InputError
    from megatron_redone.common.files import atomic_write_json, atomic_write_text
    from megatron_redone.common.logging import CONSOLE
    from megatron_redone.verification.plan_error import LIMIT, PlanCase, as_markdown, cases, measure_errors

    chosen = [one for one in cases() if not preset or one.preset in preset]
    if case:
        chosen = []
        for line in case:
            words = line.split()
            if len(words) not in (4, 5) or not all(word.isdigit() for word in words[2:]):
                raise InputError(f"--case {line!r}: give shape, layout, ranks and tokens of a row, and perhaps a stage")
            chosen.append(PlanCase(words[0], words[1], *map(int, words[2:])))
    found = []
    table = Table("shape", "layout", "ranks", "tokens", "stage", "static", "traced", "peak", "traced", "error")
    for one in measure_errors(chosen, folder):
        found.append(one)
        sizes = (one.expected_static, one.traced_static, one.expected, one.traced)
        cells = (*(f"{size / 2**30:.2f} GiB" for size in sizes), f"{one.error:+.1%}")
        c = one.case
        table.add_row(c.preset, c.layout, str(c.world_size), str(c.sequence_length), str(c.pipeline_rank), *cells)
        CONSOLE.print(f"{c.preset} {c.layout} {c.world_size}: {one.error:+.1%}", highlight=False)
    CONSOLE.print(table)
    if out is not None:
        if out.suffix == ".md":
            atomic_write_text(out, as_markdown(found))
        else:
            atomic_write_json(out, [{**asdict(one), "error": one.error} for one in found])
        CONSOLE.print(f"written: {out}", highlight=False)
    if any(abs(one.error) > LIMIT for one in found):
        raise typer.Exit(1)
