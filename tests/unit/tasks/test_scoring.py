"""Answers are scored alike in this process and over several, and a stuck scorer costs its own answer."""

from __future__ import annotations

import pytest

from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.examples import examples
from megatron_redone.tasks.scoring import Scoring

ROWS = [row for row in examples().values() if get_task(row.task).reward_kind != "sandbox"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_gold_and_wrong_answers_of_every_task(num_workers: int) -> None:
    answers = [get_task(row.task).target(row) for row in ROWS] + ["?!"] * len(ROWS)
    rows = [*ROWS, *ROWS]
    with Scoring(ScoringConfig(num_workers=num_workers, deadline_seconds=60.0)) as scoring:
        scores = scoring.score(answers, rows)
        assert not any(scoring.counts.values())
    expected = [get_task(row.task).score([text], [row])[0] for text, row in zip(answers, rows, strict=True)]
    assert scores == expected
    assert len({row.task for row in rows}) > 100
