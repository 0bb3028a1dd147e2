"""Worded documents: what a visit or a click-through estimate reads like as a text of the pretraining corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from megatron_redone.common.seeding import rng
from megatron_redone.curation.interactions.config import InteractionsConfig
from megatron_redone.curation.interactions.forms import ClickThrough, Round, Visit
from megatron_redone.curation.interactions.log import LoggedNote
from megatron_redone.curation.interactions.wordings import (
    CLICK_THROUGHS,
    VISITS,
    ClickThroughWording,
    VisitWording,
    duration,
    time_slots,
)
from megatron_redone.curation.segments import first_segment


def visit_document(visit: Visit, place: str, config: InteractionsConfig, seed: int) -> dict[str, Any]:
    """A single search or consecutive searches as a document.

    Args:
        place: `file:line` of the session.

    Returns:
        id, text, form, language, source (`place`), made_of (the session's id), notes (ids of the notes told).
    """
    identifier = _identifier(visit.form, visit.session, str(visit.first_round), str(len(visit.rounds)))
    wordings = VISITS[config.style, visit.language]
    wording = wordings[rng(seed, "wording", identifier).randrange(len(wordings))]
    parts = [part for number, one in enumerate(visit.rounds) for part in _round(one, number, visit, wording, config)]
    text = wording.border.join([*parts, wording.actions[visit.next_action]])
    notes = [reading.note.id for one in visit.rounds for reading in one.readings]
    return _document(identifier, text, visit.form, visit.language, place, [visit.session], notes)


def _round(told: Round, number: int, visit: Visit, wording: VisitWording, config: InteractionsConfig) -> Iterator[str]:
    if number == 0:
        opening = wording.opening if told.readings else wording.opening_unread
    else:
        opening = wording.later if told.readings else wording.later_unread
    yield opening.format(
        **time_slots(told.time, visit.language),
        query=told.query,
        tags=_tags(told.tags, wording),
    )
    for place, reading in enumerate(told.readings, start=1):
        template = wording.note if reading.note.title.strip() else wording.untitled
        yield template.format(
            place=place,
            title=reading.note.title.strip(),
            content=_content(reading.note, wording, config),
            seconds=duration(reading.seconds, visit.language),
        )


def click_through_document(estimate: ClickThrough, config: InteractionsConfig, seed: int) -> dict[str, Any]:
    """A click-through estimate as a document; the fields are those of `visit_document`.

    `made_of` holds the ids of all sessions that were counted, `source` the `file:line` of the first.
    """
    identifier = _identifier("click_through", estimate.language, estimate.query, *estimate.sessions)
    wordings = CLICK_THROUGHS[config.style, estimate.language]
    wording = wordings[rng(seed, "wording", identifier).randrange(len(wordings))]
    tags = _tags(estimate.tags, wording)
    parts = [wording.opening.format(users=estimate.num_users, query=estimate.query, tags=tags)]
    for heading, notes in ((wording.clicked, estimate.clicked), (wording.not_clicked, estimate.not_clicked)):
        parts += [heading, *_notes(notes, wording, config)]
    told = [note.id for note in (*estimate.clicked, *estimate.not_clicked)]
    return _document(
        identifier,
        wording.border.join(parts),
        "click_through",
        estimate.language,
        estimate.first_place,
        list(estimate.sessions),
        told,
    )


def _notes(notes: Sequence[LoggedNote], wording: ClickThroughWording, config: InteractionsConfig) -> Iterator[str]:
    for place, note in enumerate(notes, start=1):
        template = wording.note if note.title.strip() else wording.untitled
        yield template.format(place=place, title=note.title.strip(), content=_content(note, wording, config))


def _content(note: LoggedNote, wording: VisitWording | ClickThroughWording, config: InteractionsConfig) -> str:
    return first_segment(note.content, config.max_content_tokens) + _tags(note.tags, wording)


def _tags(tags: Sequence[str], wording: VisitWording | ClickThroughWording) -> str:
    return wording.tags.format(tags=wording.tag_border.join(tags)) if tags else ""


def _identifier(form: str, *parts: str) -> str:
    """The form and a hash of what the document is made of: equal logs give equal ids, whatever the wording."""
    content = "".join(f"{len(part)}:{part}," for part in parts)
    return f"{form}-{hashlib.blake2b(content.encode(), digest_size=8).hexdigest()}"


def _document(
    identifier: str, text: str, form: str, language: str, source: str, made_of: list[str], notes: list[str]
) -> dict[str, Any]:
    return {
        "id": identifier,
        "text": text,
        "form": form,
        "language": language,
        "source": source,
        "made_of": made_of,
        "notes": notes,
    }
