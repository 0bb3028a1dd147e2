"""`redone score`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.common.logging import CONSOLE
from megatron_redone.evaluation.answer_file import read_answers
from megatron_redone.evaluation.runner import task_scores
from megatron_redone.reporting.schema import TaskScore
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.tasks.reading import read_rows
from megatron_redone.tasks.scoring import Scoring


def score_file(rows_file: Path, answers_file: Path, out: Path, config: ScoringConfig) -> None:
    """Scores every answer, prints a table by task and writes scores.jsonl and results.json."""
    found = read_rows(rows_file)
    rows = found.rows
    outputs = read_answers(answers_file, rows)
    with Scoring(config) as scoring:
        scores = scoring.score(outputs, rows)
        counts = scoring.counts
    tasks = task_scores(rows, scores)
    out.mkdir(parents=True, exist_ok=True)
    lines = ({"id": row.id, "task": row.task, **asdict(score)} for row, score in zip(rows, scores, strict=True))
    write_jsonl(out / "scores.jsonl", lines)
    atomic_write_json(
        out / "results.json",
        {
            "rows": str(rows_file),
            "answers": str(answers_file),
            "tasks": [task.model_dump(mode="json") for task in tasks],
            "not_scored": counts,
            "refused_rows": list(found.refused),
            "settings": config.model_dump(),
        },
    )
    CONSOLE.print(_table(tasks))
    lost = {name: count for name, count in counts.items() if count}
    if lost:
        CONSOLE.print(f"scored 0, since they could not be scored: {lost}", highlight=False)
    CONSOLE.print(f"written: {out / 'scores.jsonl'} and {out / 'results.json'}", highlight=False, soft_wrap=True)


def _table(tasks: list[TaskScore]) -> Table:
    table = Table("task", "rows", "score", "95% interval", "read")
    for task in tasks:
        low, high = task.interval
        table.add_row(
            task.task, f"{task.num_rows:,}", f"{task.score:.1f}", f"{low:.1f} to {high:.1f}", f"{task.parse_rate:.1%}"
        )
    return table
