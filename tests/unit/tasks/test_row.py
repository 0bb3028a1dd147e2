from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.tasks.reading import read_rows, write_rows
from megatron_redone.tasks.row import Row
from tests.unit.tasks.sample_rows import CASES, sample_rows

GOOD = {"id": "1", "task": "arithmetic", "language": "en", "fields": {"question": "1 + 1?"}, "answer": "2"}


def test_optional_keys_have_defaults() -> None:
    row = Row.from_json(GOOD, "f:1")
    assert (row.rationale, row.source, row.weight) == (None, "", 1.0)
    assert Row.from_json({**GOOD, "weight": 2}, "f:1").weight == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 7}, "'id' is int, expected str"),
        ({"id": ""}, "'id' is empty"),
        ({"fields": []}, "'fields' is list, expected Mapping"),
        ({"rationale": 3}, "'rationale' is int, expected str or NoneType"),
        ({"weight": "2"}, "'weight' is str"),
        ({"weight": True}, "'weight' is bool"),
        ({"weight": 0}, "weight=0 must be a finite number > 0"),
        ({"weight": float("nan")}, "weight=nan must be"),
        ({"langauge": "en"}, "unknown key 'langauge'; did you mean 'language'?"),
    ],
)
def test_bad_keys_name_place_and_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"^rows\.jsonl:3: ") as error:
        Row.from_json({**GOOD, **changes}, "rows.jsonl:3")
    assert message in str(error.value)


def test_missing_keys_are_all_listed() -> None:
    with pytest.raises(DataError, match=r"'id' is missing; key 'task' is missing; .*'answer' is missing"):
        Row.from_json({}, "f:1")


def test_files_give_back_what_was_written(tmp_path: Path) -> None:
    rows = [row for name, language in CASES for row in sample_rows(name, language)]
    assert write_rows(tmp_path / "rows.jsonl", rows) == len(rows)
    read = read_rows(tmp_path / "rows.jsonl")
    assert list(read.rows) == rows
    assert read.refused == ()


def _write(path: Path, lines: list[Any]) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_bad_rows_are_refused_with_line_and_reason_and_counted(tmp_path: Path) -> None:
    lines = [
        GOOD,
        "{not json",
        {**GOOD, "id": "2", "task": "aritmetic"},
        {**GOOD, "id": "3", "answer": ""},
        GOOD,
        {**GOOD, "id": "5", "answer": "11"},
    ]
    path = _write(tmp_path / "rows.jsonl", lines)
    result = read_rows(path, max_refused_share=0.7)
    assert [row.id for row in result.rows] == ["1", "5"]
    assert [line.split(": ", 1)[0] for line in result.refused] == [f"{path}:{number}" for number in (2, 3, 4, 5)]
    assert "not JSON" in result.refused[0]
    assert "did you mean 'arithmetic'?" in result.refused[1]
    assert "answer is empty" in result.refused[2]
    assert "id '1' occurs twice" in result.refused[3]


def test_too_many_bad_rows_refuse_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", [GOOD, {**GOOD, "id": "2", "answer": ""}])
    with pytest.raises(DataError, match=r"1 of 2 rows refused, but at most 5% may be(.|\n)*answer is empty"):
        read_rows(path)
    with pytest.raises(DataError, match="0 of 0 rows refused"):
        read_rows(_write(tmp_path / "empty.jsonl", []))
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "missing.jsonl")
