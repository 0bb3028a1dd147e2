"""Options of `redone ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ablate_command(
    ablation: Annotated[Path, typer.Argument(help="The ablation file, for example examples/redone2/ablation.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to change: `seeds=[1]`, `output=runs/other`, `settings.workers=2`."),
    ] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Run this arm only; several times for several.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print arms, shared stages and the plan; run nothing.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Make table and page anew of what stands; run nothing.")
    ] = False,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this host for one model.")] = 1,
    exit_after_minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Checkpoint and end with code 75 after so long; the same command goes on."),
    ] = None,
) -> None:
    """Run an ablation: arms of one recipe, shared stages once, and one table with intervals over rows and seeds.

    Stages that are done are not run again; an interrupted one goes on from its last checkpoint. The folder `output`
    gets a folder a stage, ablation.json, ablation.md, ablation.html, and the report of the whole run.
    """
    from megatron_redone.cli.ablate import ablate

    ablate(ablation, overrides or [], arm or [], dry_run, report_only, nproc, exit_after_minutes)
