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


@curate_app.command("filter")
def curate_filter_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Raw documents to kept ones: rules, exact and near duplicates, benchmarks, a small language model, tone.

    `redone curate filter documents='["notes/", "web.jsonl.gz"]' --out kept` runs the rules and both searches for
    duplicates. The folder holds the corpus, `filter.html` with what was dropped and why, and samples for review."""
    _curate("filter", settings, out, again)


@curate_app.command("tone-model")
def curate_tone_model_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A classifier of offensive texts from public labels, for `tone.model` of `redone curate filter`.

    `redone curate tone-model davidson=data/davidson cold=data/cold --out tone` trains it and tells its held-out AUC."""
    _curate("tone_model", settings, out, again)
