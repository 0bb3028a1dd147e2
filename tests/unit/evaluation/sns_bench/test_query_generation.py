from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from megatron_redone.evaluation.sns_bench.query_generation import QueryCloseness
from tests.unit.evaluation.sns_bench.test_official_cases import aggregate

GOLD = [{"answer": "best soup in town"}, {"answer": "ab"}]


def letters(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Counts of letters: a real, if humble, embedder."""
    return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz "] for text in texts], dtype=float)


def test_the_cosine_sees_the_first_line_and_anls_the_whole_answer() -> None:
    metric = QueryCloseness(letters)
    score = metric.score(["ab\nxy"], GOLD[1:])[0]
    assert score.statistics == {"anls": pytest.approx(2 / 5), "cosine": pytest.approx(1.0), "parsed": 1.0}
    assert aggregate(metric, [score])["score"] == pytest.approx((100 + 40) / 2)


@pytest.mark.parametrize("tail", ["<|endofresponse|> more", "\nmore", "> more", "endofresponse"])
def test_borders_of_the_first_line(tail: str) -> None:
    assert QueryCloseness(letters).score([" ab" + tail], GOLD[1:])[0].statistics["cosine"] == pytest.approx(1.0)


def test_without_an_embedder_anls_is_the_score() -> None:
    metric = QueryCloseness(None)
    found = aggregate(metric, metric.score(["best soup in town", "ax"], GOLD))
    assert found == {"anls": pytest.approx(75.0), "score": pytest.approx(75.0)}


def test_an_empty_answer_and_half_characters_are_scored() -> None:
    scores = QueryCloseness(letters).score(["", "\ud800ab"], GOLD)
    assert [score.parsed for score in scores] == [False, True]
    assert scores[0].value == 0.0
