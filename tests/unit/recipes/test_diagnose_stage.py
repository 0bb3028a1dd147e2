"""The diagnosis stage on evaluations made before: those of a stage, and those of a benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.cli.main import main
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.jsonl import write_jsonl
from megatron_redone.curation.diagnosis.bucket import read_bucket
from megatron_redone.evaluation.runner import write_evaluation
from megatron_redone.reporting.schema import DiagnosisResult, EvaluationResult, read_result
from tests.unit.curation.diagnosis.simulated import simulated

ABILITIES = {"note_ner": 0.1, "query_intent": 0.9, "note_security": 0.85}


def write_stage(folder: Path, name: str, abilities: dict[str, float], rows: int = 60) -> Path:
    found = simulated(name, abilities, rows, 0)
    predictions = [one for of_task in found.predictions.values() for one in of_task.values()]
    scores = tuple(found.scores[task] for task in sorted(found.scores))
    result = EvaluationResult(
        label=name, split="diagnosis", model=name, tasks=scores, mean_score=50, num_rows=len(predictions)
    )
    write_evaluation(folder, result, predictions)
    return folder


def write_benchmark(folder: Path, right: dict[str, int], rows: int = 40) -> Path:
    """As `redone evaluate` writes it, of a benchmark whose scores are means."""
    tasks = {
        name: {"score": 100 * count / rows, "interval": [0, 100], "num_rows": rows, "parse_rate": 1.0, "group": "g"}
        for name, count in right.items()
    }
    folder.mkdir(parents=True)
    atomic_write_json(
        folder / "results.json",
        {
            "benchmark": "mine", "label": "m", "score": 50, "interval": [0, 100], "score_rule": "mean",
            "groups": {}, "tasks": tasks, "baselines": {},
        },
    )  # fmt: skip
    lines = [
        {"task": name, "index": row, "value": float(row < count), "parsed": row < count + 2, "statistics": {}}
        for name, count in right.items()
        for row in range(rows)
    ]
    write_jsonl(folder / "scores.jsonl", lines)
    failure = {
        "file": "Note-NER.json", "index": rows - 1, "value": 0, "reason": "", "prompt": "p", "output": "o", "gold": "g"
    }  # fmt: skip
    write_jsonl(folder / "failures.jsonl", [failure])
    return folder


def run(folder: Path, *settings: str) -> int:
    return main(["curate", "diagnose", *settings, "--out", str(folder / "out")])


def test_a_stage_against_another_with_its_trend_bucket_and_page(tmp_path: Path) -> None:
    own = write_stage(tmp_path / "rl" / "evaluation", "rl", ABILITIES)
    base = write_stage(tmp_path / "base", "base", ABILITIES | {"note_ner": 0.8})
    settings = [f"against=[{base}/]", f"earlier=[{base}/]", "num_resamples=1000"]
    assert run(tmp_path, f"results={own.parent}/", *settings) == 0
    found = read_result(tmp_path / "out" / "diagnosis.json", DiagnosisResult)
    assert found.model == "rl" and found.weak_bucket == ("note_ner",) and found.earlier == ("base",)
    assert {task.task: task.trend for task in found.tasks}["note_ner"] == "fell"
    assert list(read_bucket(tmp_path / "out" / "bucket.yaml").tasks) == ["note_ner"]
    page = (tmp_path / "out" / "diagnosis.html").read_text()
    assert "Capability map" in page and page.count("<svg") == 2 and "points to" in page and "fell" in page
    first = (tmp_path / "out" / "diagnosis.json").read_bytes(), page
    assert main(["curate", "diagnose", f"results={own.parent}/", *settings, "--out", str(tmp_path / "again")]) == 0
    assert ((tmp_path / "again" / "diagnosis.json").read_bytes(), page) == first


def test_files_of_a_benchmark_name_the_tasks_that_ask_the_same(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path / "evals" / "m", {"Note-NER.json": 4, "Note-Gender.json": 38})
    assert run(tmp_path, f"results={folder}") == 0
    found = read_result(tmp_path / "out" / "diagnosis.json", DiagnosisResult)
    (weak,) = [task for task in found.tasks if task.weak]
    assert weak.task == "Note-NER.json" and weak.capability == "information_extraction"
    assert weak.failure_kinds == {"format": 34, "wrong": 2}
    assert weak.examples[0].output in ("o", "(the answer is not in the evaluation's folder)")
    assert list(read_bucket(tmp_path / "out" / "bucket.yaml").tasks) == ["note_ner"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["results=./absent/"], "is not there"),
        (["results={own}/", "model={own}/"], "give model and data, or results alone"),
        (["results={own}/", "against=[{own}/]", "threshold=50"], "give one kind of target"),
        (["results={own}/", "against=[{other}/]"], "answered no row of note_ner that own answered"),
        (["results={own}/", "targets={{note_ner: 120}}"], "targets.note_ner"),
        (["results={empty}/"], "no results.json there"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    own = write_stage(tmp_path / "own", "own", ABILITIES, 10)
    other = write_stage(tmp_path / "other", "other", ABILITIES, 10)
    path = other / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [line | {"id": f"other-{line['id']}"} for line in lines])
    (tmp_path / "empty").mkdir()
    places = {"own": own, "other": other, "empty": tmp_path / "empty"}
    assert run(tmp_path, *(setting.format(**places) for setting in settings)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "diagnosis.json").exists()
