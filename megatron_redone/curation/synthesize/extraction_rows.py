"""Rows of information extraction: hashtags, names, highlight words, documents that answer."""

from __future__ import annotations

import re

from megatron_redone.curation.synthesize.draft import NO, YES, Draft, Order, placed, worded
from megatron_redone.curation.synthesize.lexicon import (
    ADJECTIVES,
    ENTITY_TYPES,
    ITEMS,
    NAMES_BY_TYPE,
    PEOPLE,
    SUBTOPICS,
    TIMES,
)
from megatron_redone.curation.synthesize.notes import other_than
from megatron_redone.curation.synthesize.phrases import (
    DOUBLE_NAME_SENTENCES,
    INTENTS,
    NAME_SENTENCES,
)
from megatron_redone.curation.synthesize.texts import Text

NUM_OPTIONS = 4
_PLAIN_WORDS = (*ADJECTIVES, *TIMES, *PEOPLE)


def hashtag_single(order: Order) -> Draft:
    """The hashtag of a note's subtopic; one of the wrong ones belongs to the other subtopic of its topic."""
    right = SUBTOPICS[order.label % len(SUBTOPICS)]
    sibling = next(other for other in SUBTOPICS if other.topic == right.topic and other != right)
    far = [other for other in SUBTOPICS if other.topic != right.topic]
    others = [sibling, *order.author.random.sample(far, NUM_OPTIONS - 2)]
    order.author.random.shuffle(others)
    note = order.author.topical_note(right)
    title, content = note.title.of(order.language), note.content.of(order.language)
    candidates = [option.hashtag.of(order.language) for option in placed(right, others, order.place)]
    fields = {"title": title, "content": content, "candidates": candidates}
    return Draft(fields, right.hashtag.of(order.language), (title, content))


def hashtag_multiple(order: Order) -> Draft:
    """The hashtags of both subtopics of a note, or of the only one (two notes in three)."""
    author = order.author
    first = SUBTOPICS[order.label % len(SUBTOPICS)]
    second = author.subtopic(first) if author.random.random() < 1 / 3 else first
    items = author.items(first, 2) if second is first else (*author.items(first, 1), *author.items(second, 1))
    note = author.note(items)
    right = list(dict.fromkeys((first, second)))
    wrong = author.random.sample([other for other in SUBTOPICS if other not in right], NUM_OPTIONS - len(right))
    options = placed(first, author.random.sample([*right[1:], *wrong], NUM_OPTIONS - 1), order.place)
    title, content = note.title.of(order.language), note.content.of(order.language)
    candidates = [option.hashtag.of(order.language) for option in options]
    answer = [option.hashtag.of(order.language) for option in options if option in right]
    return Draft({"title": title, "content": content, "candidates": candidates}, answer, (title, content))


def note_ner(order: Order) -> Draft:
    """The names of the asked type in a sentence that has names of every type; two of it in a row of four."""
    kind = ENTITY_TYPES[order.label % len(ENTITY_TYPES)]
    frames = DOUBLE_NAME_SENTENCES[kind.en] if order.author.random.random() < 1 / 4 else NAME_SENTENCES
    content = order.author.names_sentence(frames).of(order.language)
    spans = [name for name in worded(NAMES_BY_TYPE[kind], order.language) if name in content]
    spans.sort(key=content.index)
    return Draft({"entity_type": kind.of(order.language), "content": content}, spans, (content,))


def highlight_words(order: Order) -> Draft:
    """The candidates that a comment names and that are things to search for; none in one row of five."""
    author, language = order.author, order.language
    count = (0, 1, 1, 2, 2)[order.label % 5]
    comment, items = author.comment(count)
    plain = [word for word in _PLAIN_WORDS if word.en in re.findall(r"\w+", comment.en)]
    wrong = author.random.sample(plain, min(len(plain), NUM_OPTIONS - 1 - count))
    absent = [item for item in ITEMS if item not in items]
    wrong += author.random.sample(absent, NUM_OPTIONS - count - len(wrong))
    options = [*items, *wrong]
    author.random.shuffle(options)
    text = comment.of(language)
    answer = [option.of(language) for option in options if option in items]
    return Draft({"comment": text, "candidates": worded(options, language)}, answer, (text,))


def question_document_match(order: Order) -> Draft:
    """Yes where the document is about the asked thing and tells what is asked about it; half the rows."""
    author = order.author
    intent = author.random.choice(INTENTS)
    question, item = author.question(intent)
    told, thing = intent, item
    if order.label % 4 == 1:
        told = other_than(author.random, INTENTS, intent)
    if order.label % 4 == 3:
        thing = other_than(author.random, ITEMS, item)
    document = author.from_frames(told.documents, w=[thing])
    texts: tuple[Text, Text] = (question, document)
    fields = dict(zip(("question", "document"), worded(texts, order.language), strict=True))
    answer = YES if (told, thing) == (intent, item) else NO
    return Draft(dict(fields), answer.of(order.language), tuple(fields.values()))
