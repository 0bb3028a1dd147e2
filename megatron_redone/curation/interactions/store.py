"""What is kept on disk while documents are made: an SQLite file, which sorts and looks up beyond memory.

Every input file goes in as one transaction together with a record that it is done, so a killed job goes on with the
next file. Searches are sorted by query with SQLite's external sort when they are read back.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from megatron_redone.common.files import disk_full
from megatron_redone.common.logging import get_logger
from megatron_redone.curation.interactions.log import LoggedNote
from megatron_redone.curation.interactions.reading import Refusals

LOG = get_logger("synthesize")

_CACHE_KIB = 256 * 1024
STORE = "store.sqlite"
_STEPS = """
CREATE TABLE IF NOT EXISTS ids (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS done (step TEXT PRIMARY KEY, record TEXT) WITHOUT ROWID;
"""
_INTERACTIONS = """
CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, title TEXT, content TEXT, tags TEXT);
CREATE TABLE IF NOT EXISTS searches (
    language TEXT, key TEXT, time TEXT, session TEXT, user TEXT, query TEXT, tags TEXT, shown TEXT, clicked TEXT,
    place TEXT);
"""


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """One search of one user; `place` is the `file:line` of its session."""

    language: str
    key: str
    time: str
    session: str
    user: str
    query: str
    tags: tuple[str, ...]
    shown: tuple[str, ...]
    clicked: tuple[str, ...]
    place: str


class StepStore:
    """Ids met so far, and which steps of the work are done.

    Args:
        path: the file, made where it is not there; None: in memory, for data that are small.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._database = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA temp_store = FILE")
        self._database.executescript(_STEPS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        if self.path is not None and isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise disk_full(self.path) from error

    def add_id(self, identifier: str) -> bool:
        """False when the id was added before."""
        return self._database.execute("INSERT OR IGNORE INTO ids VALUES (?)", (identifier,)).rowcount == 1

    def once(self, step: str, counts: Counter[str], refusals: Refusals, work: Callable[[], Counter[str]]) -> None:
        """Does a step in one transaction, or takes over what came of it in an earlier start.

        Args:
            counts: gets what `work` counted.
            refusals: `work` adds to it.
        """
        record = self.record(step)
        if record is None:
            lines, refused, told = refusals.num_lines, refusals.num_refused, len(refusals.messages)
            self.begin()
            found = work()
            record = {
                "counts": dict(found),
                "lines": refusals.num_lines - lines,
                "refused": refusals.num_refused - refused,
                "messages": refusals.messages[told:],
            }
            self.commit(step, record)
            LOG.info("%s: %s", step, ", ".join(f"{name} {count:,}" for name, count in sorted(found.items())))
        else:
            refusals.num_lines += record["lines"]
            refusals.num_refused += record["refused"]
            refusals.messages += record["messages"]
        counts.update(record["counts"])

    def begin(self) -> None:
        """Opens a transaction: what is not finished by `commit` never was."""
        self._database.execute("BEGIN")

    def commit(self, step: str, record: dict[str, Any]) -> None:
        """Ends it, and notes that `step` is done, with what is to be known of it."""
        self._database.execute("INSERT INTO done VALUES (?, ?)", (step, json.dumps(record)))
        self._database.execute("COMMIT")

    def record(self, step: str) -> dict[str, Any] | None:
        """What `commit` noted of a step, or None for a step that is not done."""
        found = self._database.execute("SELECT record FROM done WHERE step = ?", (step,)).fetchone()
        return None if found is None else json.loads(found[0])


class InteractionStore(StepStore):
    """Notes by id, and searches by query; the ids are those of sessions."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path)
        self._database.executescript(_INTERACTIONS)

    def add_note(self, note: LoggedNote) -> bool:
        """False when a note with this id stands already, which stays as it is."""
        row = (note.id, note.title, note.content, json.dumps(note.tags))
        return self._database.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?, ?)", row).rowcount == 1

    def note(self, identifier: str) -> LoggedNote | None:
        """The note of an id."""
        found = self._database.execute("SELECT title, content, tags FROM notes WHERE id = ?", (identifier,)).fetchone()
        if found is None:
            return None
        return LoggedNote.model_construct(
            id=identifier, title=found[0], content=found[1], tags=tuple(json.loads(found[2]))
        )

    def add_search(self, search: StoredSearch) -> None:
        """Keeps a search for the form that looks over users."""
        lists = (json.dumps(search.tags), json.dumps(search.shown), json.dumps(search.clicked))
        self._database.execute(
            "INSERT INTO searches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (search.language, search.key, search.time, search.session, search.user, search.query, *lists, search.place),
        )

    def searches_by_query(self) -> Iterator[Iterator[StoredSearch]]:
        """The searches of each (language, key), in the order of their times; a group must be read before the next."""
        rows = self._database.execute("SELECT * FROM searches ORDER BY language, key, time, session, rowid")
        for _, group in groupby(rows, key=itemgetter(0, 1)):
            yield (_stored(row) for row in group)


def _stored(row: tuple[str, ...]) -> StoredSearch:
    language, key, time, session, user, query, tags, shown, clicked, place = row
    return StoredSearch(language, key, time, session, user, query, _names(tags), _names(shown), _names(clicked), place)


def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
