from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_redone.curation.pairs.config import ModelErrorConfig
from megatron_redone.curation.pairs.model_errors import (
    Output,
    as_outputs,
    error_pairs,
    read_predictions,
    sample_rows,
    wrong_outputs,
)
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.tasks.base import THOUGHT_REQUESTS, Row
from megatron_redone.tasks.catalogue import get_task
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template

TAGS = Row("t", "hashtag_multiple", "en", {"title": "x", "content": "y", "candidates": ["a", "b", "c"]}, ["a", "b"])
SUM = sum_row(3)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


def config(**settings: object) -> ModelErrorConfig:
    return ModelErrorConfig.model_validate(settings)


def test_the_most_frequent_wrong_answer_is_taken_whatever_its_wording() -> None:
    outputs = [Output("5", -0.1), Output("the answer is 7", -2.0), Output("7", -1.0), Output("4", -0.01)]
    first, second = wrong_outputs(config(), SUM, outputs)
    assert (first.text, first.count, first.logprob) == ("7", 2, -1.0)
    assert (second.text, second.count, second.score) == ("5", 1, 0.0)
    assert wrong_outputs(config(keep="most_confident"), SUM, outputs)[0].text == "5"


def test_among_equally_frequent_ones_the_surer_is_taken_and_the_order_of_samples_does_not_matter() -> None:
    outputs = [Output("5", -2.0), Output("7", -1.0), Output("9", None)]
    assert [wrong.text for wrong in wrong_outputs(config(), SUM, outputs)] == ["7", "5", "9"]
    assert wrong_outputs(config(), SUM, outputs) == wrong_outputs(config(), SUM, outputs[::-1])


def test_what_counts_as_wrong_is_a_matter_of_the_threshold() -> None:
    outputs = [Output("a, c"), Output("c"), Output("a, b")]  # F1 0.5, 0, 1
    assert {wrong.text for wrong in wrong_outputs(config(), TAGS, outputs)} == {"a, c", "c"}
    assert [wrong.text for wrong in wrong_outputs(config(threshold=0.4), TAGS, outputs)] == ["c"]


def test_broken_format_counts_only_if_asked_for_and_unfinished_answers_never() -> None:
    outputs = [Output("I do not know", -0.1), Output("", -0.1), Output("9", -0.1, finished=False)]
    assert wrong_outputs(config(), SUM, outputs) == []
    (wrong,) = wrong_outputs(config(format_failures=True), SUM, outputs)
    assert (wrong.text, wrong.parsed) == ("I do not know", False)


def test_pairs_say_how_they_came_about() -> None:
    (pair,) = error_pairs(config(), SUM, [Output("7", -0.5), Output("7", -0.2), Output("4", -0.1)])
    assert (pair.chosen, pair.rejected, pair.how, pair.row, pair.task) == ("4", "7", "model_errors", SUM.id, SUM.task)
    assert (pair.chosen_reward, pair.rejected_reward) == (1.0, 0.0)
    assert pair.detail == {
        "count": 2,
        "samples": 3,
        "logprob": -0.2,
        "keep": "most_frequent",
        "kept_format": True,
    }
    assert len(error_pairs(config(pairs_per_row=2), SUM, [Output("1"), Output("2"), Output("3")])) == 2
    assert error_pairs(config(), SUM, [Output("4")]) == []


def test_the_truth_has_a_thought_only_over_an_answer_with_one() -> None:
    row = Row("r", "arithmetic", "en", {"question": "1 + 1"}, "2", rationale="one and one")
    thought, plain = (error_pairs(config(), row, [Output(text)])[0] for text in ("<think>\nhm\n</think>\n\n3", "3"))
    assert "one and one" in thought.chosen and plain.chosen == "2"
    asked = [THOUGHT_REQUESTS["en"] in pair.messages[-1]["content"] for pair in (thought, plain)]
    assert asked == [True, False]
    assert get_task("arithmetic").score([thought.chosen], [row])[0].value == 1.0


def test_samples_come_from_the_engine_with_their_log_probability(template: ChatTemplate) -> None:
    generator = ScriptedGenerator(template, lambda prompt, number: str(number_in(prompt) + number))
    rows = [sum_row(2), sum_row(5)]
    found = sample_rows(config(num_samples=3), rows, generator, template, 0)
    assert [[output.text for output in outputs] for outputs in found] == [["2", "3", "4"], ["5", "6", "7"]]
    assert all(output.logprob == -0.5 and output.finished for outputs in found for output in outputs)
    assert as_outputs(json.loads(json.dumps([output.to_json() for output in found[0]]))) == found[0]


def test_prompts_over_the_limit_get_no_answers(template: ChatTemplate) -> None:
    rows = [SUM, Row("long", "arithmetic", "en", {"question": "1 + " * 90 + "1"}, "91")]
    generator = ScriptedGenerator(template, lambda prompt, number: "1")
    short = GenerationConfig(max_prompt_tokens=150)
    found = sample_rows(config(num_samples=2, generation=short), rows, generator, template, 0)
    assert [len(outputs) for outputs in found] == [2, 0]


def test_an_answer_that_did_not_end_is_marked(template: ChatTemplate) -> None:
    class Endless(ScriptedGenerator):
        def generate(self, prompts: object, params: SamplingParams, keys: object) -> list[list[Completion]]:
            cut = super().generate(prompts, params, keys)  # type: ignore[arg-type]
            return [[Completion(c.token_ids, c.logprobs, "length") for c in samples] for samples in cut]

    (outputs,) = sample_rows(config(), [SUM], Endless(template, lambda prompt, number: "9"), template, 0)
    assert not any(output.finished for output in outputs) and error_pairs(config(), SUM, outputs) == []


@pytest.fixture
def predictions(tmp_path: Path) -> Callable[[str], list[tuple[str | None, list[str], str | None]]]:
    def read(text: str) -> list[tuple[str | None, list[str], str | None]]:
        path = tmp_path / "predictions.jsonl"
        path.write_text(text, encoding="utf-8")
        rows = {row.id: row for row in (SUM, TAGS)}
        return [
            (row and row.id, [output.text for output in outputs], problem)
            for row, outputs, problem in read_predictions(path, rows)
        ]

    return read


def test_predictions_are_read_from_a_file(
    predictions: Callable[[str], list[tuple[str | None, list[str], str | None]]],
) -> None:
    lines = [{"id": SUM.id, "output": "7", "value": 1.0}, {"id": TAGS.id, "outputs": ["c", "a, c"]}]
    assert predictions("\n".join(map(json.dumps, lines))) == [
        (SUM.id, ["7"], None),
        (TAGS.id, ["c", "a, c"], None),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"output": "7"}', "id=None is no row"),
        ('{"id": "elsewhere", "output": "7"}', "id='elsewhere' is no row of the data"),
        ('{"id": "t"}', "no text under `output`"),
        ('{"id": "t", "output": 7}', "no text under `output`"),
        ('{"id": "t", "outputs": []}', "no list of texts"),
        ('{"id": "t", "outputs": ["x", 1]}', "no list of texts"),
        ('{"id": "arithmetic-3", "output": "8"}', "occurs twice"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_prediction_is_named_by_file_and_line(
    predictions: Callable[[str], list[tuple[str | None, list[str], str | None]]], line: str, problem: str
) -> None:
    good, bad = predictions('{"id": "arithmetic-3", "output": "7"}\n' + line)
    assert good == (SUM.id, ["7"], None)
    assert bad[0] is None and "predictions.jsonl:2: " in (bad[2] or "") and problem in (bad[2] or "")
