"""A file of answers to rows of the catalogue: JSONL of `id` and `output`, one line a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl_lenient
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.row import nearest

MAX_PROBLEMS_SHOWN = 10


def read_answers(path: Path, rows: Sequence[Row]) -> list[str]:
    """The output to each row, in order of the rows. Further keys of a line are ignored.

    Raises:
        DataError: every line that is no answer to a row, an id twice, and every row without an answer.
    """
    known = {row.id for row in rows}
    outputs: dict[str, str] = {}
    problems = []
    for number, value, problem in read_jsonl_lenient(path):
        found = [problem] if value is None else list(_line_problems(value, known, outputs))
        problems += [f"{path}:{number}: {text}" if value is not None else str(text) for text in found]
        if value is not None and not found:
            outputs[value["id"]] = value["output"]
    missing = [row.id for row in rows if row.id not in outputs]
    if missing:
        problems.append(f"{path}: {len(missing)} rows have no answer, the first is {missing[0]!r}; give each one")
    if problems:
        shown = "\n".join(f"  {line}" for line in problems[:MAX_PROBLEMS_SHOWN])
        raise DataError(f"{path}: {len(problems)} problems; nothing is scored; the first:\n{shown}")
    return [outputs[row.id] for row in rows]


def _line_problems(value: dict[str, object], known: set[str], outputs: dict[str, str]) -> Iterator[str]:
    for key in ("id", "output"):
        if not isinstance(value.get(key), str):
            yield f"{key!r} is {type(value.get(key)).__name__}, expected a text"
            return
    name = str(value["id"])
    if name not in known:
        yield f"no row has the id {name!r}{nearest(name, list(known)[:10_000])}"
    elif name in outputs:
        yield f"a second answer to {name!r}; leave one"
