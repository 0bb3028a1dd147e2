from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from megatron_redone.common.errors import SandboxUnavailableError
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.evaluation.runner import baselines, evaluate, score_interval, write_evaluation
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.reporting.schema import EvaluationResult, Prediction, read_result
from megatron_redone.scoring.base import Score
from megatron_redone.scoring.exact_match import ExactMatch
from megatron_redone.tasks.base import Row
from megatron_redone.tasks.catalogue import TASKS
from megatron_redone.tasks.examples import example_row
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template
from tests.unit.tasks.sample_rows import sample_rows

ROWS = [sum_row(number) for number in range(10)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def judge(template: ChatTemplate) -> Callable[..., tuple[EvaluationResult, list[Prediction]]]:
    def run(
        answer: Callable[[str, int], str], rows: Sequence[Row] = ROWS, **settings: Any
    ) -> tuple[EvaluationResult, list[Prediction]]:
        config = GenerationConfig(temperature=0.0, **settings)
        generator = ScriptedGenerator(template, answer)
        return evaluate(rows, generator, template, config, label="l", split="test", model="m", seed=None)

    return run


Judge = Callable[..., tuple[EvaluationResult, list[Prediction]]]


def test_gold_answers_earn_full_marks_and_silence_none(judge: Judge) -> None:
    result, predictions = judge(lambda prompt, sample: str(number_in(prompt) + 1))
    (task,) = result.tasks
    assert (result.mean_score, task.score, task.parse_rate, result.num_rows) == (100.0, 100.0, 1.0, 10)
    assert task.interval[0] < 100.0 == task.interval[1]  # ten right answers do not prove the eleventh
    assert [p.value for p in predictions] == [1.0] * 10 and [p.target for p in predictions] == [
        p.output for p in predictions
    ]
    silent, _ = judge(lambda prompt, sample: "")
    assert (silent.mean_score, silent.tasks[0].parse_rate) == (0.0, 0.0)
    assert silent.tasks[0].interval[0] == 0.0 < silent.tasks[0].interval[1]


def test_the_mean_is_over_tasks_whatever_their_number_of_rows(judge: Judge) -> None:
    rows = [*ROWS, *sample_rows("note_security", "en")]
    result, predictions = judge(
        lambda prompt, sample: str(number_in(prompt) + 1) if "Calculate" in prompt else "-", rows
    )
    assert {task.task: task.score for task in result.tasks} == {"arithmetic": 100.0, "note_security": 0.0}
    assert result.mean_score == 50.0
    assert [prediction.id for prediction in predictions] == [row.id for row in rows]


def test_the_order_of_the_rows_does_not_matter(judge: Judge) -> None:
    def half(prompt: str, sample: int) -> str:
        return str(number_in(prompt) + number_in(prompt) % 2)

    assert judge(half)[0].mean_score == judge(half, ROWS[::-1])[0].mean_score == 50.0


def test_held_out_rows_over_the_limit_count_as_wrong_or_are_cut(judge: Judge) -> None:
    long = Row("long", "arithmetic", "en", {"question": "1 + " * 90 + "1"}, "2")
    for policy, score in (("drop", 0.0), ("truncate", 100.0)):
        result, predictions = judge(
            lambda prompt, sample: "2", [long, sum_row(1)], max_prompt_tokens=150, over_long=policy
        )
        assert result.num_rows == len(predictions) == 2
        assert result.settings["over_long_prompts"] == 1
        assert 100 * predictions[0].value == score and predictions[1].value == 1.0


def test_what_is_written_is_the_result_and_holds_no_time(judge: Judge, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_evaluation(tmp_path / name, *judge(lambda prompt, sample: "3"))
    assert read_result(tmp_path / "one" / "results.json", EvaluationResult).num_rows == 10
    assert len(list(read_jsonl(tmp_path / "one" / "predictions.jsonl"))) == 10
    for file in ("results.json", "predictions.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=30))
def test_intervals_of_accuracies_hold_the_value_and_have_a_width(values: list[float]) -> None:
    scores = [Score(value, parsed=True, statistics={"correct": value}) for value in values]
    low, high = score_interval(ExactMatch(), scores)
    assert 0.0 <= low <= sum(values) / len(values) <= high <= 1.0 and low < high


ONE_OF_EACH_SCORER = {
    task.scorer.name: name
    for name, task in TASKS.items()
    if task.scorer.name != "exact_match" and task.reward_kind != "sandbox"
}.values()


@pytest.mark.parametrize("name", ONE_OF_EACH_SCORER)
def test_intervals_of_other_scores_lie_in_range(name: str) -> None:
    task = TASKS[name]
    rows = [row for language in task.languages for row in sample_rows(name, language)]
    texts = [task.target(dataclasses.replace(row, rationale=None)) if i % 2 else "" for i, row in enumerate(rows)]
    low, high = score_interval(task.scorer, task.score(texts, rows))
    assert 0.0 <= low <= high <= 1.0


def test_baselines_are_scored_on_the_same_rows() -> None:
    rows = [row for name in ("note_security", "hashtag_multiple") for row in sample_rows(name, "en")]
    found = {baseline.name: baseline for baseline in baselines(rows, rows)}
    assert list(found) == ["always empty", "majority", "copy options"]
    for baseline in found.values():
        assert {task.task: task.num_rows for task in baseline.tasks} == {"note_security": 2, "hashtag_multiple": 2}
    assert found["always empty"].mean_score == 0.0 < found["majority"].mean_score
    without = {baseline.name: baseline for baseline in baselines(rows, [])}
    assert without["majority"].mean_score == 0.0  # nothing was seen that could be the most frequent


def test_programs_are_refused_before_an_answer_is_generated(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megatron_redone.scoring.sandbox.pool.problems_of_backend", lambda backend: ("broken",))

    def never(prompt: str, sample: int) -> str:
        raise AssertionError("generated")

    with pytest.raises(SandboxUnavailableError, match="1 of code_generation"):
        judge(never, [*ROWS, example_row("code_generation", "en")])
