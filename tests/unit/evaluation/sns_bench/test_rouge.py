from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from megatron_redone.evaluation.sns_bench.rouge import (
    MAX_STEPS_BACK,
    OfficialStop,
    common_subsequence,
    rouge_f,
)

rouge = pytest.importorskip("rouge", reason="the package rouge, which the official code uses, is not installed")

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", ".", "。", "", ". ."]), max_size=20).map(" ".join)


@settings(max_examples=300)
@given(WORDS, WORDS)
def test_all_three_equal_the_package(hypothesis: str, reference: str) -> None:
    try:
        scores = rouge.Rouge().get_scores(hypothesis, reference)[0]
    except ValueError:
        with pytest.raises(OfficialStop):
            rouge_f(hypothesis, reference)
        return
    expected = [scores[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l")]
    assert rouge_f(hypothesis, reference) == pytest.approx(expected, abs=1e-12)


def test_the_usual_definition_would_differ() -> None:
    """Words count once: three of four words are "a", and still half of the two different ones is found."""
    assert rouge_f("a a a b", "a c")[0] == pytest.approx(0.5, abs=1e-6)


def test_a_walk_back_as_long_as_the_recursion_allows() -> None:
    words = [f"w{number}" for number in range(MAX_STEPS_BACK)]
    assert common_subsequence(words, words) == set(words)
    assert common_subsequence(["w0"], words) == {"w0"}  # along all words, and the first is met in the last step
    for longer in ([*words, "z"], [*words, "z", *words]):
        with pytest.raises(OfficialStop):
            common_subsequence(["y"], longer)
        with pytest.raises(OfficialStop):
            common_subsequence(longer, longer)
    with pytest.raises(OfficialStop):
        common_subsequence(["w0"], [*words, "z"])


def test_long_texts_take_no_table() -> None:
    """A table of 20,000 x 900 numbers would take gigabytes in the package."""
    gold = [f"w{number}" for number in range(900)]
    with pytest.raises(OfficialStop):
        common_subsequence(gold, [*gold, *["z"] * 20_000])
    assert rouge_f("a b . " * 20_000, "a c . b")[2] == pytest.approx(2 / 3, abs=1e-6)
