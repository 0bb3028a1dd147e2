"""The stages `judge_agreement` and `pairs` as the command runs them, with a judge on loopback."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import ConfigError, DataError, InputError, Interrupted
from megatron_redone.common.jsonl import read_jsonl
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.launch.environment import from_environ
from megatron_redone.recipes.execution import Execution
from megatron_redone.recipes.executors import answers as executor
from megatron_redone.recipes.runner import StageExecutor
from megatron_redone.recipes.single_stage import load_stage
from megatron_redone.recipes.workspace import Workspace
from megatron_redone.tasks.reading import write_rows
from tests.fake_completion_server import FakeServer
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template
from tests.unit.tasks.sample_rows import sample_rows

Messages = Sequence[dict[str, str]]


def run(kind: str, out: Path, *settings: str) -> dict[str, int | float]:
    recipe = load_stage(kind, None, settings, out)
    workspace = Workspace(recipe, recipe.config.output)
    return StageExecutor(workspace, from_environ({"OMP_NUM_THREADS": "1"})).execute(recipe.runs[0])


def lines(path: Path) -> list[dict[str, Any]]:
    return [value for _, value in read_jsonl(path)]


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def write(path: Path, items: Sequence[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, items)) + "\n", encoding="utf-8")
    return path


def answers_of(messages: Messages) -> list[str]:
    text = messages[-1]["content"]
    return [text.split(f"<{name}>\n")[1].split(f"\n</{name}>")[0] for name in "AB"]


def kinder(messages: Messages) -> str:
    first, second = ("kind" in answer for answer in answers_of(messages))
    return "Reasons.\nVerdict: " + ("Tie" if first == second else "A" if first else "B")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("no_proxy", "*")
    server = FakeServer(kinder)
    yield server
    server.close()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    items = []
    for number in range(120):
        a, b = ("kind", "rude") if number % 2 else ("rude", "kind")
        items.append(
            {"id": f"h{number}", "prompt": f"I feel bad {number}", "answer_a": f"{a} {number}",
             "answer_b": f"{b} {number}", "label": "a" if number % 2 else "b"}
        )  # fmt: skip
    return write(tmp_path / "labelled.jsonl", items)


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    items = [
        {"id": f"c{n}", "prompt": f"I feel sad {n}", "answer_a": f"rude {n}", "answer_b": f"kind {n}", "task": "talk"}
        for n in range(6)
    ]
    items.append({**items[0], "id": "same", "prompt": "well", "answer_a": "rude one", "answer_b": "rude two"})
    return write(tmp_path / "candidates.jsonl", items)


def judged_by(fake: FakeServer, **changes: Any) -> list[str]:
    server = {"url": fake.url, "model": "m", "max_attempts": 2, "first_wait_seconds": 0, **changes}
    return ["judge.kind=server", f"judge.server={json.dumps(server)}"]


def test_a_judge_that_agrees_with_people_labels_pairs(
    tmp_path: Path, fake: FakeServer, labelled: Path, candidates: Path
) -> None:
    counts = run("judge_agreement", tmp_path / "agreement", f"labelled={labelled}", *judged_by(fake))
    assert (counts["passed"], counts["accuracy"], counts["kappa"]) == (1, 1.0, 1.0)
    assert counts["judge/requests"] == 240 and counts["judge/prompt_tokens"] == 240 * 7
    assert {path.name for path in (tmp_path / "agreement").iterdir()} == {
        "agreement.json", "verdicts.jsonl", "manifest.json",
    }  # fmt: skip
    settings = [f"candidates={candidates}", f"agreement={tmp_path / 'agreement'}", "validation_share=0"]
    counts = run("pairs", tmp_path / "pairs", *settings, *judged_by(fake))
    assert (counts["judge/ties"], counts["pairs/train"], counts["judge/requests"]) == (1, 6, 14)
    found = lines(tmp_path / "pairs" / "train.jsonl")
    assert all(line["chosen_response"].startswith("kind") for line in found)
    assert {line["row"] for line in found} == {f"c{n}" for n in range(6)}
    (first, *_) = found
    assert first["how"] == "judge" and first["detail"]["judge"]["model"] == "m"
    assert first["detail"]["agreement"]["kappa"] == 1.0
    assert first["source"] == f"candidates.jsonl:{int(first['row'][1:]) + 1}"
    again = run("pairs", tmp_path / "pairs2", *settings, *judged_by(fake))
    assert again["pairs/train"] == 6
    for name in ("train.jsonl", "report.json", "verdicts.jsonl"):
        assert (tmp_path / "pairs" / name).read_bytes() == (tmp_path / "pairs2" / name).read_bytes()


def test_a_judge_that_takes_the_first_answer_must_not_label(
    tmp_path: Path, fake: FakeServer, labelled: Path, candidates: Path
) -> None:
    fake.reply = lambda messages: "Verdict: A"
    counts = run("judge_agreement", tmp_path / "agreement", f"labelled={labelled}", *judged_by(fake))
    assert counts["passed"] == 0
    asked = len(fake.requests)
    settings = [f"candidates={candidates}", f"agreement={tmp_path / 'agreement'}"]
    with pytest.raises(InputError, match=r"must not label .*orders differ 100\.0%, first 100\.0%"):
        run("pairs", tmp_path / "pairs", *settings, *judged_by(fake))
    assert len(fake.requests) == asked and not (tmp_path / "pairs").exists()


def test_another_judge_needs_its_own_agreement(
    tmp_path: Path, fake: FakeServer, labelled: Path, candidates: Path
) -> None:
    run("judge_agreement", tmp_path / "agreement", f"labelled={labelled}", *judged_by(fake))
    settings = [f"candidates={candidates}", f"agreement={tmp_path / 'agreement'}"]
    with pytest.raises(InputError, match="measured with another judge"):
        run("pairs", tmp_path / "pairs", *settings, *judged_by(fake, model="n"))


def test_a_server_that_fails_costs_no_reply_twice(tmp_path: Path, fake: FakeServer, labelled: Path) -> None:
    answered: list[str] = []

    def until_it_falls_over(messages: Messages) -> str:
        answered.append(messages[-1]["content"])
        if len(answered) == 100:
            fake.script = [(500, {}, b"")] * 50
        return kinder(messages)

    fake.reply = until_it_falls_over
    settings = [f"labelled={labelled}", *judged_by(fake, concurrency=1)]
    with pytest.raises(Exception, match="no reply in 2 attempts"):
        run("judge_agreement", tmp_path / "agreement", *settings)
    assert not (tmp_path / "agreement").exists()
    fake.script = []
    counts = run("judge_agreement", tmp_path / "agreement", *settings)
    assert counts["compared"] == 120 and counts["kappa"] == 1.0
    assert len(answered) == len(set(answered)) == 240
    assert counts["judge/cache_hits"] == 100 - 64  # a batch of 32 pairs was written, the rest of 100 was in the cache


def test_a_shared_cache_serves_the_next_run(tmp_path: Path, fake: FakeServer, labelled: Path) -> None:
    settings = [f"labelled={labelled}", *judged_by(fake, cache=str(tmp_path / "cache.sqlite"))]
    run("judge_agreement", tmp_path / "one", *settings)
    counts = run("judge_agreement", tmp_path / "two", *settings, "gate.min_kappa=0.5")
    assert (counts["judge/requests"], counts["judge/cache_hits"]) == (0, 240)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    rows = [row for task in ("note_security", "hashtag_single") for row in sample_rows(task, "en")]
    write_rows(folder / "train.jsonl", [*rows, *(sum_row(number) for number in range(5))])
    return folder


def test_sources_without_a_model_together(tmp_path: Path, data: Path) -> None:
    predictions = write(
        tmp_path / "predictions.jsonl",
        [{"id": "arithmetic-1", "output": "9"}, {"id": "arithmetic-2", "outputs": ["3", "8", "8"]},
         {"id": "unknown", "output": "x"}],
    )  # fmt: skip
    given = write(tmp_path / "given.jsonl", [{"prompt": "tea?", "chosen": "yes", "rejected": "no"}])
    ties = write(tmp_path / "ties.jsonl", [{"prompt": "p", "answer_a": "x", "answer_b": "y", "label": "tie"}])
    counts = run(
        "pairs", tmp_path / "pairs", f"data={data}", "option_order={}", f"predictions={predictions}",
        "model_errors={}", f"files=[{given}, {ties}]", "validation_share=0", "max_refused_share=0.5",
    )  # fmt: skip
    found = lines(tmp_path / "pairs" / "train.jsonl")
    assert Counter(line["how"] for line in found) == {"option_order": 4, "model_errors": 2, "given": 1}
    assert (counts["pairs/train"], counts["given/ties"], counts["model_errors/answered"]) == (7, 1, 2)
    assert {line["rejected_response"] for line in found if line["how"] == "model_errors"} == {"9", "8"}
    (refused,) = manifest(tmp_path / "pairs")["refused_rows"]
    assert "predictions.jsonl:3: id='unknown' is no row of the data" in refused
    report = json.loads((tmp_path / "pairs" / "report.json").read_text())
    assert report["lengths"]["note_security"]["pairs"] == 2
    # what was written can be read as a file of pairs
    run("pairs", tmp_path / "again", f"files=[{tmp_path / 'pairs'}]", "validation_share=0")
    key = ("messages", "chosen_response", "rejected_response")
    assert [[line[k] for k in key] for line in lines(tmp_path / "again" / "train.jsonl")] == [
        [line[k] for k in key] for line in found
    ]


def test_too_many_bad_predictions_stop_the_stage(tmp_path: Path, data: Path) -> None:
    bad = write(tmp_path / "p.jsonl", [{"id": "arithmetic-1", "output": "9"}, {"id": "unknown", "output": "x"}])
    with pytest.raises(DataError, match=r"1 of 2 predictions refused(.|\n)*p\.jsonl:2"):
        run("pairs", tmp_path / "pairs", f"data={data}", f"predictions={bad}", "model_errors={}")


def test_an_unknown_task_is_refused_before_anything_is_done(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'note_security'"):
        run("pairs", tmp_path / "pairs", f"data={data}", "option_order.tasks=[note_securty]")


class Scripted(ScriptedGenerator):
    """Says which prompts it was asked, and stops the process after so many calls."""

    asked: Callable[[Sequence[str]], None]

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        self.asked(keys)
        return super().generate(prompts, params, keys)


def test_answers_of_the_model_are_drawn_once_also_over_an_interruption(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = sums_template(tmp_path / "tokenizer")
    generator = Scripted(template, lambda prompt, sample: str(number_in(prompt) + (sample > 0)))
    asked: list[str] = []

    def note(keys: Sequence[str]) -> None:
        asked.extend(keys)
        if len(asked) == 4:
            monkeypatch.setattr(executor, "agreed_stop", lambda context: 2)

    generator.asked = note
    monkeypatch.setattr(executor, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(Execution, "load_model", lambda self: (None, template.tokenizer, template))
    monkeypatch.setattr(Execution, "generator", lambda self, engine, config: generator)
    (tmp_path / "model").mkdir()
    settings = [
        f"data={data}", f"model={tmp_path / 'model'}", "model_errors.tasks=[arithmetic]",
        "model_errors.num_samples=3", "validation_share=0",
    ]  # fmt: skip
    with pytest.raises(Interrupted, match="stopped after 4 of 5 answers; the same command goes on"):
        run("pairs", tmp_path / "pairs", *settings)
    monkeypatch.setattr(executor, "agreed_stop", lambda context: 0)
    counts = run("pairs", tmp_path / "pairs", *settings)
    assert sorted(asked) == [f"arithmetic-{number}" for number in range(5)]
    assert counts["model_errors/answered"] == counts["pairs/train"] == 5
    for line in lines(tmp_path / "pairs" / "train.jsonl"):
        number = int(line["row"].rpartition("-")[2])
        assert (line["chosen_response"], line["rejected_response"]) == (str(number + 1), str(number))
        assert (line["detail"]["count"], line["detail"]["samples"]) == (1, 3)
    assert len(lines(tmp_path / "pairs" / "samples.jsonl")) == 5


def test_pairs_of_the_models_own_answers_are_drawn_judged_and_told(
    tmp_path: Path, data: Path, fake: FakeServer, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right and long, right, wrong, and one that is not read: the judge likes the long one."""
    template = sums_template(tmp_path / "tokenizer")
    drawn = ["{right}", "{wrong}", "{right}", "what is it?"]

    def answer(prompt: str, sample: int) -> str:
        number = number_in(prompt)
        return drawn[sample].format(right=number + 1, wrong=number)

    monkeypatch.setattr(Execution, "load_model", lambda self: (None, template.tokenizer, template))
    monkeypatch.setattr(Execution, "generator", lambda self, engine, config: ScriptedGenerator(template, answer))
    (tmp_path / "model").mkdir()
    settings = [
        f"data={data}", f"model={tmp_path / 'model'}", "own_answers.tasks=[arithmetic]", "own_answers.num_samples=4",
        "own_answers.pairs_per_row=3", "validation_share=0",
    ]  # fmt: skip
    counts = run("pairs", tmp_path / "plain", *settings)
    found = lines(tmp_path / "plain" / "train.jsonl")
    assert counts["own_answers/answered"] == len(found) == 5  # what cannot be read is no worse answer by default
    for line in found:
        number = int(line["row"].rpartition("-")[2])
        assert (line["chosen_response"], line["rejected_response"]) == (str(number + 1), str(number))
        assert (line["chosen_reward"], line["rejected_reward"], line["detail"]["margin"]) == (1.0, 0.0, 1.0)
        assert line["how"] == "own_answers" and len(line["detail"]["model_sha256"]) == 64
        assert (line["detail"]["chosen"]["count"], line["detail"]["samples"]) == (2, 4)
        assert line["detail"]["qualities"] == [1.0, 0.0, 0.0]

    def scored(messages: Messages) -> str:
        text = messages[-1]["content"]
        return f"Reasons.\nScore: {10 if 'kind' in text or 'what is it?' in text else 1}"

    fake.reply = scored
    judge = [*judged_by(fake), "judge.mode=pointwise"]
    run("judge_agreement", tmp_path / "agreement", f"labelled={labelled}", *judge)
    judge += [f"agreement={tmp_path / 'agreement'}", "own_answers.judge_weight=0.5"]
    counts = run("pairs", tmp_path / "judged", *settings, *judge, "own_answers.format_failures=true")
    assert counts["judge/requests"] == 15  # each different answer once
    found = lines(tmp_path / "judged" / "train.jsonl")
    assert len(found) == 10  # the right one over the wrong one (0) and over the one that only the judge likes (1/3)
    assert {(line["chosen_reward"], line["rejected_reward"]) for line in found} == {
        (0.666667, 0.0),
        (0.666667, 0.333333),
    }
    assert all(line["detail"]["judge"]["mode"] == "pointwise" for line in found)
    counts = run("pairs", tmp_path / "high", *settings, *judge, "own_answers.floor=0.7", "option_order={}")
    assert counts["own_answers/below_floor"] == 5 and "found/own_answers" not in counts


def test_own_answers_need_a_model_and_a_judge_of_single_answers(tmp_path: Path, data: Path, fake: FakeServer) -> None:
    with pytest.raises(ConfigError, match="own_answers needs model"):
        run("pairs", tmp_path / "a", f"data={data}", "own_answers={}")
    settings = [f"data={data}", f"model={data}", "own_answers.judge_weight=1"]
    with pytest.raises(ConfigError, match="need judge and agreement"):
        run("pairs", tmp_path / "b", *settings)
    with pytest.raises(ConfigError, match="answers are scored by themselves"):
        run("pairs", tmp_path / "c", *settings, f"agreement={data}", *judged_by(fake))
