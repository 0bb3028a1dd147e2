"""A generated interaction log: users of the invented platform who search, click by position, read and rephrase.

Notes and queries are those of `synthesize`'s world and belong to its split "train". What a user meets:

- Queries, users and notes are drawn by Zipf's law.
- A page shows the notes that fit the query best, with some noise; relevance falls from the very thing of the query over
  its subtopic to another topic and to advertisements.
- Position model of clicks (Richardson et al., 2007): P(click at place k) = k^-eta * attraction(relevance).
- Reading times are log-normal, longer for relevant notes.
- Who found nothing rephrases or goes elsewhere; who did reads on or leaves.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from math import log
from random import Random

from megatron_redone.common.errors import InputError
from megatron_redone.common.seeding import rng
from megatron_redone.curation.interactions.config import TrafficConfig
from megatron_redone.curation.interactions.log import Click, LoggedNote, NextAction, Search, Session
from megatron_redone.curation.synthesize import lexicon, phrases
from megatron_redone.curation.synthesize.lexicon import SUBTOPIC_OF
from megatron_redone.curation.synthesize.notes import Author, Note, Query
from megatron_redone.curation.synthesize.texts import LANGUAGES, ExhaustedSplitError, Text, normalised

SPLIT = "train"
_FIRST_DAY = datetime(2025, 1, 1)
_DAYS = 90
_HOUR_WEIGHTS = (1, 1, 0, 0, 0, 0, 1, 3, 4, 3, 3, 4, 6, 4, 3, 3, 3, 4, 5, 6, 8, 9, 7, 3)
"""Searches by hour of the day: few at night, most in the evening."""
_RELEVANCE = {"same thing": 1.0, "same subtopic": 0.5, "same topic": 0.25, "other": 0.1, "advert": 0.0}
_SATISFYING_RELEVANCE, _SATISFYING_SECONDS = 0.9, 15.0
_SHORTEST_MEDIAN_SECONDS, _LONGEST_MEDIAN_SECONDS = 5.0, 45.0
_MAX_DRAWS = 1_000
_MAX_REPEATS = 2_000
"""Known queries in a row after which no new one is hoped for."""
_ADVERT = Text("advert", "广告")


class Zipf:
    """Draws a place 0..n-1 with probability proportional to (place + 1)^-exponent, for any n up to `largest`."""

    def __init__(self, largest: int, exponent: float) -> None:
        self._ends = list(accumulate((place + 1) ** -exponent for place in range(largest)))

    def draw(self, count: int, random: Random) -> int:
        """A place below `count`."""
        return bisect_left(self._ends, random.random() * self._ends[count - 1], hi=count - 1)


@dataclass(frozen=True)
class _PostedNote:
    number: int
    note: Note
    is_advert: bool

    def identifier(self, language: str) -> str:
        return f"note-{language}-{self.number:06d}"

    def logged(self, language: str) -> LoggedNote:
        subtopic = self.note.subtopic
        labels = (_ADVERT,) if self.is_advert else (subtopic.category, subtopic.hashtag)
        return LoggedNote(
            id=self.identifier(language),
            title=self.note.title.of(language),
            content=self.note.content.of(language),
            tags=tuple(label.of(language) for label in labels),
        )


class Platform:
    """Notes and queries of one generated platform, and the sessions of its users.

    Every session is a function of (seed, its number), so logs can be written in parts and in any order.
    """

    def __init__(self, config: TrafficConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._posted = self._post_notes()
        self._queries = self._draw_queries()
        self._by_item: dict[Text, list[_PostedNote]] = {item: [] for item in lexicon.ITEMS}
        self._adverts: dict[Text, list[_PostedNote]] = {item: [] for item in lexicon.ITEMS}
        for posted in self._posted:
            (self._adverts if posted.is_advert else self._by_item)[posted.note.items[0]].append(posted)
        self._queries_on: dict[Text, list[Query]] = {item: [] for item in lexicon.ITEMS}
        for query in self._queries:
            self._queries_on[query.items[0]].append(query)
        self._zipf = Zipf(max(config.num_notes, config.num_queries, config.num_users), config.zipf_exponent)

    def notes(self) -> Iterator[LoggedNote]:
        """All notes."""
        for language in LANGUAGES:
            for posted in self._posted:
                yield posted.logged(language)

    def sessions(self) -> Iterator[Session]:
        """All sessions."""
        for number in range(self.config.num_sessions):
            yield self.session(number)

    def session(self, number: int) -> Session:
        """The session of a number: English for even ones, Chinese for odd ones."""
        random = rng(self.seed, "session", number)
        language = LANGUAGES[number % len(LANGUAGES)]
        time = self._start(random)
        query = self._queries[self._zipf.draw(len(self._queries), random)]
        searches: list[Search] = []
        while True:
            search, satisfied = self._search(query, language, time, random)
            searches.append(search)
            time += timedelta(
                seconds=5 + round(sum(click.seconds for click in search.clicks) + random.expovariate(0.1))
            )
            goes_on = random.random() < (0.15 if satisfied else 0.7)
            if not goes_on or len(searches) == self.config.max_searches:
                break
            query = self._next_query(query, satisfied, random)
        return Session(
            id=f"session-{number:07d}",
            user=f"user-{self._zipf.draw(self.config.num_users, random):05d}",
            language="en" if language == "en" else "zh",
            searches=tuple(searches),
            next_action=_last_action(satisfied, random),
        )

    def _start(self, random: Random) -> datetime:
        (hour,) = random.choices(range(24), _HOUR_WEIGHTS)
        return _FIRST_DAY + timedelta(
            days=random.randrange(_DAYS), hours=hour, minutes=random.randrange(60), seconds=random.randrange(60)
        )

    def _search(self, query: Query, language: str, time: datetime, random: Random) -> tuple[Search, bool]:
        page = self._page(query, random)
        clicks, satisfied = [], False
        for place, (posted, relevance) in enumerate(page, start=1):
            looked_at = random.random() < place**-self.config.examination_exponent
            if looked_at and random.random() < 0.9 * relevance + 0.02:
                seconds = self._reading_seconds(relevance, random)
                clicks.append(Click(note=posted.identifier(language), seconds=seconds))
                satisfied |= relevance >= _SATISFYING_RELEVANCE and seconds >= _SATISFYING_SECONDS
                if satisfied and random.random() < 0.5:
                    break
        assert query.intent is not None
        category = SUBTOPIC_OF[query.items[0]].category
        search = Search(
            time=time,
            query=query.text.of(language),
            shown=tuple(posted.identifier(language) for posted, _ in page),
            clicks=tuple(clicks),
            tags=(category.of(language), query.intent.name.of(language)),
        )
        return search, satisfied

    def _reading_seconds(self, relevance: float, random: Random) -> float:
        ratio = _LONGEST_MEDIAN_SECONDS / _SHORTEST_MEDIAN_SECONDS
        median = _SHORTEST_MEDIAN_SECONDS * ratio**relevance
        return round(random.lognormvariate(log(median), self.config.reading_sigma), 1)

    def _page(self, query: Query, random: Random) -> list[tuple[_PostedNote, float]]:
        """Notes of every degree of relevance, the best guesses of an imperfect search engine on top."""
        (item,) = query.items
        own = SUBTOPIC_OF[item]
        of_topic = [subtopic for subtopic in lexicon.SUBTOPICS if subtopic.topic == own.topic and subtopic != own]
        sources: list[tuple[str, Sequence[Text]]] = [("same thing", [item])] * 3
        sources += [("same subtopic", [other for other in own.items if other != item])] * 2
        sources += [
            ("same topic", [other for subtopic in of_topic for other in subtopic.items]),
            ("other", lexicon.ITEMS),
        ]
        sources += [("advert", own.items)]
        found: dict[int, tuple[float, _PostedNote, float]] = {}
        for place in range(3 * self.config.num_shown):
            degree, items = sources[place % len(sources)]
            pool = (self._adverts if degree == "advert" else self._by_item)[random.choice(items)]
            if not pool:
                continue
            posted = pool[self._zipf.draw(len(pool), random)]
            relevance = _relevance(posted, item)
            found.setdefault(posted.number, (relevance + random.gauss(0, self.config.ranking_noise), posted, relevance))
            if len(found) == self.config.num_shown:
                break
        ranked = sorted(found.values(), key=lambda entry: (-entry[0], entry[1].number))
        return [(posted, relevance) for _, posted, relevance in ranked]

    def _next_query(self, query: Query, satisfied: bool, random: Random) -> Query:
        """The same thing in other words, or after success most often another thing."""
        alike = [other for other in self._queries_on[query.items[0]] if other.text != query.text]
        if alike and random.random() < (0.2 if satisfied else 0.85):
            return random.choice(alike)
        return self._queries[self._zipf.draw(len(self._queries), random)]

    def _post_notes(self) -> list[_PostedNote]:
        return [self._post(number) for number in range(self.config.num_notes)]

    def _post(self, number: int) -> _PostedNote:
        """A note on a thing, mostly with a second sentence; an advertisement has one sentence."""
        author = Author(rng(self.seed, "posted note", number), SPLIT)
        for _ in range(_MAX_DRAWS):
            item = lexicon.ITEMS[number % len(lexicon.ITEMS)]
            try:
                if author.random.random() < self.config.advert_share:
                    content = author.from_frames(phrases.ADVERTISING, w=[item])
                    return _PostedNote(number, Note(author.title([item]), content, (item,)), True)
                others = author.items(SUBTOPIC_OF[item], author.random.choice((0, 1, 1)), item)
                return _PostedNote(number, author.note((item, *others)), False)
            except ExhaustedSplitError:
                continue
        raise AssertionError("every thing of the lexicon has notes in every split")

    def _draw_queries(self) -> list[Query]:
        random, found, repeats = rng(self.seed, "queries"), dict[str, Query](), 0
        author = Author(random, SPLIT)
        while len(found) < self.config.num_queries and repeats < _MAX_REPEATS:
            try:
                query = author.query([random.choice(lexicon.ITEMS)])
            except ExhaustedSplitError:
                continue
            repeats = repeats + 1 if normalised(query.text.en) in found else 0
            found.setdefault(normalised(query.text.en), query)
        if len(found) < self.config.num_queries:
            raise InputError(
                f"num_queries={self.config.num_queries} is more than the invented world has (about {len(found):,}); "
                "lower it"
            )
        return list(found.values())


def _relevance(posted: _PostedNote, item: Text) -> float:
    """How well a note fits a query about a thing, 0..1."""
    if posted.is_advert:
        return _RELEVANCE["advert"]
    if item in posted.note.items:
        return _RELEVANCE["same thing"]
    own, asked = posted.note.subtopic, SUBTOPIC_OF[item]
    if own == asked:
        return _RELEVANCE["same subtopic"]
    return _RELEVANCE["same topic" if own.topic == asked.topic else "other"]


def _last_action(satisfied: bool, random: Random) -> NextAction:
    actions: Sequence[NextAction] = ("more_notes", "left") if satisfied else ("new_query", "other_page")
    return random.choice(actions)
