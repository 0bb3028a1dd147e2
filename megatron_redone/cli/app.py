"""The table of commands. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

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
        typer.Option("--dry-run", help="Check the recipe and print layout, batches, steps and memory; run nothing."),
    ] = False,
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this host for one model.")] = 1,
    from_stage: Annotated[
        str | None, typer.Option("--from", help="Run this stage, and all that depend on it, again.")
    ] = None,
    only_stage: Annotated[str | None, typer.Option("--only", help="Run only this stage.")] = None,
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

    run_recipe(recipe, overrides or [], dry_run, nproc, from_stage, only_stage, exit_after_minutes)


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; by default RUN/report.html.")] = None,
) -> None:
    """Write the HTML report of a run, finished or not."""
    from megatron_redone.common.logging import CONSOLE
    from megatron_redone.reporting.html import write_report

    CONSOLE.print(f"report: {write_report(run, out or run / 'report.html')}", highlight=False)


@app.command("verify-layout")
def verify_layout_command(
    family: Annotated[str, typer.Option(help="llama, qwen2_5, qwen3 or qwen3_moe.")] = "qwen3",
    layout: Annotated[
        list[str] | None,
        typer.Option(help="`tp=2,pp=2,dp=2` and any other key of `parallel`; may be given more than once."),
    ] = None,
    objective: Annotated[str, typer.Option(help="next_token, dpo or dapo.")] = "next_token",
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
    objective: Annotated[str, typer.Option(help="next_token, dpo or dapo.")] = "next_token",
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


benchmark_app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)
app.add_typer(benchmark_app, name="benchmark")


@benchmark_app.command("train")
def benchmark_train_command(
    preset: Annotated[str | None, typer.Option(help="Shape by name, with random weights: `qwen3-30m`.")] = None,
    model: Annotated[Path | None, typer.Option(help="Hugging Face model folder instead.")] = None,
    conversations: Annotated[
        Path | None,
        typer.Option(help="JSONL of `messages`, packed as SFT packs them; by default random tokens, all labels."),
    ] = None,
    document_length: Annotated[
        int | None, typer.Option(help="Tokens of a random document; by default as long as a row.")
    ] = None,
    sequence_length: Annotated[int, typer.Option(help="Tokens of a packed row, which is one micro-batch.")] = 1024,
    rows: Annotated[int, typer.Option(help="Packed rows of a step, over all replicas.")] = 1,
    steps: Annotated[int, typer.Option(help="Steps that are measured.")] = 10,
    warmup: Annotated[int, typer.Option(help="Steps before them.")] = 2,
    profiled: Annotated[int, typer.Option(help="Steps after them that tell where the time goes.")] = 2,
    precision: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    layout: Annotated[str, typer.Option(help="`tp=2,pp=2` and any other key of `parallel`.")] = "",
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this host.")] = 1,
    peer: Annotated[
        bool, typer.Option("--peer", help="Beside each step, forward and backward of plain transformers.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Tokens/s, model FLOP/s against the matrix products this machine reaches, memory by rank, time by part.

    Trains for some steps on rows as training stages pack them and tells medians. Useful tokens are those that are
    no padding. Operations are those the maths needs (`models/flops.py`).
    """
    from megatron_redone.cli.benchmark import benchmark_training

    settings = {
        "preset": preset if preset or model else "qwen3-30m",
        "model": model and str(model),
        "conversations": conversations and str(conversations),
        "document_length": document_length,
        "sequence_length": sequence_length,
        "rows": rows,
        "steps": steps,
        "warmup": warmup,
        "profiled": profiled,
        "peer": peer,
        "parallel": {"precision": precision},
    }
    benchmark_training(settings, layout, nproc, out)


@benchmark_app.command("convert")
def benchmark_convert_command(
    folder: Annotated[Path, typer.Option(help="New folder with room for three times the model; kept.")],
    preset: Annotated[str, typer.Option(help="Shape by name.")] = "qwen3-30b-a3b",
    layers: Annotated[int, typer.Option(min=1, help="So many layers of it; one of Qwen3-30B-A3B has 1.2 GB.")] = 4,
    shard_gib: Annotated[float, typer.Option(help="Largest shard of the model folder, in GiB.")] = 2.0,
    processes: Annotated[int, typer.Option(min=1, help="Processes of a conversion.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Copies and conversions, in turn.")] = 3,
    out: Annotated[Path | None, typer.Option(help="JSON file for everything that was measured.")] = None,
) -> None:
    """Time and memory of both conversions, against a copy of the same bytes in the same round.

    Makes a bf16 model folder of random bits first. The page cache is dropped before each program where the system
    allows it (as root).
    """
    from megatron_redone.cli.benchmark import benchmark_conversion

    benchmark_conversion(preset, layers, folder, shard_gib, processes, rounds, out)


