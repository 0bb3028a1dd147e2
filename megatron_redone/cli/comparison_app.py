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


def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders: --out of `redone evaluate`, a stage of a run, or a folder of several of them."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for comparison.json and comparison.html.")] = Path("comparison"),
    missing: Annotated[
        str, typer.Option(help="Items that one run lacks: `refuse` the task, or `leave-out` the items.")
    ] = "refuse",
    false_discovery_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Expected share of false verdicts among those given.")
    ] = 0.05,
    sns: Annotated[
        list[str] | None,
        typer.Option(help="A benchmark of the domain, for the seesaw, beside sns-bench and sns-transbench."),
    ] = None,
    num_resamples: Annotated[int, typer.Option(min=100, help="Draws of bootstrap and randomisation.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of both.")] = 0,
) -> None:
    """Compare runs with the first one: what got better, what got worse, and what cannot be said.

    Paired on the same items, each task by its own metric, false discoveries controlled over all tasks. Evaluations with
    other prompts, data or settings are not compared, and it says why.
    `redone compare evals/base evals/sft evals/rl --out comparison`
    """
    from megatron_redone.cli.compare import compare
    from megatron_redone.common.errors import InputError
    from megatron_redone.evaluation.comparison.scored import CompareSettings

    if missing not in ("refuse", "leave-out"):
        raise InputError(f"--missing {missing}: unknown; give refuse or leave-out")
    settings = CompareSettings(
        missing="refuse" if missing == "refuse" else "leave-out",
        false_discovery_rate=false_discovery_rate,
        num_resamples=num_resamples,
        seed=seed,
        sns=tuple(sns or ()),
    )
    compare(runs, out, settings)
