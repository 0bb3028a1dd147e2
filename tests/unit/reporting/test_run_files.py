from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.reporting.run_files import load_run
from megatron_redone.reporting.schema import EvaluationResult, Run, read_result
from tests.unit.reporting.synthetic_run import write_run


def test_a_whole_run_has_no_gaps(tmp_path: Path) -> None:
    files = load_run(write_run(tmp_path))
    assert files.gaps == ()
    assert files.evaluated() == ["warmup", "explore", "target", "refine", "sft_only"]
    assert [stage.stage.seed for stage in files.of_name("explore")] == [1, 2, 3]
    assert files.of_name("explore")[1].title == "explore (seed 2)"


def test_a_partial_run_says_what_it_lacks(tmp_path: Path) -> None:
    gaps = load_run(write_run(tmp_path, seeds=(1,), upto="explore")).gaps
    assert "target (seed 1) is not finished (status: pending)." in gaps
    assert len(gaps) == 4


def test_missing_files_of_finished_stages_are_gaps(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "baselines" / "baselines.json").unlink()
    (run / "refine.seed2" / "evaluation" / "results.json").unlink()
    (run / "warmup" / "evaluation" / "results.json").unlink()
    (run / "cpt" / "manifest.json").unlink()
    gaps = load_run(run).gaps
    assert "There are no baselines (baselines/baselines.json)." in gaps
    assert "There is no evaluation of refine (seed 2)." in gaps
    assert "There is no evaluation of warmup." in gaps
    assert "cpt has no manifest.json." in gaps


def test_a_comparison_with_an_unknown_stage_is_a_gap(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    value = json.loads((run / "run.json").read_text())
    value["comparison"]["after"] = "polish"
    (run / "run.json").write_text(json.dumps(value))
    assert load_run(run).gaps == ("The run has no stage polish, which `comparison` names.",)
    value["comparison"] = None
    (run / "run.json").write_text(json.dumps(value))
    assert "(`comparison` in run.json)" in load_run(run).gaps[0]


def test_an_absent_run_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json: no such file; run the stage"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 3}, r"results\.json: tasks: "),
        ({"mean_score": 120.0}, r"results\.json: mean_score: "),
        ({"extra": 1}, r"results\.json: extra: "),
        ({"seed": "one"}, r"results\.json: seed: "),
    ],
)
def test_a_broken_field_is_named_with_its_file(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_run(tmp_path, seeds=(1,)) / "warmup" / "evaluation" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", r":1: not JSON"), (b'{"name": "\xff"}', r"not UTF-8 at byte 10"), (b"[]", "the whole file: ")],
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_result(path, Run)


def test_result_files_survive_the_way_to_disk(tmp_path: Path) -> None:
    path = write_run(tmp_path, seeds=(1,)) / "warmup" / "evaluation" / "results.json"
    result = read_result(path, EvaluationResult)
    assert EvaluationResult.model_validate(result.model_dump(mode="json")) == result


def test_after_a_resume_the_later_row_of_a_step_counts(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    rows = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "loss": 1.5},
        {"step": 3, "loss": 1.0},
    ]
    (run / "cpt" / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    assert [row["loss"] for row in load_run(run).of_name("cpt")[0].metrics] == [3.0, 1.5, 1.0]


def test_a_torn_last_metrics_line_is_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, seeds=(1,))
    (run / "cpt" / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
    files = load_run(run)
    assert files.gaps == ("cpt/metrics.jsonl: the last line is torn and was left out.",)
    assert len(files.of_name("cpt")[0].metrics) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"step": 1\n{"step": 2, "loss": 1.0}\n', r"metrics\.jsonl:1: not JSON"),
        ('{"loss": 1.0}\n', r"metrics\.jsonl:1: step is None"),
        ('{"step": 1.5}\n', r"metrics\.jsonl:1: step is 1\.5"),
        ('{"step": 1, "loss": "low"}\n', r"metrics\.jsonl:1: loss is 'low'"),
    ],
)
def test_damaged_metrics_are_errors(tmp_path: Path, content: str, message: str) -> None:
    run = write_run(tmp_path, seeds=(1,))
    (run / "cpt" / "metrics.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        load_run(run)
