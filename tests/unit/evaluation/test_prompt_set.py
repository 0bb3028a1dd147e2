from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.evaluation.benchmark import Prompt
from megatron_redone.evaluation.prompt_set import conversation, read_prompt_set
from megatron_redone.evaluation.sns_bench.benchmark import sns_bench
from megatron_redone.evaluation.translation import sns_transbench

BENCHMARK = sns_bench(None, "none")
ROW = {"question": "find {content}", "content": "a {b}", "answer": "x"}


def test_fields_are_filled_once_and_other_braces_stay(tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(
        'Note-NER.json:\n  system: \'Reply as [{"Option": "x"}] or {{content}} or {}.\'\n'
        '  user: "{content}? {question}"\n'
        "Note-Gender.json: |\n  Is it? {content}\n"
    )
    prompts = read_prompt_set(path, BENCHMARK)
    assert prompts["Note-Gender.json"] == Prompt("", "Is it? {content}\n")
    turns = conversation(prompts["Note-NER.json"], BENCHMARK.tasks["Note-NER.json"], ROW)
    assert turns == [
        {"role": "system", "content": 'Reply as [{"Option": "x"}] or {content} or {}.'},
        {"role": "user", "content": "a {b}? find {content}"},
    ]


def test_problems_are_listed_together(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(
        json.dumps(
            {
                "Note-NER.json": "{contents}",
                "Note-X.json": "{content}",
                "Note-CHLW.json": {"user": "{content}", "assistant": "x"},
                "Note-Gender.json": {"system": "{content}"},
                "Note-QueryGen.json": "no field",
                "Note-MRC-simple.json": ["{content}"],
            }
        )
    )
    with pytest.raises(DataError) as error:
        read_prompt_set(path, BENCHMARK)
    said = str(error.value)
    assert "Note-NER.json: unknown field {contents}; rows have question, content" in said
    assert "Note-X.json: not of sns-bench" in said and "Note-CHLW.json: unknown key assistant" in said
    assert "Note-Gender.json: no `user`" in said and "Note-QueryGen.json: shows no field" in said
    assert "Note-MRC-simple.json: expected a text" in said


@pytest.mark.parametrize("content", [b"", b"[1]", b"a: [", b"\xff\xfe"])
def test_a_file_that_is_no_prompt_set(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"--prompt-set"):
        read_prompt_set(path, BENCHMARK)


@pytest.mark.parametrize("benchmark", [BENCHMARK, sns_transbench()], ids=lambda benchmark: benchmark.name)
def test_the_built_in_prompts_show_every_field(benchmark) -> None:  # type: ignore[no-untyped-def]
    for task in benchmark.tasks.values():
        shown = {name for name in task.prompt_fields if f"{{{name}}}" in task.prompt.system + task.prompt.user}
        assert shown | {"source"} == set(task.prompt_fields) | {"source"}


def test_a_translation_prompt_names_both_languages() -> None:
    task = sns_transbench().tasks["RedTrans-Bench.json"]
    row = {"en": "cute", "zh": "可爱", "source": "comment", "src_lang": "zh", "dst_lang": "en"}
    user = conversation(task.prompt, task, row)[-1]["content"]
    assert "from Chinese to English" in user and "可爱" in user and "cute" not in user
