"""The row that docs/architecture.md follows is one that the quickstart writes, and reads as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from megatron_redone.curation.synthesize.config import RowsPerTask
from megatron_redone.curation.synthesize.task_rows import TaskRows
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.row import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
QUICKSTART_SEED = 0


def test_the_row_is_generated_and_rendered_as_shown() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    row = Row.from_json(json.loads(shown), str(PAGE))
    assert row in TaskRows(row.task, QUICKSTART_SEED).rows("train", RowsPerTask().train)
    task = get_task(row.task)
    assert f"```text\n{task.render(row)[0]['content']}\n```" in page
    assert f"```text\n{task.target(row)}\n```" in page
