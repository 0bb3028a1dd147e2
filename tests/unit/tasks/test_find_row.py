from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.tasks.examples import example_row
from megatron_redone.tasks.reading import find_row

ROW = example_row("note_security", "en")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(ROW.to_json()) + "\n{broken\n" + json.dumps({"id": "x"}) + "\n")
    return path


def test_by_line_and_by_id(file: Path) -> None:
    assert find_row(f"{file}:2") == (ROW, f"{file}:2")
    assert find_row(f"{file}#{ROW.id}") == (ROW, f"{file}:2")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{file}", "names no row; give FILE.jsonl:LINE"),
        ("{file}:two", "names no row"),
        ("{file}:9", "has no row on line 9; its last row stands on line 4"),
        ("{file}:1", "has no row on line 1"),
        ("{file}:3", ":3: not JSON"),
        ("{file}:4", ":4: key 'task' is missing"),
        ("{file}#note_security-em", "did you mean 'note_security-en'"),
        ("{file}.gone:1", "no such file"),
    ],
)
def test_errors_say_what_is_there(file: Path, place: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_row(place.format(file=file))
