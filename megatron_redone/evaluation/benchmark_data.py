"""The files of a benchmark: JSON arrays of rows, checked wholly before anything is answered or scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, InputError
from megatron_redone.evaluation.benchmark import Benchmark, BenchmarkTask, Row

SHOWN_PROBLEMS = 20


def read_benchmark(folder: Path, benchmark: Benchmark, files: Sequence[str] = ()) -> dict[str, list[Row]]:
    """The rows of each file that is in the folder, in the benchmark's order.

    A published figure is one of all rows, so a row that cannot be used is refused with its whole folder, never dropped.

    Args:
        files: only these; all by default.

    Raises:
        DataError: no such folder, none of the files in it, a file that is no JSON array of objects, or rows that
            lack a field or have one of a wrong type (all of them, by file and index).
        InputError: a name in `files` that is none of the benchmark's, or is not in the folder.
    """
    unknown = [name for name in files if name not in benchmark.tasks]
    if unknown:
        raise InputError(f"--file {', '.join(unknown)}: {benchmark.name} has {', '.join(benchmark.tasks)}")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds {', '.join(benchmark.tasks)}")
    wanted = [name for name in benchmark.tasks if not files or name in files]
    found = [name for name in wanted if (folder / name).is_file()]
    if absent := [name for name in files if name not in found]:
        raise InputError(f"--file {', '.join(absent)}: not in {folder}")
    if not found:
        raise DataError(f"{folder}: none of {benchmark.name}'s files; it holds {', '.join(benchmark.tasks)}")
    rows, problems = {}, []
    for name in found:
        rows[name], of_file = _read_file(folder / name, benchmark.tasks[name])
        problems += of_file
    if problems:
        more = f"\n  and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        shown = "\n  ".join(problems[:SHOWN_PROBLEMS])
        raise DataError(f"{len(problems)} problem(s) in {folder}; use the published files:\n  {shown}{more}")
    return rows


def _read_file(path: Path, task: BenchmarkTask) -> tuple[list[Row], list[str]]:
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return [], [f"{path.name}: not UTF-8 at byte {error.start}"]
    except json.JSONDecodeError as error:
        return [], [f"{path.name}:{error.lineno}: not JSON ({error.msg} at column {error.colno})"]
    except (ValueError, RecursionError) as error:
        return [], [f"{path.name}: cannot be read ({str(error)[:80]})"]
    if not isinstance(value, list) or not value:
        return [], [f"{path.name}: expected a JSON array of rows, at least one"]
    return value, [f"{path.name}, index {index}: {p}" for index, row in enumerate(value) for p in _problems(row, task)]


def _problems(row: Any, task: BenchmarkTask) -> Iterator[str]:
    if not isinstance(row, Mapping):
        yield f"a {type(row).__name__}, expected an object"
        return
    name, kind = task.answer
    before = [
        problem
        for field, of_kind in {**dict.fromkeys(task.fields, "text"), name: kind}.items()
        if (problem := _field_problem(row, field, of_kind))
    ]
    yield from before
    if not before and task.check and (problem := task.check(row)):
        yield problem


def _field_problem(row: Mapping[str, Any], name: str, kind: str) -> str:
    if name not in row:
        return f"no field {name!r}"
    value = row[name]
    if isinstance(value, str):
        return ""
    if kind == "texts" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ""
    expected = "a text or a list of texts" if kind == "texts" else "a text"
    return f"{name} is {type(value).__name__}, expected {expected}"
