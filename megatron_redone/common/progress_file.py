"""Results of a long stage, line by line in its work folder: what stands there is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.files import disk_full_reported
from megatron_redone.common.jsonl import read_jsonl


class ProgressFile:
    """A JSONL file that grows by whole batches of objects with an `id`.

    A last line that a kill cut in the middle is removed when the file is opened again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: set[str] = set()
        if not path.is_file():
            return
        self._drop_torn_line()
        self.done = {str(value["id"]) for value in self}

    def _drop_torn_line(self) -> None:
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
        os.truncate(self.path, whole)

    def append(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Adds objects durably."""
        text = ""
        for value in values:
            self.done.add(str(value["id"]))
            text += json.dumps(value, ensure_ascii=True) + "\n"
        with disk_full_reported(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Reads the objects one by one."""
        if self.path.is_file():
            for _, value in read_jsonl(self.path):
                yield value
