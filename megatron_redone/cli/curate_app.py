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


@curate_app.command("synthesize")
def curate_synthesize_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """Interaction logs as pretraining documents: single searches, consecutive searches, click-through estimates.

    `redone curate synthesize logs=LOGS notes=NOTES --out DOCUMENTS`. LOGS holds one session a line, NOTES one note a
    line (docs/synthesis.md tells the schema; a line that breaks it is refused with file and line).
    """
    _curate("interactions", settings, out, again)


@curate_app.command("interaction-logs")
def curate_interaction_logs_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """A generated log of users who search, click and read, for trials of `redone curate synthesize`."""
    _curate("interaction_logs", settings, out, again)


@curate_app.command("general-text")
def curate_general_text_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """General texts cut at sentence borders and put together to a length: `texts=FOLDER max_tokens=2048`."""
    _curate("general_text", settings, out, again)


@curate_app.command("quickstart-data")
def curate_quickstart_data_command(
    settings: StageSettings = None, out: StageOut = None, again: StageAgain = False
) -> None:
    """The quickstart's generated data: a corpus, and rows of its tasks in four splits."""
    _curate("synthesize", settings, out, again)
