"""ROUGE over jieba's words and the cosine of vectors, against their definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from megatron_redone.scoring.embedding import EmbeddingCosine, cosines
from megatron_redone.scoring.rouge import JiebaWords, Rouge, rouge


def test_rouge_counts_chinese_words() -> None:
    words = JiebaWords().tokenize("我喜欢 喝咖啡 Latte")
    assert words == ["我", "喜欢", "喝咖啡", "latte"] or words == ["我", "喜欢", "喝", "咖啡", "latte"]
    prediction, reference = "the cat sat", "the cat ran away"
    found = rouge(prediction, reference)
    assert found["rouge1"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert found["rouge2"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert found["rougeL"] == found["rouge1"]


def test_rouge_of_the_same_and_of_nothing() -> None:
    scores = Rouge().score(["今天 天气 不错", "", None, "别的"], ["今天 天气 不错", "句子", "句子", "句子"])
    assert [score.value for score in scores] == [1.0, 0.0, 0.0, 0.0]
    assert [score.parsed for score in scores] == [True, True, False, True]
    assert Rouge().aggregate(scores) == 0.25


def letters(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Counts of a, b and c."""
    return np.array([[float(text.count(letter)) for letter in "abc"] for text in texts])


def test_cosine_of_vectors() -> None:
    scores = EmbeddingCosine(letters).score(["aab", "a", None, "x"], ["aab", "b", "c", "c"])
    assert [score.value for score in scores] == pytest.approx([1.0, 0.0, 0.0, 0.0])
    assert EmbeddingCosine(letters).aggregate(scores) == pytest.approx(0.25)
    assert EmbeddingCosine(letters).score([None], ["a"])[0].parsed is False


def test_negative_cosines_earn_nothing() -> None:
    first, second = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[-1.0, 0.0], [1.0, 0.0]])
    assert cosines(first, second) == pytest.approx([-1.0, 2**-0.5])
    opposite = EmbeddingCosine(lambda texts: np.array([[1.0] if text == "up" else [-1.0] for text in texts]))
    (score,) = opposite.score(["up"], ["down"])
    assert (score.value, score.statistics["cosine"]) == (0.0, -1.0)
