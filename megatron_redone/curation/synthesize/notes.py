"""Draws texts of one split: titles, sentences, queries, comments, and notes made of them.

The atom of the splits is the sentence (or title, query, comment, message): a note is a row of sentences that
all belong to its split, so no sentence is shared between splits, not even inside a longer text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from string import Formatter

from megatron_redone.curation.synthesize import lexicon, phrases
from megatron_redone.curation.synthesize.companions import Feeling
from megatron_redone.curation.synthesize.lexicon import Subtopic
from megatron_redone.curation.synthesize.phrases import Intent
from megatron_redone.curation.synthesize.texts import Drawn, Text, draw_in_split, fill, joined


@dataclass(frozen=True, slots=True)
class Query:
    """A search: its text, the things it names and what it wants."""

    text: Text
    items: tuple[Text, ...]
    intent: Intent | None


@dataclass(frozen=True, slots=True)
class Note:
    """A note with the things that it talks about."""

    title: Text
    content: Text
    items: tuple[Text, ...]

    @property
    def subtopic(self) -> Subtopic:
        """The subtopic of its first thing."""
        return lexicon.SUBTOPIC_OF[self.items[0]]


def other_than(random: Random, pool: Sequence[Drawn], *excluded: Drawn) -> Drawn:
    """A member of the pool that is none of `excluded`."""
    return random.choice([member for member in pool if member not in excluded])


_POOLS: Mapping[str, Sequence[Text]] = {
    "w": lexicon.ITEMS,
    "v": lexicon.ITEMS,
    "a": lexicon.ADJECTIVES,
    "t": lexicon.TIMES,
    "b": lexicon.BRANDS,
    "p": lexicon.PLACES,
    "n": lexicon.PEOPLE,
}


def _fill(random: Random, frames: Sequence[Text], pools: Mapping[str, Sequence[Text]]) -> Text:
    """One of the frames, each of its slots filled with a member of its pool."""
    frame = random.choice(frames)
    slots = [name for _, name, _, _ in Formatter().parse(frame.en) if name]
    return fill(frame, **{name: random.choice(pools.get(name) or _POOLS[name]) for name in slots})


class Author:
    """Writes texts of one split.

    Args:
        random: source of all choices.
        split: every sentence, title, query, comment and message written belongs to it.
    """

    def __init__(self, random: Random, split: str) -> None:
        self.random = random
        self.split = split

    def from_frames(self, frames: Sequence[Text], **pools: Sequence[Text]) -> Text:
        """A sentence of one of the frames; `pools` narrows what may fill a slot."""
        return self._drawn(lambda random: _fill(random, frames, pools), lambda text: text)

    def _drawn(self, draw: Callable[[Random], Drawn], text_of: Callable[[Drawn], Text]) -> Drawn:
        return draw_in_split(draw, text_of, self.random, self.split)

    def subtopic(self, *excluded: Subtopic) -> Subtopic:
        """A subtopic none of whose topics is that of `excluded`."""
        topics = {subtopic.topic for subtopic in excluded}
        return self.random.choice([subtopic for subtopic in lexicon.SUBTOPICS if subtopic.topic not in topics])

    def items(self, subtopic: Subtopic, count: int, *excluded: Text) -> tuple[Text, ...]:
        """`count` different things of a subtopic."""
        return tuple(self.random.sample([item for item in subtopic.items if item not in excluded], count))

    def title(self, items: Sequence[Text]) -> Text:
        """A title about one of the things."""
        return self.from_frames(phrases.TITLES, w=items)

    def sentence(self, item: Text) -> Text:
        """A plain sentence about a thing."""
        return self.from_frames(phrases.SENTENCES, w=[item])

    def note(self, items: Sequence[Text], *last: Text) -> Note:
        """A note with a sentence for each of the things, and `last` behind them."""
        sentences = [self.sentence(item) for item in items]
        return Note(self.title(items), joined(*sentences, *last), tuple(items))

    def topical_note(self, subtopic: Subtopic, *excluded: Text) -> Note:
        """A note about two things of a subtopic."""
        return self.note(self.items(subtopic, 2, *excluded))

    def query(self, pool: Sequence[Text], intent: Intent | None = None) -> Query:
        """A query about a thing of the pool; a third of them adds for whom or when.

        What is held out is the wish and the thing together: the addition does not make it another text.
        """

        def draw(random: Random) -> Query:
            wish = intent or random.choice(phrases.INTENTS)
            item = random.choice(pool)
            return Query(fill(random.choice(wish.queries), w=item), (item,), wish)

        query = self._drawn(draw, lambda drawn: drawn.text)
        return Query(self._for_audience(query.text), query.items, query.intent)

    def double_query(self, first: Subtopic, second: Subtopic) -> Query:
        """A query that names a thing of each of two subtopics."""

        def draw(random: Random) -> Query:
            items = (random.choice(first.items), random.choice(second.items))
            ordered = items if random.random() < 0.5 else items[::-1]
            return Query(
                Text(f"{ordered[0].en} or {ordered[1].en}", f"{ordered[0].zh}或者{ordered[1].zh}"),
                items,
                None,
            )

        query = self._drawn(draw, lambda drawn: drawn.text)
        return Query(self._for_audience(query.text), query.items, None)

    def _for_audience(self, query: Text) -> Text:
        if self.random.random() < 2 / 3:
            return query
        audience = self.random.choice(lexicon.AUDIENCES)
        return Text(f"{query.en} {audience.en}", f"{audience.zh}{query.zh}")

    def next_search(self, intent: Intent) -> tuple[Text, Text]:
        """(query, thing): the query that a comment of this intent leads to, and the thing it is about."""

        def draw(random: Random) -> tuple[Text, Text]:
            item = random.choice(lexicon.ITEMS)
            return fill(intent.queries[0], w=item), item

        return self._drawn(draw, lambda drawn: drawn[0])

    def question(self, intent: Intent) -> tuple[Text, Text]:
        """(question, thing): a question of this intent, and the thing it is about."""

        def draw(random: Random) -> tuple[Text, Text]:
            item = random.choice(lexicon.ITEMS)
            return fill(random.choice(intent.questions), w=item), item

        return self._drawn(draw, lambda drawn: drawn[0])

    def gender_remark(self, appeal: bool, gendered: bool, items: Sequence[Text]) -> Text:
        """A sentence that does or does not bar a group of people, gendered or not, from one of the things."""
        frames = phrases.GENDER_APPEALS if appeal else phrases.GROUP_REMARKS
        groups = lexicon.GENDERED_GROUPS if gendered else lexicon.PLAIN_GROUPS
        return self.from_frames(frames, g=groups, w=items)

    def names_sentence(self, frames: Sequence[Text]) -> Text:
        """A sentence with names; where it names two of a type, they differ."""

        def draw(random: Random) -> Text:
            brands, places, people = (random.sample(pool, 2) for pool in lexicon.NAMES_BY_TYPE.values())
            names = {"b": brands, "p": places, "n": people}
            first = {slot: [pair[0]] for slot, pair in names.items()}
            second = {f"{slot}2": [pair[1]] for slot, pair in names.items()}
            return _fill(random, frames, first | second)

        return self._drawn(draw, lambda text: text)

    def comment(self, count: int) -> tuple[Text, tuple[Text, ...]]:
        """(comment, things): a comment that names 0, 1 or 2 things."""

        def draw(random: Random) -> tuple[Text, tuple[Text, ...]]:
            items = tuple(random.sample(lexicon.ITEMS, count))
            pools = {slot: [item] for slot, item in zip("wv", items, strict=False)}
            return _fill(random, phrases.COMMENTS[count], pools), items

        return self._drawn(draw, lambda drawn: drawn[0])

    def message(self, feeling: Feeling) -> Text:
        """What somebody with this feeling writes."""
        return self.from_frames(feeling.messages)
