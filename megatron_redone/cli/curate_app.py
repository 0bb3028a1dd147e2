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


@curate_app.command("sft")
def curate_sft_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Conversations to fine-tune on: SNS and general rows, mixed by capability, task and share.

    Reads task rows and conversations in the formats of OpenAI (`messages`), Alpaca and ShareGPT, for example
    `redone curate sft sns=[rows.jsonl] general=[alpaca.json] num_rows=10000 general_share=0.2 --out set`. With
    `tokenizer=FOLDER` lengths and packing are measured. `set.json` beside the set tells shares asked and reached.
    """
    _curate("sft_set", settings, out, again)


@curate_app.command("stats")
def curate_stats_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """What a data set holds: lengths on a log axis, tasks, languages, turns, two-level categories; with a page.

    Reads conversations (OpenAI, Alpaca, ShareGPT), task rows and documents, for example
    `redone curate stats data=[set] tokenizer=FOLDER --out stats`, and writes stats.json and stats.html. Categories come
    from keywords, or from a model: `labeller=model model=FOLDER`.
    """
    _curate("stats", settings, out, again)
