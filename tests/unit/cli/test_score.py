"""`redone score`: answers in, scores out; whatever does not fit is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.cli.score import score_file
from megatron_redone.common.errors import DataError
from megatron_redone.scoring.config import ScoringConfig
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.examples import examples
from megatron_redone.tasks.reading import write_rows

ROWS = [row for row in examples().values() if get_task(row.task).reward_kind != "sandbox"][:12]


def write(folder: Path, lines: list[Any]) -> tuple[Path, Path]:
    rows, answers = folder / "rows.jsonl", folder / "answers.jsonl"
    write_rows(rows, ROWS)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    answers.write_text(text, encoding="utf-8")
    return rows, answers


def gold() -> list[dict[str, Any]]:
    return [{"id": row.id, "output": get_task(row.task).target(row)} for row in ROWS]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_gold_answers_earn_everything(tmp_path: Path, num_workers: int) -> None:
    lines = gold()[::-1]
    lines[0]["output"] = "\ud800\x00" + "x" * 1_000_000
    score_file(*write(tmp_path, lines), tmp_path / "out", ScoringConfig(num_workers=num_workers, deadline_seconds=60))
    scores = [json.loads(line) for line in (tmp_path / "out/scores.jsonl").read_text().splitlines()]
    assert [score["id"] for score in scores] == [row.id for row in ROWS]
    assert [score["value"] for score in scores] == [1.0] * (len(ROWS) - 1) + [0.0]
    assert scores[-1]["reason"].startswith("format failure")
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {task["task"] for task in results["tasks"]} == {row.task for row in ROWS}
    assert not any(results["not_scored"].values())


def test_all_problems_are_told_with_their_lines(tmp_path: Path) -> None:
    lines: list[Any] = gold()[1:]
    lines += [lines[0], {"id": "nobody", "output": "x"}, {"id": ROWS[1].id}, "{broken", {"output": "x"}]
    with pytest.raises(DataError, match=r"6 problems") as caught:
        score_file(*write(tmp_path, lines), tmp_path / "out", ScoringConfig())
    for part in (
        f":12: a second answer to {ROWS[1].id!r}",
        ":13: no row has the id 'nobody'",
        ":14: 'output' is NoneType",
        ":15: not JSON",
        ":16: 'id' is NoneType",
        f"1 rows have no answer, the first is {ROWS[0].id!r}",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()
