"""`redone evaluate --benchmark general-bench` as a user types it, on a tiny model and made rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from megatron_redone.evaluation.results import read_item_scores, read_results
from tests.tiny_models import write_model


def evaluate(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "megatron_redone.cli.main", "evaluate", "--benchmark", "general-bench"]
    return subprocess.run([*command, *map(str, options)], capture_output=True, text=True, check=False)


def test_a_model_is_asked_once_and_the_files_say_what_came_out(tmp_path: Path) -> None:
    model, data, out = write_model(tmp_path / "model", "qwen3"), tmp_path / "data", tmp_path / "out"
    rows = {
        "gsm8k": [{"question": f"What is {n} and {n}?", "answer": f"#### {2 * n}"} for n in range(3)],
        "mmlu": [{"question": "What is dry?", "choices": ["sea", "sock"], "answer": "B"}],
    }
    for name, of_task in rows.items():
        (data / name).mkdir(parents=True)
        (data / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of_task), encoding="utf-8")
    options = ["--model", model, "--data", data, "--tasks", "gsm8k,mmlu,ceval", "--limit", 2, "--max-new-tokens", 8]
    first = evaluate(*options, "--out", out)
    assert first.returncode == 0, first.stderr
    result, items = read_results(out), list(read_item_scores(out))
    assert list(result.tasks) == ["gsm8k", "mmlu"] and result.missing == ("C-Eval",)
    assert result.score == sum(task["score"] for task in result.tasks.values()) / 2
    assert [(item.task, item.index) for item in items] == [("gsm8k", 0), ("gsm8k", 1), ("mmlu", 0)]
    assert "C-Eval" in first.stderr and (out / "evaluation.html").is_file()
    responses = (out / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(responses) == 2 + 2  # two letters, two answers
    (out / "responses.jsonl").write_text("\n".join(responses[:2]) + "\n" + responses[2][:20], encoding="utf-8")
    again = evaluate(*options, "--out", out)
    assert again.returncode == 0, again.stderr
    assert read_results(out) == result
    assert sorted((out / "responses.jsonl").read_text(encoding="utf-8").splitlines()) == sorted(responses)


def test_what_cannot_be_asked_ends_with_code_2(tmp_path: Path) -> None:
    unknown = evaluate("--model", tmp_path, "--data", tmp_path, "--tasks", "gsm9k", "--out", tmp_path / "out")
    assert unknown.returncode == 2 and "--tasks gsm9k: unknown" in unknown.stderr
