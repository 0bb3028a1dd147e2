"""Options of `redone contamination` and `redone compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def contamination_command(
    training: Annotated[
        list[Path], typer.Option(help="Training file or folder: JSON, JSONL, text, token shards; several times.")
    ],
    benchmark: Annotated[list[str], typer.Option(help="NAME=PATH, a file or folder of JSON rows; several times.")],
    out: Annotated[Path, typer.Option(help="Folder for contamination.json, items.jsonl and contamination.html.")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings as `key=value`, for example `ngram_words=10`.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer of token shards: its folder.")] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="End with code 1 where more than this share of a benchmark's items is."),
    ] = None,
) -> None:
    """Find benchmark items in training files, by shared n-grams.

    Any JSON form will do: documents, conversations, task rows, preference pairs. White space, case and punctuation make
    no difference. `redone contamination --training sft/ --benchmark gsm8k=gsm8k/test.jsonl --out check --fail-above 0`
    """
    from megatron_redone.cli.contamination import contamination

    raise typer.Exit(contamination(training, benchmark, settings or [], out, tokenizer, fail_above))
