"""One valid row of every task in every language, for `redone tasks show`, the documentation and the tests.

The rows stand in `examples/CAPABILITY.jsonl` beside this file, in the form of any file of rows. Their texts are made
up; they show the format of a task and teach nothing.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.tasks.row import Row

FOLDER = Path(__file__).parent / "examples"


@cache
def examples() -> dict[tuple[str, str], Row]:
    """Every example by (task, language)."""
    rows = [
        Row.from_json(value, f"{path}:{number}")
        for path in sorted(FOLDER.glob("*.jsonl"))
        for number, value in read_jsonl(path)
    ]
    return {(row.task, row.language): row for row in rows}


def example_row(task: str, language: str) -> Row:
    """The example of a task in a language. Raises KeyError where there is none, which a test rules out."""
    return examples()[task, language]
