from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.scoring.soft_f1 import (
    SoftF1,
    longest_common_substring,
    part_similarity,
    substring_similarity,
    text_similarity,
)

SCORER = SoftF1(text_similarity)
texts = st.lists(st.text("abc ", min_size=1, max_size=6), max_size=4)


def value(prediction: list[str] | None, reference: list[str]) -> float:
    return SCORER.score([prediction], [reference])[0].value


@settings(max_examples=60)
@given(texts, texts)
def test_bounds_symmetry_and_identity(first: list[str], second: list[str]) -> None:
    assert 0.0 <= value(first, second) <= 1.0
    assert value(first, second) == pytest.approx(value(second, first))
    assert value(first, first[::-1]) == pytest.approx(1.0)


def test_each_gold_item_is_matched_once() -> None:
    assert value(["sea", "sea", "sea"], ["sea"]) == pytest.approx(2 / 4)
    assert value(["sea", "teas"], ["sea", "tea"]) == pytest.approx(2 * (1 + 3 / 4) / 4)


def test_unrelated_texts_share_letters_and_earn_nothing() -> None:
    assert value(["stone"], ["notes"]) == 0.0
    assert SoftF1(text_similarity, min_similarity=0.0).score([["stone"]], [["notes"]])[0].value > 0.0


def test_nothing_agrees_with_nothing_alone() -> None:
    assert value([], []) == 1.0
    assert value([], ["sea"]) == value(["sea"], []) == 0.0
    score = SCORER.score([None], [["sea", "tea"]])[0]
    assert (score.value, score.parsed, score.statistics["gold"]) == (0.0, False, 2.0)


def test_the_aggregate_is_over_sums() -> None:
    scores = SCORER.score([["a"], ["b", "c"]], [["a"], ["x", "y"]])
    assert SCORER.aggregate(scores) == pytest.approx(2 * 1 / (2 + 4))
    assert SCORER.aggregate([]) == 0.0


def test_similarities() -> None:
    assert longest_common_substring("the blue ladle", "a blue lamp") == len(" blue la")
    assert longest_common_substring("", "a") == 0
    assert substring_similarity("", "") == 1.0
    assert substring_similarity("blue ladle", "ladle") == 0.5
    assert part_similarity(("a", "b"), ("a", "c")) == 0.5
    assert part_similarity(("a",), ("a", "c")) == 0.0
