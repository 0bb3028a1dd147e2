"""The part of the quickstart's corpus that interaction ties together: a generated log, told in the three forms.

The log and the forms are those of `curation/interactions`; only the sizes and the terse wording are the quickstart's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from megatron_redone.common.errors import InputError
from megatron_redone.curation.interactions.config import InteractionsConfig, TrafficConfig
from megatron_redone.curation.interactions.documents import click_through_document, visit_document
from megatron_redone.curation.interactions.forms import click_throughs, visits
from megatron_redone.curation.interactions.log import LoggedNote, Session
from megatron_redone.curation.interactions.store import InteractionStore
from megatron_redone.curation.interactions.synthesis import SESSIONS, keep_searches
from megatron_redone.curation.interactions.traffic import Platform
from megatron_redone.curation.synthesize.texts import LANGUAGES, normalised

FORMS = ("single_search", "consecutive_searches", "click_through")
_ONE_SENTENCE_TOKENS = 9
_SINGLE = InteractionsConfig(style="compact", forms=("single_search",), single_share=1, max_clicks=2)
_CONSECUTIVE = InteractionsConfig(
    style="compact",
    forms=("consecutive_searches",),
    single_share=0,
    max_rounds=2,
    max_clicks=1,
    max_content_tokens=_ONE_SENTENCE_TOKENS,
)
_CLICK_THROUGH = InteractionsConfig(
    style="compact",
    forms=("click_through",),
    max_not_clicked=1,
    max_searches=10,
    max_content_tokens=_ONE_SENTENCE_TOKENS,
)


@dataclass(frozen=True)
class InteractionCorpus:
    """A log, the notes it names, and documents made of it."""

    sessions: tuple[Session, ...]
    notes: tuple[LoggedNote, ...]
    documents: tuple[dict[str, Any], ...]


def interaction_corpus(seed: int, sizes: Mapping[str, int], count: int) -> InteractionCorpus:
    """As many documents of each form as `sizes` says, half English, half Chinese, no two alike.

    Args:
        count: documents of the whole corpus, which the size of the log follows.

    Raises:
        InputError: the log has too few sessions of a kind.
    """
    if not any(sizes.values()):
        return InteractionCorpus((), (), ())
    config = TrafficConfig(
        num_notes=max(300, count // 2),
        num_queries=min(2_000, max(10, count // 12)),
        num_users=max(50, count // 4),
        num_sessions=max(400, 5 * count // 4),
    )
    platform = Platform(config, seed)
    notes = {note.id: note for note in platform.notes()}
    sessions = tuple(platform.session(number) for number in range(config.num_sessions))
    wanted = {
        (form, language): sizes[form] // 2 + (language == LANGUAGES[0]) * (sizes[form] % 2)
        for form in FORMS
        for language in LANGUAGES
    }
    chosen: list[dict[str, Any]] = []
    seen: set[str] = set()
    for document in _told(sessions, notes, seed, wanted):
        kind, key = (document["form"], document["language"]), normalised(document["text"])
        if wanted[kind] and key not in seen:
            seen.add(key)
            wanted[kind] -= 1
            chosen.append(document)
    short = {" ".join(kind): number for kind, number in wanted.items() if number}
    if short:
        raise InputError(
            f"corpus_documents={count}: a log of {len(sessions)} sessions lacks documents ({short}); ask for fewer"
        )
    return InteractionCorpus(sessions, tuple(notes.values()), tuple(chosen))


def _told(
    sessions: tuple[Session, ...], notes: Mapping[str, LoggedNote], seed: int, wanted: Mapping[tuple[str, str], int]
) -> Iterator[dict[str, Any]]:
    """All documents: sessions of several searches as consecutive ones while those are wanted, else as single ones."""
    with InteractionStore(None) as store:
        for line, session in enumerate(sessions, start=1):
            place = f"{SESSIONS}.jsonl:{line}"
            keep_searches(session, place, store)
            language = session.language or "en"
            in_a_row = len(session.searches) > 1 and wanted["consecutive_searches", language]
            config = _CONSECUTIVE if in_a_row else _SINGLE
            if in_a_row or wanted["single_search", language]:
                for visit in visits(session, notes.get, config, seed, Counter()):
                    yield visit_document(visit, place, config, seed)
        for searches in store.searches_by_query():
            for estimate in click_throughs(searches, notes.get, _CLICK_THROUGH, Counter()):
                yield click_through_document(estimate, _CLICK_THROUGH, seed)
