"""Three seeds of real training: a planted weakness is found and mended, and the other tasks keep what they had."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from megatron_redone.reporting.schema import DiagnosisResult, EvaluationResult, read_result
from tests.integration.mini_recipe import run_here

RECIPE = Path(__file__).with_name("planted_weakness.yaml")
PLANTED, SEEDS = "emotional_companion", (1, 2, 3)
LEAST_RISE, LARGEST_FALL = 30.0, 1.0
"""Points."""


def scores(folder: Path) -> tuple[float, float]:
    """Of the planted task, and the mean of the others."""
    found = {task.task: task for task in read_result(folder / "evaluation/results.json", EvaluationResult).tasks}
    assert min(task.num_rows for task in found.values()) >= 600
    return found.pop(PLANTED).score, fmean(task.score for task in found.values())


@pytest.mark.slow
def test_a_family_missing_from_stage_1_is_found_and_mended_in_every_seed(tmp_path: Path) -> None:
    assert run_here(tmp_path / "run", recipe=RECIPE) == 0
    for seed in SEEDS:
        run = tmp_path / "run"
        found = read_result(run / f"diagnose.seed{seed}/diagnosis.json", DiagnosisResult)
        assert found.weak_bucket == (PLANTED,), found
        before, others_before = scores(run / f"stage1.seed{seed}")
        after, others_after = scores(run / f"target.seed{seed}")
        told = f"seed {seed}: {before:.1f} -> {after:.1f}, others {others_before:.1f} -> {others_after:.1f}"
        assert after - before >= LEAST_RISE, told
        assert others_before - others_after < LARGEST_FALL, told
