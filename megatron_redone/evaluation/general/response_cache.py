"""Responses of a model on disk, so that a stopped run goes on: JSON lines, read without executing anything.

lm-evaluation-harness has a cache of its own (`use_cache`), an SQLite file of pickles. A pickle of a stranger can run
code when it is read, so it is not used here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.files import atomic_write_bytes, disk_full_reported
from megatron_redone.common.jsonl import read_jsonl


class ResponseCache:
    """Responses by request, for one model under one fingerprint. Responses of other ones may stand in the same file.

    Args:
        path: the file; None keeps responses in memory only.
        fingerprint: of all that a response depends on beside the request: weights, tokenizer, dtype.

    Raises:
        DataError: a line before the last is no response (names file and line). A last line that was cut off by a stop
            is taken away.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self._responses: dict[str, Any] = {}
        if path is not None and path.is_file():
            _cut_torn_line(path)
            for number, line in read_jsonl(path):
                if not isinstance(line.get("key"), str) or "response" not in line:
                    raise DataError(f"{path}:{number}: no response; a line has `key` and `response`; remove the file")
                self._responses[line["key"]] = line["response"]

    def key(self, *request: Any) -> str:
        """The name of a request, a function of its content and of the fingerprint."""
        text = json.dumps([self.fingerprint, *request], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._responses

    def __getitem__(self, key: str) -> Any:
        return self._responses[key]

    def add(self, responses: Mapping[str, Any]) -> None:
        """Notes responses, on disk before this returns."""
        self._responses.update(responses)
        if self.path is not None:
            _append(self.path, ({"key": key, "response": value} for key, value in responses.items()))


def _append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with disk_full_reported(path), path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        atomic_write_bytes(path, whole)
