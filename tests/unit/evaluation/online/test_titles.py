from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from megatron_redone.evaluation.online.surface_appeal import surface_appeal
from megatron_redone.evaluation.online.titles import (
    Candidate,
    best,
    engagement_messages,
    scored_candidates,
    trade_off,
)
from megatron_redone.reporting.title_schema import TitlePoint
from megatron_redone.scoring.base import Score
from megatron_redone.tasks.base import Row

ROW = Row("a", "title_rewrite", "en", {"title": "3 days in Lisbon", "content": "No car. 58 euros."}, "3 days in Lisbon")
CHINESE = Row("b", "title_rewrite", "zh", {"title": "苏州2天", "content": "没开车。"}, "苏州2天")
TITLES = ["3 days in Lisbon: my 58 euro guide", "Lisbon, baby!", "You need 99 tips", ""]


def candidates(values: list[tuple[float, float]]) -> list[Candidate]:
    return [Candidate(f"t{i}", appeal, Score(faith, True)) for i, (appeal, faith) in enumerate(values)]


def test_both_scores_of_a_candidate() -> None:
    found = scored_candidates([ROW], [TITLES], None)[0]
    assert [one.score.value for one in found[:3]] == [1.0, 0.5, 0.0]
    assert found[0].engagement == surface_appeal(TITLES[0]) and not found[3].score.parsed
    assert found[3].reward(1.0) == 0.0  # what is no title is never worth anything


def test_a_judge_is_asked_once_for_each_different_title_and_an_unreadable_reply_is_none() -> None:
    asked: list[str] = []

    def complete_all(conversations: object) -> list[str]:
        asked.extend(messages[1]["content"] for messages in conversations)  # type: ignore[attr-defined]
        return ["good\nScore: 10", "Score: 1", "?"][: len(asked)]

    found = scored_candidates([ROW], [["3 days in Lisbon", "Lisbon", "Lisbon", "no idea"]], complete_all)[0]
    assert [one.engagement for one in found] == [1.0, 0.0, 0.0, None] and len(asked) == 3
    assert "58 euros" in asked[0] and "<title>\n3 days in Lisbon\n</title>" in asked[0]
    assert found[3].reward(1.0) == 0.0
    assert engagement_messages(CHINESE, "x")[0]["content"] != engagement_messages(ROW, "x")[0]["content"]


pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


@given(st.lists(pairs, min_size=1, max_size=5))
def test_more_weight_buys_engagement_with_faithfulness_and_more_candidates_a_better_reward(
    values: list[list[tuple[float, float]]],
) -> None:
    rows = [Row(f"r{i}", "title_rewrite", "en", ROW.fields, ROW.answer) for i in range(len(values))]
    found = trade_off(
        rows, [candidates(of_row) for of_row in values], candidates([(0.5, 1.0)] * len(values)),
        engagement_by="test", weight=0.5, weights=[0.0, 0.25, 0.75, 1.0], numbers=[1, 2, 8], seed=0,
    )  # fmt: skip
    assert found.notes == len(values) and found.original is not None and found.original.faithfulness.value == 1.0
    by_number: dict[int, list[TitlePoint]] = {}
    for point in found.points:
        by_number.setdefault(point.num_candidates, []).append(point)
    for line in by_number.values():
        assert [point.weight for point in line] == [0.0, 0.25, 0.5, 0.75, 1.0]
        for low, high in itertools.pairwise(line):
            assert high.engagement.value >= low.engagement.value - 1e-3
            assert high.faithfulness.value <= low.faithfulness.value + 1e-3
    for few, many in itertools.pairwise(by_number[number] for number in sorted(by_number)):
        for one, other in zip(few, many, strict=True):
            reward = [p.weight * p.engagement.value + (1 - p.weight) * p.faithfulness.value for p in (one, other)]
            assert reward[1] >= reward[0] - 1e-3


def test_the_weight_decides_between_the_engaging_and_the_true_title() -> None:
    two = candidates([(1.0, 0.2), (0.4, 1.0)])
    assert best(two, 0.0).text == "t1" and best(two, 1.0).text == "t0"
    assert best(two, 0.5).text == "t1"  # 0.6 against 0.7
    assert best(two[:1] * 2, 0.5) is two[0]


def test_a_note_without_a_candidate_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="every note needs at least one candidate"):
        trade_off([ROW], [[]], [], engagement_by="", weight=0.5, weights=[], numbers=[1], seed=0)
