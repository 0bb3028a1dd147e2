"""A file of prompts becomes a file of completions: whole, in order, and the same whatever interrupted it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.common.errors import DataError, InputError, Interrupted
from megatron_redone.data.chat_template import ChatTemplate
from megatron_redone.generation.base import Completion, SamplingParams
from megatron_redone.generation.config import GenerationConfig
from megatron_redone.generation.to_file import (
    OutputOptions,
    generate_to_file,
    is_done,
    manifest_of,
    model_identity,
    read_prompts,
)
from tests.scripted_generation import ScriptedGenerator, number_in, sum_row, sums_template

IDENTITY = {"model": "m", "settings": {"temperature": 1.0}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return sums_template(tmp_path_factory.mktemp("tokenizer"))


class Engine(ScriptedGenerator):
    """Answers sums; counts what it was asked, and stops after a number of calls."""

    def __init__(self, template: ChatTemplate, calls: int = 99) -> None:
        super().__init__(template, lambda text, sample: str(number_in(text) + 1 + sample))
        self.calls, self.keys = calls, list[str]()

    def generate(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams, keys: Sequence[str]
    ) -> list[list[Completion]]:
        self.calls -= 1
        if self.calls < 0:
            raise Interrupted("stopped")
        self.keys += keys
        return super().generate(prompts, params, keys)


def prompts_file(path: Path, count: int = 10) -> Path:
    lines = [json.dumps({"id": f"q{n}", "prompt": f"Calculate: {n} + 1"}) for n in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(
    tmp_path: Path, template: ChatTemplate, engine: Engine, out: str = "out.jsonl", **changes: Any
) -> dict[str, int]:
    settings: dict[str, Any] = {
        "num_samples": 2,
        "seed": 0,
        "options": OutputOptions(True, True),
        "chunk": 3,
        **changes,
    }
    config = settings.pop("config", GenerationConfig(max_prompt_tokens=200))
    identity = settings.pop("identity", IDENTITY)
    asked = read_prompts(prompts_file(tmp_path / "prompts.jsonl"))
    return generate_to_file(asked, lambda: engine, template, config, tmp_path / out, identity, **settings)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_prompt_is_answered_in_order(tmp_path: Path, template: ChatTemplate) -> None:
    counts = run(tmp_path, template, Engine(template))
    lines = read(tmp_path / "out.jsonl")
    assert [line["id"] for line in lines] == [f"q{n}" for n in range(10)]
    assert [line["outputs"] for line in lines] == [[str(n + 1), str(n + 2)] for n in range(10)]
    for line in lines:
        assert line["finish_reasons"] == ["stop", "stop"]
        assert [len(ids) for ids in line["token_ids"]] == line["num_tokens"] == [len(p) for p in line["logprobs"]]
    assert counts == {"prompts": 10, "outputs": 20, "tokens": sum(sum(x["num_tokens"]) for x in lines), "over_long": 0}
    assert is_done(tmp_path / "out.jsonl", IDENTITY)


@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_run_goes_on_and_ends_alike(torn: bool, tmp_path: Path, template: ChatTemplate) -> None:
    run(tmp_path, template, Engine(template), "whole.jsonl")
    with pytest.raises(Interrupted):
        run(tmp_path, template, Engine(template, calls=2))
    partial = tmp_path / "out.jsonl.partial"
    assert not (tmp_path / "out.jsonl").exists() and len(read(partial)) == 7
    if torn:
        partial.write_bytes(partial.read_bytes()[:-5])
    again = Engine(template)
    run(tmp_path, template, again)
    assert again.keys == [f"q{n}" for n in range(5 if torn else 6, 10)]
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not partial.exists()


def test_an_unfinished_output_of_other_settings_is_refused(tmp_path: Path, template: ChatTemplate) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, template, Engine(template, calls=1))
    with pytest.raises(InputError, match=r"unfinished output of other settings \(model differ\)"):
        run(tmp_path, template, Engine(template), identity={**IDENTITY, "model": "n"})


def test_a_finished_output_is_known_by_its_settings_and_bytes(tmp_path: Path, template: ChatTemplate) -> None:
    out = tmp_path / "out.jsonl"
    assert not is_done(out, IDENTITY)
    run(tmp_path, template, Engine(template))
    with pytest.raises(InputError, match=r"there already, of other settings"):
        is_done(out, {**IDENTITY, "model": "n"})
    manifest = manifest_of(out).read_text()
    for damage in (lambda: out.write_text("{}\n"), lambda: manifest_of(out).unlink()):
        before = out.read_text()
        damage()
        with pytest.raises(InputError, match=r"there already"):
            is_done(out, IDENTITY)
        out.write_text(before)
        manifest_of(out).write_text(manifest)
    assert is_done(out, IDENTITY)


def test_prompts_over_the_limit_have_no_outputs(tmp_path: Path, template: ChatTemplate) -> None:
    counts = run(tmp_path, template, Engine(template), config=GenerationConfig(max_prompt_tokens=2))
    assert counts == {"prompts": 10, "outputs": 0, "tokens": 0, "over_long": 10}
    assert all(line["over_long"] and line["prompt_tokens"] > 2 for line in read(tmp_path / "out.jsonl"))


def test_all_forms_of_prompts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    lines = [{"id": 1, "prompt": "Hi"}, {"id": "b", "messages": messages}, sum_row(3).to_json()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = read_prompts(path)
    assert [one.id for one in asked] == ["1", "b", "arithmetic-3"]
    assert [one.messages[-1]["content"] for one in asked[:2]] == ["Hi", "Hi"]
    assert "3 + 1" in asked[2].messages[-1]["content"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", r"prompts.jsonl:2: not JSON"),
        ('{"prompt": "x"}', r"prompts.jsonl:2: id=None; every line needs an id"),
        ('{"id": true, "prompt": "x"}', r"id=True"),
        ('{"id": "q0", "prompt": "x"}', r"'q0' occurs twice"),
        ('{"id": "a"}', r"neither a text under `prompt`"),
        ('{"id": "a", "prompt": " "}', r"neither a text under `prompt`"),
        ('{"id": "a", "prompt": "\\ud83d"}', r"half of a surrogate pair"),
        ('{"id": "a", "messages": [{"role": "assistant", "content": "x"}]}', r"prompts.jsonl:2"),
        ('{"id": "a", "messages": "x"}', r"expected a list of messages"),
        ('{"id": "a", "task": "no_such", "language": "en", "fields": {}, "answer": "x"}', r":2: task 'no_such'"),
        ('{"id": "a", "task": "arithmetic", "language": "en", "fields": {}, "answer": 1}', r":2: .*question"),
    ],
)
def test_lines_that_cannot_be_used_are_named(line: str, problem: str, tmp_path: Path) -> None:
    path = prompts_file(tmp_path / "prompts.jsonl", 1)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"1 of 2 lines cannot be used") as refused:
        read_prompts(path)
    assert re.search(problem, str(refused.value)), refused.value


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"no line in it"):
        read_prompts(tmp_path / "prompts.jsonl")


def test_a_model_folder_is_known_by_its_files(tmp_path: Path) -> None:
    write: Callable[[str, str], int] = lambda name, text: (tmp_path / name).write_text(text)  # noqa: E731
    write("config.json", "{}")
    before = model_identity(tmp_path)
    write("config.json", '{"a": 1}')
    assert model_identity(tmp_path) != before
