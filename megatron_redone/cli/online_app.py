"""The commands of `redone online`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

online_app = typer.Typer(
    help="Evaluate what runs online: harmful-content detection, and search after a note.", no_args_is_help=True
)


@online_app.command("harmful")
def harmful_command(
    data: Annotated[
        Path, typer.Option(help="Labelled notes: JSONL, or the folder of COLD or Davidson (their held-out rows).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for online.json and online.html.")],
    tone_model: Annotated[Path | None, typer.Option(help="Scores by a folder of `redone curate tone-model`.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Scores by a language model: likelihood of the labels of note_security.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help='Scores by any system: lines of {"id", "score"}.')] = None,
    choose: Annotated[
        str, typer.Option(help="Threshold: `f1`, `precision=0.9` or `recall=0.9` (the other as large as can be).")
    ] = "f1",
    choice_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of the notes on which the threshold is chosen.")
    ] = 0.5,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first notes.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the division and of the intervals.")] = 0,
    max_refused_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of bad lines that ends it.")] = 0.01,
) -> None:
    """Precision, recall and exposure rate of harmful-content detection, at a threshold chosen on other notes.

    Scores stand in the data (`score`), or come of `--scores`, `--tone-model` or `--model`.
    `redone online harmful --data notes.jsonl --out harmful --choose precision=0.9`
    """
    from megatron_redone.cli.online import harmful

    harmful(data, out, tone_model, model, choose, choice_share, limit, seed, max_refused_share, scores)


@online_app.command("search")
def search_command(
    logs: Annotated[Path, typer.Option(help="Sessions of users: a JSONL file, or a folder with sessions*.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for online.json and online.html.")],
    rankings: Annotated[Path | None, typer.Option(help='New rankings: lines of {"query", "ranking": [notes]}.')] = None,
    queries: Annotated[
        Path | None, typer.Option(help='Queries that a model offers: lines of {"note", "query"}.')
    ] = None,
    held_out_share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Share of the sessions held out.")] = 0.2,
    prior_strength: Annotated[
        float, typer.Option(min=0.0, help="Impressions that the prior of an attraction counts as.")
    ] = 2.0,
    clip: Annotated[float, typer.Option(min=1.0, help="Largest importance weight.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of the division and of the intervals.")] = 0,
    max_refused_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of bad lines that ends it.")] = 0.01,
) -> None:
    """Click models of logged searches, and what other rankings and queries would be worth under them.

    The logs are those of `redone curate synthesize`; `redone curate interaction-logs` makes some for trials.
    `redone online search --logs logs/ --out search --rankings new.jsonl`
    """
    from megatron_redone.cli.online import search
    from megatron_redone.evaluation.online.search import SearchSettings

    settings = SearchSettings(held_out_share, prior_strength, clip, seed)
    search(logs, out, rankings, queries, settings, max_refused_share)


@online_app.command("titles")
def titles_command(
    rows: Annotated[Path, typer.Option(help="Rows of the task title_rewrite: JSONL with title and content.")],
    candidates: Annotated[Path, typer.Option(help="Output of `redone generate MODEL ROWS --samples 8` on them.")],
    out: Annotated[Path, typer.Option(help="Folder for titles.json, titles.jsonl and titles.html.")],
    judge: Annotated[
        list[str] | None,
        typer.Option(help="Setting of the server that judges engagement, several times: url=..., model=..., ..."),
    ] = None,
    weight: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of engagement in the reward.")] = 0.5,
    weights: Annotated[str, typer.Option(help="Further weights of the curve.")] = "0,0.25,0.5,0.75,0.9,1",
    seed: Annotated[int, typer.Option(help="Seed of the intervals.")] = 0,
    max_refused_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of bad lines that ends it.")] = 0.01,
) -> None:
    """Choose re-created titles by engagement and faithfulness, and show what engagement costs.

    The judge is any OpenAI-compatible server: `--judge url=http://127.0.0.1:8000/v1 --judge model=NAME`. Without one a
    stand-in looks for surface signs, and the page says so.
    """
    from megatron_redone.cli.online_titles import titles, weights_of

    titles(rows, candidates, out, judge or [], weight, weights_of(weights), seed, max_refused_share)
