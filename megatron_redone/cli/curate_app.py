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


@curate_app.command("judge-agreement")
def curate_judge_agreement_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """How well a judge agrees with people, before it may label preference pairs.

    The judge labels pairs that people labelled, in both orders. agreement.json says accuracy and Cohen's kappa with
    bootstrap intervals, what the order of the answers does to it, and whether it passes the gate.
    """
    _curate("judge_agreement", settings, out, again)


@curate_app.command("pairs")
def curate_pairs_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Preference pairs for DPO: right over wrong options, truth over the model's errors, a judge's labels.

    Sources are sections of the settings: `option_order`, `model_errors`, `candidates` with `judge` and `agreement`,
    and `files` of pairs made elsewhere. train.jsonl and validation.jsonl are as NeMo-Aligner reads them, and say of
    every pair where it is from; report.json counts what was kept and dropped, and how long the answers are.
    """
    _curate("pairs", settings, out, again)
