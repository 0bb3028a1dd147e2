"""From logs on disk to documents on disk, one file after the other, without holding a corpus in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.curation.interactions.config import InteractionsConfig
from megatron_redone.curation.interactions.documents import click_through_document, visit_document
from megatron_redone.curation.interactions.forms import Counts, click_throughs, language_of, query_key, visits
from megatron_redone.curation.interactions.log import LoggedNote, Session
from megatron_redone.curation.interactions.reading import Refusals, input_files, read_records
from megatron_redone.curation.interactions.store import STORE, InteractionStore, StoredSearch

NOTES, SESSIONS = "notes", "sessions"
"""Where a folder holds both, names of files of notes begin so, and of logs so."""


@dataclass(frozen=True)
class Synthesized:
    """What was made: counts by name, and the refused lines that are told."""

    counts: dict[str, int]
    refused: tuple[str, ...]


def synthesize_interactions(
    config: InteractionsConfig,
    logs: Path,
    notes: Path,
    out: Path,
    seed: int,
    max_refused_share: float,
    check_stop: Callable[[], None] = lambda: None,
) -> Synthesized:
    """Writes `corpus-00000.jsonl`, ... (a file for each file of logs) and `corpus-click-through.jsonl` into `out`.

    A killed call goes on with the first file of logs that is not done. Equal inputs and settings give equal bytes.

    Args:
        logs: sessions, `log.Session` a line; a file or a folder.
        notes: `log.LoggedNote` a line; likewise.
        check_stop: called between files; raises when the job shall end.

    Raises:
        DataError: a damaged file, too many bad lines (bad schema, an id that was met before), or no document at all.
    """
    with InteractionStore(out / STORE) as store:
        refusals = Refusals(max_refused_share)
        counts: Counts = Counter()
        for path in input_files(notes, NOTES):
            store.once(f"notes {path}", counts, refusals, partial(_take_notes, path, store, refusals))
            check_stop()
        for number, path in enumerate(input_files(logs, SESSIONS)):
            target = out / f"corpus-{number:05d}.jsonl"
            tell = partial(_tell_sessions, path, target, store, config, seed, refusals)
            store.once(f"logs {path}", counts, refusals, tell)
            check_stop()
        refusals.check()
        if "click_through" in config.forms:
            counts.update(_tell_click_throughs(out / "corpus-click-through.jsonl", store, config, seed))
    for leftover in [*out.glob(f"{STORE}*"), *(path for path in out.glob("corpus-*") if not path.stat().st_size)]:
        leftover.unlink()
    if not counts["documents"]:
        raise DataError(
            f"no document came of {counts['sessions']} sessions and {counts['notes']} notes; "
            f"what was left out: {_left_out(counts)}; check that the ids of notes in both are the same"
        )
    return Synthesized(
        {**dict(sorted(counts.items())), "lines_refused": refusals.num_refused}, tuple(refusals.messages)
    )


def _take_notes(path: Path, store: InteractionStore, refusals: Refusals) -> Counts:
    counts: Counts = Counter()
    for line, note in read_records(path, LoggedNote, refusals):
        if store.add_note(note):
            counts["notes"] += 1
        else:
            refusals.refuse(f"{path}:{line}: the id {note.id!r} was met before; a note stands once")
    return counts


def _tell_sessions(
    path: Path, target: Path, store: InteractionStore, config: InteractionsConfig, seed: int, refusals: Refusals
) -> Counts:
    counts: Counts = Counter()

    def documents() -> Iterator[dict[str, Any]]:
        for line, session in read_records(path, Session, refusals):
            if not store.add_id(session.id):
                refusals.refuse(f"{path}:{line}: the id {session.id!r} was met before; a session stands once")
                continue
            counts["sessions"] += 1
            place = f"{path.name}:{line}"
            for visit in visits(session, store.note, config, seed, counts):
                yield _counted(visit_document(visit, place, config, seed), counts)
            if "click_through" in config.forms:
                keep_searches(session, place, store)

    write_jsonl(target, documents())
    return counts


def keep_searches(session: Session, place: str, store: InteractionStore) -> None:
    """Puts the searches of a session where `searches_by_query` finds them."""
    for search in session.searches:
        store.add_search(
            StoredSearch(
                language_of(session),
                query_key(search.query),
                search.time.isoformat(),
                session.id,
                session.user,
                search.query,
                search.tags,
                search.shown,
                tuple(click.note for click in search.clicks),
                place,
            )
        )


def _tell_click_throughs(target: Path, store: InteractionStore, config: InteractionsConfig, seed: int) -> Counts:
    counts: Counts = Counter()
    write_jsonl(
        target,
        (
            _counted(click_through_document(estimate, config, seed), counts)
            for searches in store.searches_by_query()
            for estimate in click_throughs(searches, store.note, config, counts)
        ),
    )
    return counts


def _counted(document: dict[str, Any], counts: Counts) -> dict[str, Any]:
    for name in ("documents", f"documents/{document['form']}", f"documents/{document['language']}"):
        counts[name] += 1
    return document


def _left_out(counts: Counts) -> str:
    told = ("notes", "sessions", "documents")
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if name not in told) or "nothing"
