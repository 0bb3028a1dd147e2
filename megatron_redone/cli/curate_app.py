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


@curate_app.command("tokenizer")
def curate_tokenizer_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A SentencePiece tokenizer of a corpus.

    Byte-pair pieces with byte fallback: every text can be encoded. Of a large corpus a uniform sample of
    `max_sentences` lines is learnt from. `redone curate tokenizer corpus=notes/ vocab_size=8000 --out tokenizer`
    """
    _curate("tokenizer", settings, out, again)


@curate_app.command("tokenize")
def curate_tokenize_command(settings: StageSettings = None, out: StageOut = None, again: StageAgain = False) -> None:
    """A corpus of texts as token ids on disk (Megatron's indexed dataset), in shards.

    Reads a JSONL file or a folder of .jsonl and .jsonl.gz files, whole or in pieces, by `workers` processes; any
    Hugging Face tokenizer.json or SentencePiece model will do. `tokens.json` beside the shards tells documents,
    tokens and the hash of every file. `validation_share=0.001` keeps some documents apart by a hash of their id.
    `redone curate tokenize corpus=notes/ tokenizer=Qwen3-4B/ workers=8 --out tokens`
    """
    _curate("tokenize", settings, out, again)
