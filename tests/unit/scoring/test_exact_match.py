from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from megatron_redone.scoring.exact_match import ExactMatch, same
from megatron_redone.scoring.normalise import loose, tidy


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("  Home & Garden. ", "home & garden"),
        ("“Yes”", "Yes"),
        ("**No**", "no"),
        ("ＡＢＣ", "abc"),
        ("是。", "是"),
        (["Food", "baking "], ["food", "Baking"]),
        (2, 2),
    ],
)
def test_case_width_quotes_and_stops_do_not_matter(prediction: object, reference: object) -> None:
    assert same(prediction, reference)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("C", "C++"),
        ("a-b", "a b"),
        ("the cat", "cat"),
        ("...", "!!!"),
        (["a", "b"], ["b", "a"]),
        (["a"], ["a", "b"]),
        ("2", 2),
        (2, "2"),
        ("a", ["a"]),
        (True, "True"),
    ],
)
def test_anything_else_does(prediction: object, reference: object) -> None:
    assert not same(prediction, reference)


@given(st.text())
def test_normalisations_are_idempotent_and_every_text_matches_itself(text: str) -> None:
    assert loose(loose(text)) == loose(text)
    assert tidy(tidy(text)) == tidy(text)
    assert same(text, text)


def test_aggregate_is_accuracy_with_unreadable_answers_as_wrong() -> None:
    scorer = ExactMatch()
    scores = scorer.score(["a", "x", None, "B."], ["a", "a", "a", "b"])
    assert [score.value for score in scores] == [1.0, 0.0, 0.0, 1.0]
    assert [score.parsed for score in scores] == [True, True, False, True]
    assert scores[2].reason
    assert scorer.aggregate(scores) == 0.5
    assert scorer.aggregate([]) == 0.0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="1 predictions for 2 references"):
        ExactMatch().score(["a"], ["a", "b"])
