from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import InputError
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.evaluation.benchmark import Row
from megatron_redone.evaluation.model_answers import AnswerSettings, answer_rows, begin, identity
from megatron_redone.evaluation.sns_bench.benchmark import sns_bench
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.factory import OpenModel
from tests.scripted_generation import ScriptedGenerator, sums_template

BENCHMARK = sns_bench(None, "none")
FILE = "Note-Gender.json"
PROMPTS = {FILE: BENCHMARK.tasks[FILE].prompt}
ROWS: dict[str, Sequence[Row]] = {FILE: [{"content": f"{i} + {i}", "answer": "No"} for i in range(7)]}
SIZES = {file: 7 if file == FILE else None for file in BENCHMARK.tasks}
SETTINGS = AnswerSettings(3, None, None, 0.0, 1.0, 0)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


class Recorder(ScriptedGenerator):
    """Answers by a function of the prompt, and remembers what it was asked."""

    def __init__(self, template: ChatTemplate, answer: Callable[[str, int], str], stop_after: int = 99) -> None:
        super().__init__(template, answer)
        self.asked: list[tuple[list[int], SamplingParams, str]] = []
        self.stop_after = stop_after

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        if self.stop_after == 0:
            raise KeyboardInterrupt
        self.stop_after -= 1
        self.asked += [(list(prompt), params, key) for prompt, key in zip(prompts, keys, strict=True)]
        return super().generate(prompts, params, keys)


def ask(folder: Path, engine: Recorder, settings: AnswerSettings = SETTINGS, positions: int = 4096) -> dict[str, Any]:
    model = OpenModel(engine, engine.template.tokenizer, positions)
    return answer_rows(folder, model, BENCHMARK, PROMPTS, ROWS, SIZES, settings)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_answers_stand_without_end_token_and_thought(tmp_path: Path, template: ChatTemplate) -> None:
    answers = {0: "Yes", 1: "<think>hm</think>\n\nNo", 2: "<think>hm", 3: "hm</think> No", 4: "", 5: "No </s>", 6: "No"}
    engine = Recorder(template, lambda prompt, _: answers[int(prompt.split("Note:\n")[1].split(" +")[0])])
    counts = ask(tmp_path, engine)
    assert [line["output"] for line in lines(tmp_path)] == ["Yes", "No", "", "No", "", "No </s>", "No"]
    assert counts["thoughts_removed"] == 3 and counts["thoughts_left_open"] == 1 and counts["prompts_cut"] == 0
    assert lines(tmp_path)[1]["whole_output"] == "<think>hm</think>\n\nNo" and "whole_output" not in lines(tmp_path)[0]
    assert {asked[1].max_new_tokens for asked in engine.asked} == {BENCHMARK.tasks[FILE].max_new_tokens}


def test_a_stopped_run_goes_on_and_ends_in_the_same_file(tmp_path: Path, template: ChatTemplate) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    ask(whole, Recorder(template, lambda prompt, _: prompt[-20:]))
    with pytest.raises(KeyboardInterrupt):
        ask(parts, Recorder(template, lambda prompt, _: prompt[-20:], stop_after=1))
    assert len(lines(parts)) == 3
    with (parts / "predictions.jsonl").open("a") as file:
        file.write('{"file": "Note-Gend')  # the stop came while a line was written
    again = Recorder(template, lambda prompt, _: prompt[-20:])
    ask(parts, again)
    assert [key for _, _, key in again.asked] == [f"{FILE} {index}" for index in range(3, 7)]
    assert (parts / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()
    done = Recorder(template, lambda prompt, _: "")
    ask(parts, done)
    assert not done.asked


def test_longer_prompts_keep_their_last_tokens_and_are_counted(tmp_path: Path, template: ChatTemplate) -> None:
    engine = Recorder(template, lambda prompt, _: "No")
    counts = ask(tmp_path, engine, positions=16 + 20)
    assert counts["prompts_cut"] == 7 and {len(ids) for ids, _, _ in engine.asked} == {20}
    other = tmp_path / "other"
    other.mkdir()
    full = Recorder(template, lambda prompt, _: "No")
    ask(other, full)
    assert full.asked[0][0][-20:] == engine.asked[0][0]


def test_answers_of_another_model_or_under_other_settings_are_not_mixed(tmp_path: Path, template: ChatTemplate) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "data.json").write_text("[]")

    def fixed(**changes: Any) -> dict[str, Any]:
        settings = AnswerSettings(**{**SETTINGS.__dict__, **changes})
        return identity(tmp_path / "model", "megatron", PROMPTS, {FILE: tmp_path / "data.json"}, settings)

    begin(tmp_path, fixed())
    ask(tmp_path, Recorder(template, lambda prompt, _: "No"))
    begin(tmp_path, fixed(batch_size=1))
    with pytest.raises(InputError, match=r"answers that differ in settings"):
        begin(tmp_path, fixed(max_new_tokens=5))
    (tmp_path / "data.json").write_text("[1]")
    with pytest.raises(InputError, match=r"answers that differ in data"):
        begin(tmp_path, fixed())
    (tmp_path / "data.json").write_text("[]")
    (tmp_path / "model" / "model.safetensors").write_text("x")
    with pytest.raises(InputError, match=r"answers that differ in weights"):
        begin(tmp_path, fixed())
    (tmp_path / "answering.json").unlink()
    with pytest.raises(InputError, match=r"remove the file"):
        begin(tmp_path, fixed())
