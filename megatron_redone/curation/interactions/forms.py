"""The three forms in which interaction ties texts together, before they are worded (RedOne, Appendix A.3).

Single search: one query, the notes opened in order with their reading times, and what the user did next. Consecutive
searches: several such rounds, then the last action. Click-through estimation: how many users searched a query, the
notes they clicked most, and notes that were shown and not clicked.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar

from megatron_redone.common.seeding import rng
from megatron_redone.curation.interactions.config import InteractionsConfig
from megatron_redone.curation.interactions.log import LoggedNote, NextAction, Search, Session
from megatron_redone.curation.interactions.store import StoredSearch
from megatron_redone.curation.segments import script_language

FindNote = Callable[[str], LoggedNote | None]
Counts = Counter[str]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Reading:
    """A note that was opened, and for how long."""

    note: LoggedNote
    seconds: float


@dataclass(frozen=True, slots=True)
class Round:
    """A query and what was opened after it."""

    time: datetime
    query: str
    tags: tuple[str, ...]
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Visit:
    """One round (single search) or several (consecutive searches) of one session, and what came after."""

    rounds: tuple[Round, ...]
    next_action: NextAction
    language: str
    session: str
    first_round: int
    """Place of its first search in the session."""

    @property
    def form(self) -> str:
        """Name of the form."""
        return "single_search" if len(self.rounds) == 1 else "consecutive_searches"


@dataclass(frozen=True, slots=True)
class ClickThrough:
    """What many users did with the notes shown for one query."""

    num_users: int
    query: str
    tags: tuple[str, ...]
    clicked: tuple[LoggedNote, ...]
    """Most clicked first."""
    not_clicked: tuple[LoggedNote, ...]
    """Shown most often first."""
    language: str
    sessions: tuple[str, ...]
    first_place: str
    """`file:line` of the first session."""


def language_of(session: Session) -> str:
    """Language of a session's documents."""
    return session.language or script_language(" ".join(search.query for search in session.searches))


def query_key(query: str) -> str:
    """What two wordings of one query share: NFKC, case folded, runs of white space as one blank."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def visits(
    session: Session, find_note: FindNote, config: InteractionsConfig, seed: int, counts: Counts
) -> Iterator[Visit]:
    """The single and consecutive searches that a session is told as.

    A session with several searches is told one by one (by chance, `single_share`, from its id), else in runs of
    `max_rounds`. What follows a search that is not the session's last is a new query.
    """
    rounds = [_round(search, find_note, config, counts) for search in session.searches]
    singly = len(rounds) == 1 or rng(seed, "told singly", session.id).random() < config.single_share
    size = 1 if singly else config.max_rounds
    for first in range(0, len(rounds), size):
        told = tuple(rounds[first : first + size])
        is_last = first + size >= len(rounds)
        visit = Visit(told, session.next_action if is_last else "new_query", language_of(session), session.id, first)
        if visit.form not in config.forms:
            continue
        if any(one.readings for one in told):
            yield visit
        else:
            counts["searches_without_clicks"] += len(told)


def _round(search: Search, find_note: FindNote, config: InteractionsConfig, counts: Counts) -> Round:
    readings: dict[str, Reading] = {}
    for click in search.clicks:
        if click.note in readings:  # opened again: one visit, the times add up
            before = readings[click.note]
            readings[click.note] = Reading(before.note, before.seconds + click.seconds)
        elif (note := find_note(click.note)) is None:
            counts["clicks_on_unknown_notes"] += 1
        else:
            readings[click.note] = Reading(note, click.seconds)
    told = tuple(islice(readings.values(), config.max_clicks))
    counts["clicks_left_out"] += len(readings) - len(told)
    return Round(search.time, search.query, search.tags, told)


def click_throughs(
    searches: Iterable[StoredSearch], find_note: FindNote, config: InteractionsConfig, counts: Counts
) -> Iterator[ClickThrough]:
    """The estimates from all searches of one query in one language, which come in the order of their times."""
    for chunk in _chunks(searches, config.max_searches):
        num_users = len({search.user for search in chunk})
        if num_users < config.min_users:
            counts["queries_of_too_few_users"] += 1
            continue
        clicks: Counter[str] = Counter()
        shown: Counter[str] = Counter()
        for search in chunk:
            clicks.update(set(search.clicked))
            shown.update(search.shown)
        by_clicks = sorted(clicks, key=lambda note: (-clicks[note], shown[note], note))
        by_views = sorted(shown.keys() - clicks.keys(), key=lambda note: (-shown[note], note))
        clicked = tuple(_known(by_clicks, config.num_clicked, find_note, counts))
        not_clicked = tuple(_known(by_views, config.max_not_clicked, find_note, counts))
        if not clicked:
            counts["queries_without_clicks"] += 1
        elif not not_clicked:
            counts["queries_with_every_note_clicked"] += 1
        else:
            wordings = Counter(search.query for search in chunk)
            query = min(wordings, key=lambda text: (-wordings[text], text))
            yield ClickThrough(
                num_users,
                query,
                chunk[0].tags,
                clicked,
                not_clicked,
                chunk[0].language,
                tuple(dict.fromkeys(search.session for search in chunk)),
                chunk[0].place,
            )


def _known(identifiers: Iterable[str], count: int, find_note: FindNote, counts: Counts) -> Iterator[LoggedNote]:
    for identifier in identifiers:
        if count == 0:
            return
        note = find_note(identifier)
        if note is None:
            counts["shown_notes_unknown"] += 1
        else:
            count -= 1
            yield note


def _chunks(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
