from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.set_f1 import LevelF1, SetF1

ITEMS = st.lists(st.sampled_from(["a", "b", "c", "d e", "F"]), max_size=5)
PREDICTIONS = st.one_of(st.none(), ITEMS)
LEVELS = (-1, 0, 1, 2, 3)
LEVEL_PAIRS = st.lists(st.tuples(st.one_of(st.none(), st.sampled_from(LEVELS)), st.sampled_from(LEVELS)))


@given(st.lists(st.tuples(PREDICTIONS, ITEMS), max_size=8))
def test_item_values_and_micro_f1_lie_in_0_to_1(pairs: list[tuple[list[str] | None, list[str]]]) -> None:
    scorer = SetF1()
    scores = scorer.score([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert all(0.0 <= score.value <= 1.0 for score in scores)
    assert 0.0 <= scorer.aggregate(scores) <= 1.0


@given(ITEMS, ITEMS)
def test_one_item_is_the_harmonic_mean_of_precision_and_recall(prediction: list[str], gold: list[str]) -> None:
    score = SetF1().score([prediction], [gold])[0]
    mine, theirs = set(prediction) or {""}, set(gold) or {""}
    precision, recall = len(mine & theirs) / len(mine), len(mine & theirs) / len(theirs)
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert score.value == pytest.approx(expected)
    assert SetF1().aggregate([score]) == pytest.approx(score.value)
    assert (score.value == 1.0) == (mine == theirs)


@given(ITEMS, ITEMS)
def test_f1_is_symmetric_and_blind_to_order_and_repeats(prediction: list[str], gold: list[str]) -> None:
    forwards, backwards = SetF1().score([prediction, gold], [gold, prediction])
    assert forwards.value == pytest.approx(backwards.value)
    assert SetF1().score([[*reversed(prediction), *prediction]], [gold])[0].value == forwards.value


def test_micro_f1_is_not_the_mean_of_items() -> None:
    scores = SetF1().score([["a"], ["x"]], [["a"], ["p", "q", "r"]])
    assert SetF1().aggregate(scores) == pytest.approx(2 * 1 / (2 + 4))
    assert sum(score.value for score in scores) / 2 == 0.5


def test_agreeing_on_nothing_is_a_hit_and_unreadable_misses_all_gold() -> None:
    both, silent, loud, unreadable = SetF1().score([[], [], ["a"], None], [[], ["a"], [], ["a", "b"]])
    assert (both.value, silent.value, loud.value, unreadable.value) == (1.0, 0.0, 0.0, 0.0)
    assert dict(unreadable.statistics) == {"hits": 0.0, "predicted": 0.0, "gold": 2.0}
    assert not unreadable.parsed


def test_spans_keep_their_case_but_not_their_spacing() -> None:
    same_spacing, other_case = SetF1().score([["new  york "], ["New York"]], [["new york"], ["new york"]])
    assert (same_spacing.value, other_case.value) == (1.0, 0.0)


@given(LEVEL_PAIRS)
def test_macro_f1_equals_the_definition_level_by_level(pairs: list[tuple[int | None, int]]) -> None:
    scorer = LevelF1(LEVELS)
    scores = scorer.score([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    expected = []
    for level in LEVELS:
        hits = sum(prediction == gold == level for prediction, gold in pairs)
        wrong = sum((prediction == level) != (gold == level) for prediction, gold in pairs)
        if hits or wrong:
            expected.append(2 * hits / (2 * hits + wrong))
    assert scorer.aggregate(scores) == pytest.approx(sum(expected) / len(expected) if expected else 0.0)
    right = sum(prediction == gold for prediction, gold in pairs)
    assert scorer.accuracy(scores) == pytest.approx(right / len(pairs) if pairs else 0.0)


def test_a_near_miss_earns_nothing_and_absent_levels_do_not_count() -> None:
    scorer = LevelF1(LEVELS)
    scores = scorer.score([2, 3, None], [2, 2, 3])
    assert [score.value for score in scores] == [1.0, 0.0, 0.0]
    assert scorer.per_level(scores) == {-1: None, 0: None, 1: None, 2: pytest.approx(2 / 3), 3: 0.0}
    assert scorer.aggregate(scores) == pytest.approx(1 / 3)
