"""The table of commands. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megatron_redone.cli.ablate_app import ablate_command
from megatron_redone.cli.benchmark_app import benchmark_app
from megatron_redone.cli.cluster_app import cluster_app
from megatron_redone.cli.comparison_app import compare_command, contamination_command
from megatron_redone.cli.convert_app import convert_app
from megatron_redone.cli.curate_app import curate_app
from megatron_redone.cli.doctor import doctor_command
from megatron_redone.cli.evaluate_app import evaluate_command
from megatron_redone.cli.generation_app import generation_app
from megatron_redone.cli.nemo_app import nemo_app
from megatron_redone.cli.online_app import online_app
from megatron_redone.cli.plan_app import plan_command
from megatron_redone.cli.sandbox_app import sandbox_app
from megatron_redone.cli.score_app import score_command
from megatron_redone.cli.stage_app import dpo_command, rl_command
from megatron_redone.cli.tasks_app import tasks_app
from megatron_redone.cli.verify_plan_app import verify_plan_command

app = typer.Typer(
    name="redone",
    help="Turns a general language model into a domain expert: RedOne and RedOne 2.0 on Megatron-core.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.command("run")
def run_command(
    recipe: Annotated[Path, typer.Argument(help="The recipe file, for example examples/quickstart/recipe.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to change: `explore.optimizer.lr=3e-6`, `parallel.tp=2`, `seeds=[1]`."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the recipe and print what stands, layout, cost and memory; run nothing."),
    ] = False,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this host for one model.")] = 1,
    from_stage: Annotated[
        str | None, typer.Option("--from", help="Run this stage, and all that depend on it, again.")
    ] = None,
    only_stage: Annotated[
        str | None, typer.Option("--only", help="Run only this stage (or STAGE.seed1); what it reads must be done.")
    ] = None,
    rerun_on_new_code: Annotated[
        bool, typer.Option("--rerun-on-new-code", help="Run stages again that other code made.")
    ] = False,
    exit_after_minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Checkpoint and end with code 75 after so long, before a batch system ends it."),
    ] = None,
) -> None:
    """Run a whole recipe, stage by stage, from data to report.

    Stages that are done are not run again; an interrupted stage goes on from its last checkpoint. SIGTERM and SIGUSR1
    checkpoint after the current step and end with code 75, Ctrl-C with 130. The output
    folder (key `output` of the recipe) holds one folder a stage, each with a manifest, and report.html.
    """
    from megatron_redone.cli.run import run_recipe

    run_recipe(recipe, overrides or [], dry_run, nproc, from_stage, only_stage, exit_after_minutes, rerun_on_new_code)


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; by default RUN/report.html.")] = None,
) -> None:
    """Write the HTML report of a run, finished or not."""
    from megatron_redone.common.logging import CONSOLE
    from megatron_redone.reporting.html import write_report

    CONSOLE.print(f"report: {write_report(run, out or run / 'report.html')}", highlight=False)


@app.command("lineage")
def lineage_command(
    wanted: Annotated[str, typer.Argument(metavar="ID|PATH|STAGE", help="Id of a row or document, a path, a stage.")],
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folders of runs or artefacts; may be given more than once.")
    ] = None,
    in_json: Annotated[bool, typer.Option("--json", help="As JSON, with every line found.")] = False,
) -> None:
    """Tell where a row, document, file or model came from, and which stages trained on it.

    Read from the manifests and lists of samples of all artefacts below `--runs` (by default `runs`). An id that nobody
    knows ends with code 2 and the nearest ids.
    """
    from megatron_redone.cli.lineage import lineage

    lineage(wanted, runs or [Path("runs")], in_json)


@app.command("verify-layout")
def verify_layout_command(
    family: Annotated[str, typer.Option(help="llama, qwen2_5, qwen3 or qwen3_moe.")] = "qwen3",
    layout: Annotated[
        list[str] | None,
        typer.Option(help="`tp=2,pp=2,dp=2` and any other key of `parallel`; may be given more than once."),
    ] = None,
    objective: Annotated[str, typer.Option(help="next_token, dpo, dpo_all, dapo or dapo_all.")] = "next_token",
    dtype: Annotated[str, typer.Option(help="fp32 or fp64.")] = "fp32",
    microbatches: Annotated[int, typer.Option(min=1, help="Micro-batches of the batch, over all replicas.")] = 2,
    case: Annotated[
        list[str] | None,
        typer.Option(help="A whole case instead: `qwen3_moe tp=2,ep=2 objective=dapo labels=one aux_loss=0.1`."),
    ] = None,
    chosen: Annotated[bool, typer.Option("--chosen", help="The set of the project's own tests.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
    plant: Annotated[
        str | None, typer.Option(help="Break something on purpose; `--plant list` tells what can be broken.")
    ] = None,
) -> None:
    """Prove that a layout does not change the maths.

    Trains a tiny model of the family for four steps on the layout and in one process, from the same weights and
    documents, and compares losses, every gradient and the weights. The exit code is 1 when something differs by more
    than rounding; the first tensor that does is named.
    """
    from megatron_redone.cli.verify import verify_layouts
    from megatron_redone.verification.cases import chosen_cases

    options = f"objective={objective} microbatches={microbatches}"
    lines = [f"{family} {text},precision={dtype} {options}" for text in layout or []] + list(case or [])
    if chosen:
        lines += [known.line for known in chosen_cases()]
    verify_layouts(lines or [f"{family} tp=2,precision={dtype} {options}"], out, plant)


@app.command("verify-layout-rank", hidden=True)
def verify_layout_rank_command(folder: Path, plant: Annotated[str | None, typer.Argument()] = None) -> None:
    """One rank of verify-layout."""
    from megatron_redone.cli.verify import verify_layouts_rank

    verify_layouts_rank(folder, plant)


@app.command("verify-resume")
def verify_resume_command(
    family: Annotated[str, typer.Option(help="llama, qwen2_5, qwen3 or qwen3_moe.")] = "qwen3",
    save_layout: Annotated[str, typer.Option(help="Layout that writes the checkpoint: `tp=2,pp=2,dp=2`, ...")] = "tp=2",
    load_layout: Annotated[str | None, typer.Option(help="Layout that goes on from it; by default the same.")] = None,
    objective: Annotated[str, typer.Option(help="next_token, dpo, dpo_all, dapo or dapo_all.")] = "next_token",
    chosen: Annotated[bool, typer.Option("--chosen", help="The set of the project's own tests.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the certificates.")] = None,
    plant: Annotated[
        str | None, typer.Option(help="Break something on purpose; `--plant list` tells what can be broken.")
    ] = None,
) -> None:
    """Certify that training goes on from a checkpoint as if nothing had happened.

    On the same layout the next 20 losses must agree in every bit. On another one the weights, the moments of Adam and
    the number of steps must agree exactly after loading, and the losses to rounding. The exit code is 1 when they do
    not; the first tensor or step that differs is named.
    """
    from megatron_redone.cli.verify import verify_resumes
    from megatron_redone.verification.cases import chosen_resumes

    if chosen:
        verify_resumes([case.line for case in chosen_resumes()], out, plant)
    else:
        verify_resumes([f"{family} {save_layout} {load_layout or save_layout} objective={objective}"], out, plant)


@app.command("verify-resume-rank", hidden=True)
def verify_resume_rank_command(folder: Path, side: str, plant: Annotated[str | None, typer.Argument()] = None) -> None:
    """One rank of one side of verify-resume."""
    from megatron_redone.cli.verify import verify_resumes_rank

    verify_resumes_rank(folder, "save" if side == "save" else "load", plant)


app.command("ablate")(ablate_command)
app.command("compare")(compare_command)
app.command("contamination")(contamination_command)
app.command("doctor")(doctor_command)
app.command("evaluate")(evaluate_command)
app.command("plan")(plan_command)
app.command("verify-plan")(verify_plan_command)
app.command("dpo")(dpo_command)
app.command("rl")(rl_command)
app.add_typer(curate_app, name="curate")
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(convert_app, name="convert")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(online_app, name="online")
app.add_typer(tasks_app, name="tasks")
app.add_typer(nemo_app, name="nemo")
app.command("score")(score_command)
app.add_typer(generation_app)
app.add_typer(cluster_app)
