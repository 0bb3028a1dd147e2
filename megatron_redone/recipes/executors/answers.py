"""Answers that a stage draws to rows, written batch by batch so that an interrupted stage goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.logging import Progress
from megatron_redone.common.progress_file import ProgressFile
from megatron_redone.curation.conversations import balanced
from megatron_redone.curation.pairs.config import DrawnAnswersConfig
from megatron_redone.curation.pairs.model_errors import sample_rows
from megatron_redone.recipes.execution import Execution
from megatron_redone.tasks.row import Row
from megatron_redone.training.stop import agreed_stop, stopped

SAMPLES = "samples.jsonl"
ROWS_AT_ONCE = 64
"""Rows answered between two writes to disk."""


def rows_to_answer(config: DrawnAnswersConfig, rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows of the settings' tasks, balanced over them where there is a bound."""
    wanted = [row for row in rows if not config.tasks or row.task in config.tasks]
    if not wanted:
        raise DataError(f"data has no row of the tasks {', '.join(config.tasks) or '(any)'}; name others")
    if config.max_rows is None:
        return wanted
    num_tasks = len({row.task for row in wanted})
    return balanced(wanted, -(-config.max_rows // num_tasks), seed)[: config.max_rows]


def sample(execution: Execution, config: DrawnAnswersConfig, rows: Sequence[Row], name: str, purpose: str) -> None:
    """Answers to the rows that have none yet, into the file `name`."""
    rows = rows_to_answer(config, rows, execution.seed)
    progress = execution.context.on_main(lambda: ProgressFile(execution.work / name))
    left = [row for row in rows if row.id not in progress.done]
    with reported(execution, "answers", len(rows), len(rows) - len(left)) as between:
        if not left:
            return
        engine, _, template = execution.load_model()
        generator = execution.generator(engine, config.generation)
        for start in range(0, len(left), ROWS_AT_ONCE):
            batch = left[start : start + ROWS_AT_ONCE]
            outputs = sample_rows(config, batch, generator, template, execution.seed, purpose)
            lines = [
                {"id": row.id, "outputs": [output.to_json() for output in found]}
                for row, found in zip(batch, outputs, strict=True)
            ]
            append(execution, progress, lines)
            between(len(batch))


def append(execution: Execution, progress: ProgressFile, lines: list[dict[str, Any]]) -> None:
    """Rank 0 writes; all remember."""
    if execution.context.is_main:
        progress.append(lines)
    else:
        progress.done.update(line["id"] for line in lines)
    execution.context.barrier()


@contextlib.contextmanager
def reported(execution: Execution, what: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """Shows progress, and stops between two batches when the process was asked to."""
    with Progress(f"{execution.run.id} {what}", total, what, execution.context.is_main) as progress:
        progress.start_at(done)

        def between(number: int) -> None:
            progress.advance(number)
            signal = agreed_stop(execution.context)
            if signal:
                raise stopped(f"stopped after {progress.done} of {total} {what}; the same command goes on", signal)

        yield between
