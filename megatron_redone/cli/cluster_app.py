"""The commands of a Slurm cluster: `redone submit`, `status`, `logs`, `cancel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

cluster_app = typer.Typer()

RunFolder = Annotated[Path, typer.Argument(help="Folder of the run (key `output` of its recipe).")]


@cluster_app.command("submit")
def submit_command(
    recipe: Annotated[Path, typer.Argument(help="The recipe file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings to change, as for `redone run`.")] = None,
    cluster: Annotated[Path, typer.Option(help="Cluster profile, for example slurm/profiles/h100.yaml.")] = Path(),
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            help="Nodes of stages that run a model: `4`, or `explore=8` for one; `explore:servers=2` adds "
            "rollout servers. By default as many as one copy of the model needs."
        ),
    ] = None,
    array_tasks: Annotated[
        int, typer.Option(min=1, help="Parts of a stage of proxy runs, each a task of an array.")
    ] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the batch files; submit nothing.")] = False,
) -> None:
    """Run a recipe on a Slurm cluster: one job a stage, each behind those whose outputs it reads.

    Batch files, logs and what happened to every job stand in the folder `slurm` of the run. A job is told to checkpoint
    before its limit of time and goes on by itself; after the loss of a node it starts again on others. When a stage
    fails, what waits for it is cancelled. The same command later submits what is not done.
    """
    from megatron_redone.cli.submit import submit_recipe

    if cluster == Path():
        raise typer.BadParameter("name a cluster profile; slurm/profiles has some", param_hint="--cluster")
    submit_recipe(recipe, overrides or [], cluster, nodes or [], array_tasks, dry_run)


@cluster_app.command("status")
def status_command(
    run: RunFolder, in_json: Annotated[bool, typer.Option("--json", help="As JSON, with every event.")] = False
) -> None:
    """Say how a submitted run stands: state, attempts and last step of every job, the rank that is slow or stopped.

    The exit code is 1 when a job failed or was cancelled.
    """
    from megatron_redone.cli.cluster import status

    status(run, in_json)


@cluster_app.command("logs")
def logs_command(
    run: RunFolder,
    job: Annotated[str | None, typer.Option(help="Name of the job; by default the last one that has begun.")] = None,
    attempt: Annotated[int | None, typer.Option(min=0, help="By default the last one.")] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Only this rank.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as long as the job runs.")] = False,
) -> None:
    """Print the logs of all ranks of a job as one, in the order of time."""
    from megatron_redone.cli.cluster import logs

    logs(run, job, attempt, rank, follow)


@cluster_app.command("cancel")
def cancel_command(run: RunFolder) -> None:
    """End all jobs of a run, waiting and running ones."""
    from megatron_redone.cli.cluster import cancel

    cancel(run)
