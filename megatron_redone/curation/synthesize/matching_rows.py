"""Rows of semantic matching and of user behaviour: which note a query means, which query follows a note."""

from __future__ import annotations

from megatron_redone.curation.synthesize.draft import Draft, Order, placed, worded
from megatron_redone.curation.synthesize.lexicon import SUBTOPIC_OF, SUBTOPICS
from megatron_redone.curation.synthesize.notes import Author, Query
from megatron_redone.curation.synthesize.phrases import ADVERTISING, COMMENTS, INTENTS
from megatron_redone.curation.synthesize.texts import Text, joined

LEVELS = (-1, 0, 1, 2, 3)
NUM_NOTES = 3


def graded_note(author: Author, query: Query, level: int) -> Text:
    """A note that fits a query at a level.

    3: it names the thing of the query. 2: other things of the same subtopic. 1: things of the other subtopic
    of the topic. 0: things of another topic. -1: an advertisement, whatever it names.
    """
    (item,) = query.items
    own = SUBTOPIC_OF[item]
    if level == -1:
        return joined(author.sentence(item), author.from_frames(ADVERTISING, w=own.items))
    if level == 3:
        items = author.random.sample((item, *author.items(own, 1, item)), 2)
        return joined(*(author.sentence(named) for named in items))
    sibling = next(other for other in SUBTOPICS if other.topic == own.topic and other != own)
    subtopic = {2: own, 1: sibling}.get(level) or author.subtopic(own)
    return joined(*(author.sentence(named) for named in author.items(subtopic, 2, item)))


def query_note_relevance(order: Order) -> Draft:
    """The level at which a note fits a query."""
    level = LEVELS[order.label % len(LEVELS)]
    query = order.author.query(order.author.subtopic().items)
    note = graded_note(order.author, query, level)
    texts = (query.text.of(order.language), note.of(order.language))
    return Draft({"query": texts[0], "note": texts[1]}, level, texts)


def query_note_retrieval(order: Order) -> Draft:
    """The letter of the one note that names the thing of the query."""
    author = order.author
    query = author.query(author.subtopic().items)
    (item,) = query.items
    own = SUBTOPIC_OF[item]
    others = [author.sentence(*author.items(author.subtopic(own), 1)) for _ in range(NUM_NOTES - 1)]
    notes = worded(placed(author.sentence(item), others, order.label), order.language)
    text = query.text.of(order.language)
    return Draft({"query": text, "notes": notes}, "ABC"[order.label % NUM_NOTES], (text, *notes))


def post_view_search(order: Order) -> Draft:
    """The query that the one asking comment under a note leads to: its wish, and the thing that it names."""
    author, language = order.author, order.language
    intent = INTENTS[order.label % len(INTENTS)]
    query, item = author.next_search(intent)
    own = SUBTOPIC_OF[item]
    note = author.note((item, *author.items(own, 1, item)))
    asking = author.from_frames(intent.comments, w=[item])
    comments = worded(placed(asking, [author.from_frames(COMMENTS[0])], order.place), language)
    fields = {
        "title": note.title.of(language),
        "content": note.content.of(language),
        "labels": worded([own.topic, own.name], language),
        "comments": comments,
    }
    return Draft(fields, query.of(language), (note.title.of(language), note.content.of(language), *comments))
