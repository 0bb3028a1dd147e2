"""Rows of content understanding: what a note or a query is about, wants, or does wrong."""

from __future__ import annotations

from megatron_redone.curation.synthesize.draft import NO, YES, Draft, Order, placed, worded
from megatron_redone.curation.synthesize.lexicon import ITEMS, SUBTOPICS, TOPICS
from megatron_redone.curation.synthesize.notes import Note
from megatron_redone.curation.synthesize.phrases import INTENTS, SECURITY
from megatron_redone.curation.synthesize.texts import joined

NUM_OPTIONS = 4
_SHARE_OF_DOUBLE_QUERIES = 0.3


def note_taxonomy_single(order: Order) -> Draft:
    """The topic of a note whose words all belong to it."""
    topic = TOPICS[order.label % len(TOPICS)]
    subtopic = order.author.random.choice([member for member in SUBTOPICS if member.topic == topic])
    note = order.author.topical_note(subtopic)
    others = order.author.random.sample([other for other in TOPICS if other != topic], NUM_OPTIONS - 1)
    candidates = worded(placed(topic, others, order.place), order.language)
    return _note_draft(note, order.language, {"candidates": candidates}, topic.of(order.language))


def query_classification(order: Order) -> Draft:
    """The categories of a query: one for each thing that it names."""
    author, random = order.author, order.author.random
    first = SUBTOPICS[order.label % len(SUBTOPICS)]
    if random.random() < _SHARE_OF_DOUBLE_QUERIES:
        second = author.subtopic(first)
        query, right = author.double_query(first, second), [first, second]
    else:
        query, right = author.query(first.items), [first]
    wrong = random.sample([other for other in SUBTOPICS if other not in right], NUM_OPTIONS - len(right))
    options = placed(first, random.sample([*right[1:], *wrong], NUM_OPTIONS - 1), order.place)
    answer = [option.category.of(order.language) for option in options if option in right]
    text = query.text.of(order.language)
    categories = [option.category.of(order.language) for option in options]
    return Draft({"query": text, "categories": categories}, answer, (text,))


def query_intent(order: Order) -> Draft:
    """What a query wants, told by the words around the thing it names."""
    intent = INTENTS[order.label % len(INTENTS)]
    query = order.author.query(ITEMS, intent).text.of(order.language)
    others = order.author.random.sample([other for other in INTENTS if other is not intent], NUM_OPTIONS - 1)
    names = [option.name.of(order.language) for option in placed(intent, others, order.place)]
    return Draft({"query": query, "intents": names}, intent.name.of(order.language), (query,))


def note_security(order: Order) -> Draft:
    """The moderation class of a note, told by its second sentence."""
    right = SECURITY[order.label % len(SECURITY)]
    others = [other for other in SECURITY if other is not right]
    order.author.random.shuffle(others)
    items = order.author.subtopic().items
    told = order.author.from_frames(right.frames, w=items)
    note = order.author.note([order.author.random.choice(items)], told)
    labels = [option.label.of(order.language) for option in placed(right, others, order.place)]
    return _note_draft(note, order.language, {"labels": labels}, right.label.of(order.language))


def gender_sensitive_appeal(order: Order) -> Draft:
    """Yes where a group is barred and the group is one of gender; one of the two alone is a No."""
    appeal, gendered = ((True, True), (True, False), (True, True), (False, True))[order.label % 4]
    subtopic = order.author.subtopic()
    remark = order.author.gender_remark(appeal, gendered, subtopic.items)
    note = Note(order.author.title(subtopic.items), joined(remark), subtopic.items)
    answer = YES if appeal and gendered else NO
    return _note_draft(note, order.language, {}, answer.of(order.language))


def _note_draft(note: Note, language: str, more: dict[str, list[str]], answer: str) -> Draft:
    title, content = note.title.of(language), note.content.of(language)
    return Draft({"title": title, "content": content, **more}, answer, (title, content))
