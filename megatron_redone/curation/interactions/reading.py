"""Reads lines of JSON files one by one against a schema; a bad line is refused with file, line and reason."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import open_unpacked
from megatron_redone.config.base import RuleViolations

Record = TypeVar("Record", bound=BaseModel)
ENDINGS = (".jsonl", ".jsonl.gz")
MESSAGES_KEPT = 100
"""Refused lines that are told one by one; the others are counted."""
LINES_BEFORE_GIVING_UP = 1_000
"""Of a file with too many bad lines so many are read before it is refused in the middle."""


@dataclass
class Refusals:
    """Lines read and lines refused, of all files so far."""

    max_share: float
    num_lines: int = 0
    num_refused: int = 0
    messages: list[str] = field(default_factory=list)

    def refuse(self, message: str) -> None:
        """Counts a bad line; `message` opens with `file:line`.

        Raises:
            DataError: too many of the lines are bad.
        """
        self.num_refused += 1
        if len(self.messages) < MESSAGES_KEPT:
            self.messages.append(message)
        if self.num_lines >= LINES_BEFORE_GIVING_UP:
            self.check()

    def check(self) -> None:
        """Stops the job when more than `max_share` of the lines are refused.

        Raises:
            DataError: with the first problems.
        """
        if self.num_refused > self.max_share * self.num_lines:
            shown = "\n".join(f"  {message}" for message in self.messages[:5])
            raise DataError(
                f"{self.num_refused} of {self.num_lines} lines refused, but at most {self.max_share:.0%} may be; "
                f"correct the files, or raise max_refused_share; first problems:\n{shown}"
            )


def input_files(path: Path, prefix: str) -> list[Path]:
    """The JSONL files (plain or gzipped) of an input, in order: a file, or those of a folder.

    Where names of some files of a folder begin with `prefix`, it is these, and the others are rows of another kind.

    Raises:
        DataError: there are none.
    """
    if path.is_file():
        if not path.name.endswith(ENDINGS):
            raise DataError(f"{path}: not {' or '.join(ENDINGS)}; give a file of JSON lines, or a folder of such files")
        return [path]
    found = sorted(file for file in path.glob("*") if file.name.endswith(ENDINGS) and file.is_file())
    if not found:
        raise DataError(f"{path}: no *{' and no *'.join(ENDINGS)} in it; give the folder in which the files lie")
    return [file for file in found if file.name.startswith(prefix)] or found


def read_records(path: Path, kind: type[Record], refusals: Refusals) -> Iterator[tuple[int, Record]]:
    """Yields (line from 1, record) of the lines that fit the schema; blank lines are skipped.

    Raises:
        DataError: a file that ends in the middle or is empty, or too many bad lines.
    """
    number = 0
    lines_before = refusals.num_lines
    with open_unpacked(path) as file:
        while True:
            try:
                line = file.readline()
            except (EOFError, OSError, zlib.error) as error:
                raise DataError(
                    f"{path}:{number + 1}: cannot be read on from here ({error}); the file is cut or damaged, "
                    "copy it again"
                ) from error
            if not line:
                break
            number += 1
            if not line.strip():
                continue
            refusals.num_lines += 1
            try:
                record = kind.model_validate_json(line, strict=True)
            except ValidationError as error:
                refusals.refuse(f"{path}:{number}: {_reasons(error)}")
                continue
            yield number, record
    if refusals.num_lines == lines_before:
        raise DataError(f"{path}: the file is empty; each line is a JSON object ({kind.__name__})")


def _reasons(error: ValidationError) -> str:
    reasons = []
    for problem in error.errors(include_url=False)[:3]:
        cause = problem.get("ctx", {}).get("error")
        sentences = cause.problems if isinstance(cause, RuleViolations) else [problem["msg"]]
        place = ".".join(str(part) for part in problem["loc"])
        reasons += [f"{place}: {sentence}" if place else sentence for sentence in sentences]
    return "; ".join(reasons)
