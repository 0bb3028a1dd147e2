"""docs/tasks.md says what the catalogue says."""

from __future__ import annotations

import json

from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.row import Row
from tools.document_tasks import EXAMPLE_ROW, PAGE, tasks_page


def test_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == tasks_page(), "run: .venv/bin/python tools/document_tasks.py"


def test_every_task_has_a_section_that_the_summary_links_to() -> None:
    page = tasks_page()
    for name in TASKS:
        assert f"\n### {name}\n" in page
        assert f"](#{name})" in page


def test_the_example_row_is_valid() -> None:
    row = Row.from_json(json.loads(EXAMPLE_ROW), "docs/tasks.md")
    assert TASKS[row.task].validate(row) == []
