"""What the benchmark of scoring gives to the scorers, and how it reads a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.benchmarks.score import MEASURED_TASKS, answers_of, measure_rates, measure_step_share
from megatron_redone.common.errors import InputError
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.examples import examples
from megatron_redone.tasks.reading import write_rows


def test_answers_are_right_and_wrong_ones() -> None:
    for task in MEASURED_TASKS.values():
        rows = [row for (name, _), row in examples().items() if name == task]
        texts, chosen = answers_of(rows, 40)
        scores = get_task(task).score(texts, chosen)
        assert len(scores) == 40
        assert max(score.value for score in scores) == 1.0 > min(score.value for score in scores)


def test_every_scorer_has_a_rate() -> None:
    rates = measure_rates(8, [0], 2)
    assert [rate.scorer for rate in rates] == list(MEASURED_TASKS)
    assert all(0 < rate.slowest <= rate.per_second <= rate.fastest for rate in rates)


def test_share_of_a_step(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no exploration that is done"):
        measure_step_share(tmp_path, 8, 1)
    (tmp_path / "explore_set").mkdir()
    write_rows(tmp_path / "explore_set" / "rows.jsonl", list(examples().values())[:4])
    (tmp_path / "explore.seed1").mkdir()
    lines = [{"step": step, "seconds": seconds} for step, seconds in enumerate((1000.0, 2000.0, 9000.0))]
    (tmp_path / "explore.seed1" / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    share = measure_step_share(tmp_path, 8, 2)
    assert share.step_seconds == 2000.0 and 0 < share.share == share.scoring_seconds / 2000.0
