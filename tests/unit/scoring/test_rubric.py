"""Grades of a model over HTTP: read, averaged over samples, counted where they cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.scoring.completion_cache import CompletionCache
from megatron_redone.scoring.completion_server import CompletionServer
from megatron_redone.scoring.config import ServerConfig
from megatron_redone.scoring.judge import Answered, Comparison, PointwiseJudge, one_by_one
from megatron_redone.scoring.rubric import Rubric, RubricScorer, rubric_scores
from tests.fake_completion_server import FakeServer

QUESTION = [{"role": "user", "content": "a title, please"}]
FIVE = Rubric(
    {"en": "Grade the answer. End with `Score: N`, N from 0 to 4.", "zh": "打分，最后一行写`分数：N`。"}, 0, 4
)


def answered(text: str, language: str = "en") -> Answered:
    return Answered(text, QUESTION, text, language)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("no_proxy", "*")
    server = FakeServer()
    yield server
    server.close()


def test_a_grade_is_its_place_on_the_scale(fake: FakeServer) -> None:
    fake.reply = lambda messages: "fine\nScore: " + messages[-1]["content"].split("<answer>\n")[1][0]
    server = CompletionServer(ServerConfig(url=fake.url, model="m"))
    scorer = RubricScorer([one_by_one(server.complete)], FIVE)
    scores = scorer.score([answered(text) for text in ("0 bad", "3 good", "4 best", "9 off the scale")])
    assert [(score.value, score.parsed) for score in scores] == [(0.0, True), (0.75, True), (1.0, True), (0.0, False)]
    assert scores[-1].reason == "no grade could be read"
    assert scorer.unreadable_share(scores) == 0.25
    assert scorer.aggregate(scores) == pytest.approx(1.75 / 3)
    asked = fake.requests[0]["messages"]
    assert asked[0] == {"role": "system", "content": FIVE.instructions["en"]} and "a title" in asked[1]["content"]


def test_samples_are_averaged_and_each_is_asked_for_once(fake: FakeServer, tmp_path: Path) -> None:
    grades = {None: "Score: 10", 1: "Score: 4", 2: "I would rather not say"}

    def reply(request: dict[str, Any]) -> str:
        return grades[request.get("seed")]

    fake.reply = lambda messages: reply(fake.requests[-1])
    cache = CompletionCache(tmp_path / "cache.sqlite")
    for _ in range(2):
        server = CompletionServer(ServerConfig(url=fake.url, model="m", temperature=1.0), cache)
        scorer = RubricScorer([one_by_one(partial(server.complete, sample=number)) for number in range(3)])
        (score,) = scorer.score([answered("an answer")])
        assert score.statistics == {"samples": 3.0, "unreadable": 1.0, "grade": 7.0}
        assert score.value == pytest.approx(6 / 9)
    cache.close()
    assert [request.get("seed") for request in fake.requests] == [None, 1, 2]  # the second time the cache answered


def test_a_pointwise_judge_compares_by_it() -> None:
    def model(messages: Any) -> str:
        return "分数：8" if "好" in json.dumps(messages[-1], ensure_ascii=False) else "score?"

    judge = PointwiseJudge(rubric_scores(RubricScorer([one_by_one(model)])))
    (verdict,) = judge.compare([Comparison("c", QUESTION, "好", "坏", "zh")])
    assert verdict.winner == "tie" and verdict.unreadable
    assert verdict.scores == (pytest.approx(7 / 9), None)


def test_a_scale_has_a_width() -> None:
    with pytest.raises(ValueError, match="a scale from 3 to 3"):
        Rubric(FIVE.instructions, 3, 3)
    assert RubricScorer([]).aggregate([]) == 0.0
