"""The real command line on two ranks: the whole chain of models with every matrix split over both."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from tests.integration.mini_recipe import (
    RECIPE,
    ROOT,
    SECONDS,
    command,
    copy_without,
)

MODELS = ["pretrain", "warmup", "explore.seed1", "refine.seed1", "sft_only.seed1", "judged.seed1", "target.seed1"]
SETS = ["diagnose.seed1", "target_set.seed1", "refinement_set.seed1"]

pytestmark = pytest.mark.distributed


def up_to_explore(folder: Path) -> Path:
    """The mini recipe without what follows exploration."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    stages = list(recipe["stages"])
    recipe["stages"] = {name: recipe["stages"][name] for name in stages[: stages.index("explore") + 1]}
    recipe["comparison"] = {"before": "warmup", "after": "explore"}
    atomic_write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return folder / "recipe.yaml"


def tasks_of(output: Path, stage: str) -> list[dict[str, Any]]:
    results = json.loads((output / stage / "evaluation" / "results.json").read_text())
    tasks: list[dict[str, Any]] = results["tasks"]
    return tasks


def test_two_tensor_parallel_ranks_reach_the_scores_of_one_process(finished_run: Path, tmp_path: Path) -> None:
    """Greedy answers of a model in fp32 are the same: the layouts' logits differ by about 1e-6, and a step of
    reinforcement draws with the same random numbers. A flipped answer would show as a whole row, so no tolerance."""
    output = copy_without(finished_run, tmp_path / "run", [*MODELS, *SETS])
    arguments = ("--nproc", "2", "parallel.tp=2")
    done = subprocess.run(
        command(output, *arguments, recipe=up_to_explore(tmp_path)),
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for stage in ("warmup", "explore.seed1"):
        assert tasks_of(output, stage) == tasks_of(finished_run, stage)
    assert "explore" in done.stderr and (output / "report.html").is_file()
