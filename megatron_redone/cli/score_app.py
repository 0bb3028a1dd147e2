"""`redone score`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score_command(
    rows: Annotated[Path, typer.Argument(help="JSONL of task rows, as `redone tasks render` takes them.")],
    answers: Annotated[Path, typer.Argument(help='JSONL of `{"id": ..., "output": ...}`, one line a row.')],
    out: Annotated[Path, typer.Option(help="Folder for scores.jsonl (one line an answer) and results.json.")],
    num_workers: Annotated[int, typer.Option(min=0, help="Processes; 0 scores in this one, without deadlines.")] = 2,
    deadline_seconds: Annotated[float, typer.Option(min=0.01, help="Longest time for one answer.")] = 10.0,
) -> None:
    """Score a file of answers by the tasks of their rows: the same scorers that rewards and benchmarks use.

    Every answer gets a score in 0..1 with its parts and the reason where it is less than 1. An answer whose scorer
    hangs or dies scores 0 and is counted. Rows without an answer, answers without a row, and second answers are
    refused.
    """
    from megatron_redone.cli.score import score_file
    from megatron_redone.scoring.config import ScoringConfig

    score_file(rows, answers, out, ScoringConfig(num_workers=num_workers, deadline_seconds=deadline_seconds))
