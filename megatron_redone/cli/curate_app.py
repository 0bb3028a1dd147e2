"""The commands of `redone curate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

curate_app = typer.Typer(
    help="""Make data: raw notes and logs to corpora, tokens, training sets, preference pairs.

    Every command runs one stage, which a recipe can hold as well: `redone curate COMMAND settings.yaml key=value --out
    FOLDER`. Without `--out` it prints its settings with their defaults and meaning. The folder holds the result and
    a manifest; it appears when it is whole, and an interrupted command goes on where it was.""",
    no_args_is_help=True,
)

StageSettings = Annotated[
    list[str] | None,
    typer.Argument(help="A YAML file of settings, and settings as `key=value`; `seed=1` seeds everything random."),
]
StageOut = Annotated[Path | None, typer.Option(help="New folder for the result; without it the settings are printed.")]
StageAgain = Annotated[bool, typer.Option("--again", help="Make it anew even if it stands.")]


def _curate(kind: str, settings: list[str] | None, out: Path | None, again: bool) -> None:
    from megatron_redone.cli.curate import curate

    given = list(settings or [])
    file = Path(given.pop(0)) if given and "=" not in given[0] else None
    curate(kind, file, given, out, again)


@curate_app.command("tokenize")
def curate_tokenize_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A corpus of texts as token ids on disk (Megatron's indexed dataset)."""
    _curate("tokenize", settings, out, again)


@curate_app.command("regmix-mixtures")
def curate_regmix_mixtures_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """Mixtures of domains for proxy runs to try, drawn around the natural one (RegMix, step 1).

    `redone curate regmix-mixtures prior='{web: 900000, weibo: 120000}' num_mixtures=64 --out mixtures`
    """
    _curate("regmix_mixtures", settings, out, again)


@curate_app.command("regmix-proxies")
def curate_regmix_proxies_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """A small training run for each mixture, and its loss on every validation corpus (RegMix, step 2).

    Every finished run is one small file, so that a killed command goes on where it was. `workers=8` trains eight side
    by side; `redone curate regmix-array` spreads the runs over a Slurm cluster.
    """
    _curate("regmix_proxies", settings, out, again)


@curate_app.command("regmix-fit")
def curate_regmix_fit_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """The mixture that a regression over finished runs predicts to be the best for a target (RegMix, step 3).

    Works on any tables: `redone curate regmix-fit mixtures=m.csv losses=l.csv target=weibo --out fit`. The folder holds
    `blend.yaml` for continued pretraining, and `regmix.html` with predicted against measured losses.
    """
    _curate("regmix_fit", settings, out, again)


@curate_app.command("regmix-array")
def curate_regmix_array_command(
    settings: Annotated[Path, typer.Argument(help="The YAML file of `regmix-proxies`.")],
    out: Annotated[Path, typer.Option(help="Folder for batch file, logs and parts; all nodes must see it.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as `key=value`, for all tasks.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Array tasks; each trains its part of the runs.")] = 8,
    time: Annotated[str, typer.Option(help="Time limit of a task.")] = "04:00:00",
    cpus: Annotated[int, typer.Option(min=1, help="Cores of a task.")] = 4,
    sbatch: Annotated[
        list[str] | None, typer.Option(help="A further option of sbatch: `--sbatch=--partition=gpu`, `--gres=gpu:1`.")
    ] = None,
) -> None:
    """Write a Slurm batch file that trains the proxy runs as an array, and the command that gathers them."""
    from megatron_redone.cli.regmix_array import write_batch_file

    write_batch_file(settings, overrides or [], out, tasks, time, cpus, sbatch or [])
