"""The real command line on two ranks, every matrix split over both, beside one process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from megatron_redone.common.jsonl import read_jsonl
from tests.integration.mini_recipe import RECIPE, ROOT, SECONDS, command, manifest

pytestmark = pytest.mark.distributed


def recipe_on(finished: Path, folder: Path) -> Path:
    """Data and pretraining of the mini recipe; the model of its warm-up, by path, is judged and explores."""
    stages = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["stages"]
    chosen = {name: stages[name] for name in ("data", "tokenizer", "tokens", "pretrain", "explore_set", "explore")}
    chosen["explore"]["model"] = f"{finished}/warmup"
    chosen["before"] = {"kind": "evaluate", "model": f"{finished}/warmup"}
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe |= {"stages": chosen, "comparison": {"before": "before", "after": "explore"}}
    atomic_write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return folder / "recipe.yaml"


def scores(output: Path, stage: str) -> dict[str, float]:
    results = json.loads((output / stage / "evaluation" / "results.json").read_text())
    return {task["task"]: task["score"] for task in results["tasks"]}


def answers(output: Path, stage: str) -> list[str]:
    return [row["output"] for _, row in read_jsonl(output / stage / "evaluation" / "predictions.jsonl")]


def metrics(output: Path, stage: str) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(output / stage / "metrics.jsonl")]


def test_two_tensor_parallel_ranks_reach_the_scores_of_one_process(finished_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = command(output, "--nproc", "2", "parallel.tp=2", recipe=recipe_on(finished_run, tmp_path))
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert manifest(output, "explore.seed1")["config"]["parallel"]["tp"] == 2
    assert (output / "report.html").is_file()
    for split, whole in zip(metrics(output, "pretrain"), metrics(finished_run, "pretrain"), strict=True):
        assert split["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    # greedy in fp32: sums over two ranks round differently by 1e-6, which no choice between two tokens notices
    assert answers(output, "before") == answers(finished_run, "warmup")
    assert scores(output, "before") == scores(finished_run, "warmup")
    for split, whole in zip(metrics(output, "explore.seed1"), metrics(finished_run, "explore.seed1"), strict=True):
        assert split["reward"] == pytest.approx(whole["reward"], abs=1e-9)  # the same answers were drawn
        assert split["loss"] == pytest.approx(whole["loss"], abs=1e-3)
    assert scores(output, "explore.seed1") == scores(finished_run, "explore.seed1")
