"""Replies of a completion server on disk, by the hash of what was asked."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import InputError


def content_hash(value: Any) -> str:
    """Hex SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


class CompletionCache:
    """A SQLite file of replies. Threads may share it; what was put survives a kill.

    Raises:
        InputError: the file is no such cache.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60.0)
        try:
            self._database.execute("CREATE TABLE IF NOT EXISTS replies (hash TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise InputError(f"{path}: not a cache of replies ({error}); give another file or remove it") from error

    def get(self, key: str) -> dict[str, Any] | None:
        """The reply to a request, or None."""
        with self._lock:
            found = self._database.execute("SELECT reply FROM replies WHERE hash = ?", (key,)).fetchone()
        return None if found is None else json.loads(found[0])

    def put(self, key: str, reply: Mapping[str, Any]) -> None:
        """Keeps a reply."""
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(dict(reply))))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
