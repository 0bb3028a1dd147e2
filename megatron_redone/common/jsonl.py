"""JSON lines, read with line numbers and written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import disk_full_reported, fsync_directory


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object). Blank lines are skipped.

    Raises:
        DataError: no such file, bytes that are not UTF-8, a line that is not a JSON object (names file and line).
    """
    for number, value, problem in read_jsonl_lenient(path):
        if problem is not None:
            raise DataError(problem)
        assert value is not None
        yield number, value


def read_jsonl_lenient(path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """Yields (line number, object, problem): a bad line gives its problem instead of ending the reading."""
    if not path.is_file():
        raise DataError(f"{path}: {'a folder, expected a file' if path.is_dir() else 'no such file'}; check the path")
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            where = f"{path}:{number}"
            try:
                value = json.loads(raw.decode("utf-8"))
            except UnicodeDecodeError as error:
                yield number, None, f"{where}: not UTF-8 at byte {error.start}; save the file as UTF-8"
                continue
            except json.JSONDecodeError as error:
                yield (
                    number,
                    None,
                    f"{where}: not JSON ({error.msg.removesuffix(' at')} at column {error.colno}); one object a line",
                )
                continue
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets as deep
                yield number, None, f"{where}: cannot be read ({str(error)[:80]}); one object a line"
                continue
            if not isinstance(value, dict):
                yield number, None, f"{where}: a {type(value).__name__}, expected a JSON object in each line"
                continue
            yield number, value, None


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes one object a line, atomically and without holding all rows; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    with disk_full_reported(path):
        try:
            with temporary.open("w", encoding="utf-8", errors="surrogatepass") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return count
