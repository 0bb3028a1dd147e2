"""Scores of answers as rewards, and what is added to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from megatron_redone.common.errors import RedoneError
from megatron_redone.rl.config import OverlongConfig
from megatron_redone.scoring.base import Score
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import get_task


def task_scores(row: Row, texts: Sequence[str]) -> list[Score]:
    """The scores of answers to a row by its task.

    Raises:
        RedoneError: a score that is no number in 0..1. Nothing is learnt from such a reward, whatever the row: the
            scorer is at fault.
    """
    try:
        scores = get_task(row.task).score(texts, [row] * len(texts))
        bad = [score.value for score in scores if not (math.isfinite(score.value) and 0.0 <= score.value <= 1.0)]
    except (TypeError, ValueError) as error:
        raise RedoneError(_refused(row, str(error))) from error
    if bad:
        raise RedoneError(_refused(row, f"a score of {bad[0]!r}"))
    return scores


def _refused(row: Row, problem: str) -> str:
    return (
        f"task {row.task!r}, row {row.id!r}: no reward ({problem}); a scorer gives a number in 0..1 for every answer: "
        "mend the scorer, or leave the task out"
    )


def overlong_penalty(num_tokens: int, max_tokens: int, config: OverlongConfig) -> float:
    """Soft overlong punishment (DAPO, equation 13): 0 up to max - buffer, then linearly down to -factor at max."""
    if config.buffer_tokens == 0:
        return 0.0
    beyond = num_tokens - (max_tokens - config.buffer_tokens)
    return min(0.0, -beyond / config.buffer_tokens * config.factor)