tasks_app = typer.Typer(help="The task catalogue.", no_args_is_help=True)
app.add_typer(tasks_app, name="tasks")


@tasks_app.command("list")
def tasks_list() -> None:
    """Every task with its capability, answer format and reward."""
    from megatron_redone.cli.tasks import list_tasks

    list_tasks()


@tasks_app.command("show")
def tasks_show(name: Annotated[str, typer.Argument(help="A task, for example note_security.")]) -> None:
    """One task: fields, templates, reward."""
    from megatron_redone.cli.tasks import show_task

    show_task(name)


convert_app = typer.Typer(help="Checkpoints between Hugging Face and Megatron.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")


ConvertDtype = Annotated[str, typer.Option(help="Data type of all weights: keep (each its own), bf16 or fp32.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")]


@convert_app.command("to-megatron")
def to_megatron_command(
    hf: Annotated[str, typer.Option(help="Hugging Face model folder, or `org/name` on the hub.")],
    out: Annotated[Path, typer.Option(help="New folder for the Megatron checkpoint.")],
    tp: Annotated[int, typer.Option(min=1, help="Tensor-parallel size the files are cut for.")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="Pipeline-parallel size.")] = 1,
    vpp: Annotated[int, typer.Option(min=1, help="Chunks of a pipeline stage.")] = 1,
    ep: Annotated[int, typer.Option(min=1, help="Expert-parallel size.")] = 1,
    etp: Annotated[int | None, typer.Option(min=1, help="Tensor-parallel size of an expert; default tp / ep.")] = None,
    dtype: ConvertDtype = "keep",
    layers: Annotated[
        str | None, typer.Option(help="Keep only these layers, `0:4`: a smaller model for trials.")
    ] = None,
    processes: Processes = None,
) -> None:
    """Write a Hugging Face model as a Megatron torch_dist checkpoint, which any layout can load.

    The sizes say how the files are cut, so that the named layout reads its own parts only. A killed conversion goes on
    where it was when it is started again. Memory is that of the largest tensor, whatever the model.
    """
    from megatron_redone.cli.convert import to_megatron

    to_megatron(hf, out, {"tp": tp, "pp": pp, "vpp": vpp, "ep": ep, "etp": etp}, _dtype(dtype), layers, processes)


@convert_app.command("to-hf")
def to_hf_command(
    megatron: Annotated[Path, typer.Option(help="Megatron checkpoint folder, as to-megatron writes it.")],
    out: Annotated[Path, typer.Option(help="New Hugging Face model folder.")],
    shard_size: Annotated[str, typer.Option(help="Largest shard: 5GB, 500MB, 2GiB.")] = "5GB",
    dtype: ConvertDtype = "keep",
    processes: Processes = None,
) -> None:
    """Write a Megatron checkpoint as a Hugging Face model."""
    from megatron_redone.cli.convert import to_hf

    to_hf(megatron, out, shard_size, _dtype(dtype), processes)


@convert_app.command("verify")
def verify_conversion_command(
    hf: Annotated[str, typer.Option(help="The Hugging Face model folder, or `org/name` on the hub.")],
    megatron: Annotated[Path, typer.Option(help="The checkpoint folder made of it.")],
    out: Annotated[Path | None, typer.Option(help="JSON file for the certificate.")] = None,
    no_logits: Annotated[bool, typer.Option("--no-logits", help="Compare bytes only, in little memory.")] = False,
    processes: Processes = None,
) -> None:
    """Certify a conversion: every tensor accounted for, every byte the same, the same logits.

    The certificate lists every tensor with its hash and where it went. The exit code is 1 when something differs.
    """
    from megatron_redone.cli.convert import verify

    verify(hf, megatron, out, not no_logits, processes)


@convert_app.command("inspect")
def inspect_command(folder: Annotated[Path, typer.Argument(help="A model or checkpoint folder.")]) -> None:
    """Say what a folder of weights is: kind, family, size, layout, step, fingerprint."""
    from megatron_redone.cli.convert import inspect

    inspect(folder)


def _dtype(name: str) -> Literal["keep", "bf16", "fp32"]:
    known: dict[str, Literal["keep", "bf16", "fp32"]] = {"keep": "keep", "bf16": "bf16", "fp32": "fp32"}
    if name not in known:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--dtype")
    return known[name]
