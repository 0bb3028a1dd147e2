"""Files of answers: one JSON object a line, {"file": "Note-NER.json", "index": 3, "output": "..."}.

`index` counts the rows of that file from 0. Further keys are allowed and not read. The lines may stand in any order.

| what | rule |
|---|---|
| a line that is no JSON object, lacks a key, or has one of a wrong type | refused |
| a file that the benchmark does not have | refused |
| an index below 0 or beyond the rows of its file | refused |
| a second answer to a row | refused, also if it is the same |
| no answer to a row | scored as the empty text, counted, warned of |
| an answer to a file that is not read, or a row that is not scored (`--file`, `--limit`) | counted, not scored |
| no answer to any row that is read | refused |

Refused means: nothing is scored, and all problems of the file are listed with their line numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import read_jsonl_lenient

SHOWN_PROBLEMS = 50


@dataclass(frozen=True)
class Predictions:
    """Answers by file and index.

    Attributes:
        outputs: by file, by index: the answer.
        num_unused: answers to files that are not read.
    """

    outputs: Mapping[str, Mapping[int, str]]
    num_unused: int = 0


def read_predictions(path: Path, sizes: Mapping[str, int | None], *, may_be_empty: bool = False) -> Predictions:
    """The answers of a file under the rules above.

    Args:
        sizes: by file of the benchmark the number of its rows; None where it is not read.
        may_be_empty: whether a file without an answer to any row that is read will do.

    Raises:
        DataError: no such file, or problems (all of them, with line numbers; the first 50 in words).
    """
    outputs: dict[str, dict[int, str]] = {}
    first_line: dict[tuple[str, int], int] = {}
    problems: list[str] = []
    unused = 0
    for number, row, broken in read_jsonl_lenient(path):
        problem = broken or _problem(row or {}, sizes)
        if problem:
            problems.append(problem if broken else f"{path}:{number}: {problem}")
            continue
        assert row is not None
        file, index = row["file"], row["index"]
        if (earlier := first_line.setdefault((file, index), number)) != number:
            problems.append(
                f"{path}:{number}: a second answer to {file}, index {index}; the first is in line {earlier}"
            )
        elif sizes[file] is None:
            unused += 1
        else:
            outputs.setdefault(file, {})[index] = row["output"]
    if problems:
        more = f"\n  and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        shown = "\n  ".join(problems[:SHOWN_PROBLEMS])
        raise DataError(f"{len(problems)} line(s) of {path} cannot be scored; mend or remove them:\n  {shown}{more}")
    if not outputs and not may_be_empty:
        raise DataError(f"{path}: no answer to any row of the benchmark's folder; check --predictions and --data")
    return Predictions(outputs, unused)


def _problem(row: Mapping[str, Any], sizes: Mapping[str, int | None]) -> str:
    """What is wrong with a line, "" for nothing."""
    if absent := [name for name in ("file", "index", "output") if name not in row]:
        return f"lacks {', '.join(absent)}; a line holds file, index and output"
    file, index, output = row["file"], row["index"], row["output"]
    if not isinstance(file, str) or file not in sizes:
        return f"file {file!r} is not of this benchmark; it has {', '.join(sizes)}"
    if not isinstance(index, int) or isinstance(index, bool):
        return f"index {index!r} is no whole number"
    size = sizes[file]
    if index < 0 or (size is not None and index >= size):
        return f"index {index} is outside 0..{size - 1 if size else ''} of {file}"
    return "" if isinstance(output, str) else f"output is {type(output).__name__}, expected a text"
