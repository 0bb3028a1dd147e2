"""Accuracy, micro- and macro-F1 against scikit-learn, and the distance of levels."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.base import Score
from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.scoring.set_f1 import LevelF1, SetF1, macro_f1

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra `curation`")

LABELS = ["tea", "soup", "boat", "海"]
SETS = st.lists(st.sets(st.sampled_from(LABELS), min_size=1), min_size=1, max_size=12)
LEVELS = (-1, 0, 1, 2, 3)


def table(sets: list[set[str]]) -> list[list[int]]:
    return [[int(label in items) for label in LABELS] for items in sets]


@given(st.data())
def test_f1_of_sets_is_that_of_scikit_learn(data: st.DataObject) -> None:
    gold = data.draw(SETS)
    predicted = data.draw(
        st.lists(st.sets(st.sampled_from(LABELS), min_size=1), min_size=len(gold), max_size=len(gold))
    )
    scorer = SetF1()
    scores = scorer.score(predicted, gold)
    named = [place for place, label in enumerate(LABELS) if any(label in items for items in [*gold, *predicted])]
    for average, value in (
        ("micro", scorer.aggregate(scores)),
        ("samples", scorer.mean_of_items(scores)),
        ("macro", macro_f1(predicted, gold)),
    ):
        labels = named if average == "macro" else None
        expected = sklearn_metrics.f1_score(
            table(gold), table(predicted), average=average, labels=labels, zero_division=0.0
        )
        assert value == pytest.approx(expected)


@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.sampled_from(LEVELS)), min_size=1, max_size=30))
def test_levels_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, gold = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    scorer = LevelF1(LEVELS)
    scores = scorer.score(predicted, gold)
    assert scorer.aggregate(scores) == pytest.approx(sklearn_metrics.f1_score(gold, predicted, average="macro"))
    assert scorer.accuracy(scores) == pytest.approx(sklearn_metrics.accuracy_score(gold, predicted))
    assert ExactMatch().aggregate(ExactMatch().score(predicted, gold)) == pytest.approx(scorer.accuracy(scores))
    expected = 1 - sum(abs(a - b) for a, b in pairs) / (4 * len(pairs))
    assert scorer.closeness(scores) == pytest.approx(expected)
    assert scorer.closeness(scores) >= scorer.accuracy(scores)


def test_near_levels_are_told_but_earn_nothing() -> None:
    near, far, unread = LevelF1(LEVELS).score([2, -1, None], [3, 3, 3])
    assert (near.value, far.value, unread.value) == (0.0, 0.0, 0.0)
    assert (near.parts["closeness"], far.parts["closeness"]) == (0.75, 0.0)
    assert LevelF1(LEVELS).closeness([near, far, unread]) == 0.25


def test_macro_f1_of_unreadable_and_of_nothing() -> None:
    assert macro_f1([None, ["a"]], [["b"], ["a"]]) == 0.5
    assert macro_f1([[]], [[]]) == 1.0
    assert macro_f1([], []) == 0.0
    with pytest.raises(ValueError, match="1 predictions for 2"):
        macro_f1([["a"]], [["a"], ["b"]])


def test_parts_are_shares() -> None:
    (score,) = SetF1().score([["tea", "soup"]], [["tea"]])
    assert score.parts == {"precision": 0.5, "recall": 1.0}
    with pytest.raises(ValueError, match=r"a recall of 2\.0 is outside"):
        Score(1.0, parsed=True, parts={"recall": 2.0})
