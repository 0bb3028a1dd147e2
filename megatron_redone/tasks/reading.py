"""Rows from and to JSONL files.

A bad row is refused with file, line and reason and counted, so that nothing is dropped silently; past a
stated share of bad rows the whole file is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.common.jsonl import read_jsonl_lenient, write_jsonl
from megatron_redone.tasks.catalogue import get_task
from megatron_redone.tasks.row import Row, nearest

MAX_PROBLEMS_SHOWN = 5
MAX_IDS_COMPARED = 10_000


@dataclass(frozen=True)
class RowFile:
    """The valid rows of a file in order, and one line `file:line: reason` per refused row."""

    rows: tuple[Row, ...]
    refused: tuple[str, ...]


def read_rows(path: Path, max_refused_share: float = 0.05) -> RowFile:
    """Reads and validates rows of any tasks of the catalogue.

    Raises:
        DataError: no such file, no valid row, or more than `max_refused_share` of the rows are refused.
    """
    rows: list[Row] = []
    refused: list[str] = []
    seen: set[str] = set()
    for number, value, problem in read_jsonl_lenient(path):
        row_or_problem = problem if value is None else _checked(value, f"{path}:{number}", seen)
        if isinstance(row_or_problem, Row):
            rows.append(row_or_problem)
        else:
            refused.append(row_or_problem or f"{path}:{number}: unreadable")
    num_rows = len(rows) + len(refused)
    if not rows or len(refused) > max_refused_share * num_rows:
        shown = "\n".join(f"  {line}" for line in refused[:MAX_PROBLEMS_SHOWN])
        raise DataError(
            f"{path}: {len(refused)} of {num_rows} rows refused, but at most {max_refused_share:.0%} may be"
            f" and one must remain; correct the file; first problems:\n{shown}"
        )
    return RowFile(tuple(rows), tuple(refused))


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Writes rows so that `read_rows` gives them back; returns how many."""
    return write_jsonl(path, (row.to_json() for row in rows))


def _checked(value: dict[str, Any], where: str, seen: set[str]) -> Row | str:
    try:
        row = Row.from_json(value, where)
        problems = get_task(row.task).validate(row)
    except DataError as error:
        return str(error)
    except InputError as error:
        return f"{where}: {error}"
    if row.id in seen:
        problems.append(f"id {row.id!r} occurs twice in the file")
    seen.add(row.id)
    return f"{where}: " + "; ".join(problems) if problems else row


def find_row(place: str) -> tuple[Row, str]:
    """The row at `FILE.jsonl:LINE` or `FILE.jsonl#ID`, not validated, and its place as `FILE.jsonl:LINE`.

    Raises:
        InputError: the place names no line and no id, or the file has no such row.
        DataError: no such file, or the line is not the JSON of a row.
    """
    file, mark, wanted = place.rpartition("#") if "#" in place else place.rpartition(":")
    if not file or not wanted or (mark == ":" and not wanted.isdecimal()):
        raise InputError(f"{place!r} names no row; give FILE.jsonl:LINE (lines count from 1) or FILE.jsonl#ID")
    path = Path(file)
    last = 0
    ids: list[str] = []
    for number, value, problem in read_jsonl_lenient(path):
        last = number
        if mark == "#" and value is not None and len(ids) < MAX_IDS_COMPARED:
            ids.append(str(value.get("id")))
        if number == int(wanted) if mark == ":" else value is not None and value.get("id") == wanted:
            if value is None:
                raise DataError(problem or f"{path}:{number}: unreadable")
            return Row.from_json(value, f"{path}:{number}"), f"{path}:{number}"
    if mark == "#":
        raise InputError(f"{path} has no row with id {wanted!r}{nearest(wanted, ids)}")
    raise InputError(f"{path} has no row on line {wanted}; its last row stands on line {last}")
