"""The generated log behaves as logs do: few queries are frequent, tops are clicked, relevant notes are read longer."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.curation.interactions.config import TrafficConfig
from megatron_redone.curation.interactions.log import LoggedNote, Session
from megatron_redone.curation.interactions.traffic import Platform
from megatron_redone.curation.synthesize import lexicon


@pytest.fixture(scope="module")
def platform() -> Platform:
    return Platform(TrafficConfig(num_notes=600, num_queries=600, num_sessions=1_500), seed=3)


@pytest.fixture(scope="module")
def sessions(platform: Platform) -> list[Session]:
    return list(platform.sessions())


@pytest.fixture(scope="module")
def notes(platform: Platform) -> dict[str, LoggedNote]:
    return {note.id: note for note in platform.notes()}


def test_a_session_is_a_function_of_seed_and_number(platform: Platform, sessions: list[Session]) -> None:
    again = Platform(platform.config, seed=3)
    assert [again.session(number) for number in (40, 3)] == [sessions[40], sessions[3]]
    assert Platform(platform.config, seed=4).session(3) != sessions[3]


def test_lines_pass_the_schema_that_they_are_read_with(sessions: list[Session], notes: dict[str, LoggedNote]) -> None:
    for session in sessions[:100]:
        assert Session.model_validate_json(session.model_dump_json(), strict=True) == session
    shown = {note for session in sessions for search in session.searches for note in search.shown}
    assert shown <= notes.keys()
    assert Counter(session.language for session in sessions) == {"en": 750, "zh": 750}


def test_queries_and_users_follow_zipfs_law(sessions: list[Session]) -> None:
    for values in (
        Counter(search.query for session in sessions for search in session.searches if session.language == "en"),
        Counter(session.user for session in sessions),
    ):
        counts = [count for _, count in values.most_common()]
        assert counts[0] > 4 * counts[len(counts) // 2]


def test_results_on_top_are_clicked_more_at_equal_relevance(
    sessions: list[Session], notes: dict[str, LoggedNote]
) -> None:
    shown, clicked = Counter[int](), Counter[int]()
    for session in sessions:
        for search in session.searches:
            opened = {click.note for click in search.clicks}
            for place, note in enumerate(search.shown):
                if named(search.query, session) and named(search.query, session) in notes[note].content:
                    shown[place] += 1
                    clicked[place] += note in opened
    rates = [clicked[place] / shown[place] for place in range(4)]
    assert rates == sorted(rates, reverse=True) and rates[0] > 1.5 * rates[3]


def named(query: str, session: Session) -> str | None:
    """The thing that a query names."""
    words = {item.of(session.language or "en") for item in lexicon.ITEMS}
    return next((word for word in sorted(words) if word in query), None)


def test_notes_on_the_thing_of_the_query_are_read_longer_and_adverts_hardly_clicked(
    sessions: list[Session], notes: dict[str, LoggedNote]
) -> None:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    adverts = Counter[bool]()
    for session in sessions:
        for search in session.searches:
            thing = named(search.query, session)
            for click in search.clicks:
                note = notes[click.note]
                seconds[thing is not None and thing in note.content].append(click.seconds)
                adverts[note.tags in (("advert",), ("广告",))] += 1
    assert median(seconds[True]) > 1.5 * median(seconds[False])
    assert adverts[True] < 0.05 * adverts[False]


def test_who_is_not_satisfied_rephrases_and_ends_otherwise(
    sessions: list[Session], notes: dict[str, LoggedNote]
) -> None:
    searches, goes_on, same = Counter[bool](), Counter[bool](), Counter[bool]()
    ends: dict[bool, set[str]] = {True: set(), False: set()}
    for session in sessions:
        met = [
            any(
                (named(one.query, session) or "?") in notes[click.note].content and click.seconds >= 15
                for click in one.clicks
            )
            for one in session.searches
        ]
        searches.update(met)
        ends[met[-1]].add(session.next_action)
        things = [named(search.query, session) for search in session.searches]
        for satisfied, (before, after) in zip(met[:-1], pairwise(things), strict=True):
            goes_on[satisfied] += 1
            same[satisfied] += before == after
    assert goes_on[False] / searches[False] > 3 * goes_on[True] / searches[True]
    assert same[False] / goes_on[False] > 0.5 > same[True] / goes_on[True]
    assert ends == {True: {"more_notes", "left"}, False: {"new_query", "other_page"}}
    assert max(len(session.searches) for session in sessions) == 4


def test_more_queries_than_the_world_has_are_refused() -> None:
    with pytest.raises(InputError, match=r"num_queries=5000 is more than the invented world has \(about \d,\d+\)"):
        Platform(TrafficConfig(num_notes=60, num_queries=5_000), 0)
