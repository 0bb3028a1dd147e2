"""Fills every split of every task with rows, as many as asked, balanced over the classes of the task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

from megatron_redone.common.errors import InputError
from megatron_redone.common.seeding import rng
from megatron_redone.curation.synthesize import (
    extraction_rows as extraction,
    generation_rows as generation,
    matching_rows as matching,
    understanding_rows as understanding,
)
from megatron_redone.curation.synthesize.draft import Draft, Order
from megatron_redone.curation.synthesize.notes import Author
from megatron_redone.curation.synthesize.texts import LANGUAGES, ExhaustedSplitError, normalised
from megatron_redone.tasks.row import Row

SOURCE = "synthesize"
MAX_REPEATS = 500
"""Drafts in a row that may fail or repeat earlier rows before the task counts as exhausted."""
_TURNS = 720
"""Labels and places are dealt from 0..719, a multiple of every number of classes and options in use."""

ROW_MAKERS: dict[str, Callable[[Order], Draft]] = {
    "note_taxonomy_single": understanding.note_taxonomy_single,
    "query_classification": understanding.query_classification,
    "query_intent": understanding.query_intent,
    "note_security": understanding.note_security,
    "gender_sensitive_appeal": understanding.gender_sensitive_appeal,
    "hashtag_single": extraction.hashtag_single,
    "hashtag_multiple": extraction.hashtag_multiple,
    "note_ner": extraction.note_ner,
    "highlight_words": extraction.highlight_words,
    "query_note_relevance": matching.query_note_relevance,
    "question_document_match": extraction.question_document_match,
    "query_note_retrieval": matching.query_note_retrieval,
    "post_view_search": matching.post_view_search,
    "emotional_companion": generation.emotional_companion,
    "note_translation_zh_en": generation.note_translation_zh_en,
    "note_translation_en_zh": generation.note_translation_en_zh,
    "arithmetic": generation.arithmetic,
}


class TaskRows:
    """Rows of one task, none of which repeats another one's texts.

    Args:
        task: a key of `ROW_MAKERS`.
        seed: the same seed gives the same rows.
    """

    def __init__(self, task: str, seed: int) -> None:
        self.task = task
        self.seed = seed
        self._texts_seen: set[tuple[str, ...]] = set()

    def rows(self, split: str, count: int, purpose: str = "rows") -> list[Row]:
        """`count` rows, half in each language, shuffled; later calls do not repeat rows of earlier ones.

        Raises:
            InputError: the world has fewer different rows of this kind than asked for.
        """
        rows = []
        for language in LANGUAGES:
            random = rng(self.seed, purpose, self.task, split, language)
            for label, place in _deal(count // len(LANGUAGES), random):
                order = Order(Author(random, split), language, label, place)
                rows.append(self._new_row(order, f"{purpose} of the split {split!r}, {count} asked"))
        rng(self.seed, purpose, self.task, split, "order").shuffle(rows)
        return rows

    def _new_row(self, order: Order, asked: str) -> Row:
        for _ in range(MAX_REPEATS):
            try:
                draft = ROW_MAKERS[self.task](order)
            except ExhaustedSplitError:  # of the words drawn; others are drawn next
                continue
            texts = tuple(normalised(text) for text in draft.texts)
            if texts not in self._texts_seen:
                self._texts_seen.add(texts)
                return _row(self.task, order.language, draft, texts)
        raise InputError(
            f"{asked}: task {self.task!r} repeats itself in {order.language!r} after {len(self._texts_seen)} "
            "rows, and every row must be new; ask for fewer rows, or add words to the lexicon"
        )


def _deal(count: int, random: Random) -> list[tuple[int, int]]:
    """(label, place) for each row: both go round all numbers, each in an order of its own."""
    labels = [index % _TURNS for index in range(count)]
    places = [index % _TURNS for index in range(count)]
    random.shuffle(labels)
    random.shuffle(places)
    return list(zip(labels, places, strict=True))


def _row(task: str, language: str, draft: Draft, texts: tuple[str, ...]) -> Row:
    digest = hashlib.blake2b("\x1f".join((language, *texts)).encode(), digest_size=8).hexdigest()
    return Row(
        id=f"{task}-{digest}",
        task=task,
        language=language,
        fields=draft.fields,
        answer=draft.answer,
        rationale=draft.rationale,
        source=SOURCE,
    )
