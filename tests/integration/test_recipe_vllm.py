"""A recipe whose generation is vLLM's: reinforcement, diagnosis and evaluation go as with the in-process generator.

Needs vLLM: `make test-vllm`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from megatron_redone.common.jsonl import read_jsonl
from tests.integration.mini_recipe import RECIPE, run_here

pytest.importorskip("vllm", reason="vLLM is not installed; make test-vllm runs this in an environment that has it")
pytestmark = pytest.mark.vllm

VLLM = [
    "generation.engine=vllm",
    "generation.vllm.kv_cache_gib=0.1",
    "evaluate.generation.engine=vllm",
    "evaluate.generation.vllm.kv_cache_gib=0.1",
]
STAGES = ("data", "tokenizer", "tokens", "pretrain", "warmup_set", "warmup", "explore_set", "explore", "diagnose")


def recipe_in(folder: Path) -> Path:
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe |= {"stages": {name: recipe["stages"][name] for name in STAGES}}
    recipe["comparison"] = {"before": "warmup", "after": "explore"}
    atomic_write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return folder / "recipe.yaml"


def metrics(output: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(output / "explore.seed1" / "metrics.jsonl")]


def test_a_recipe_gives_the_same_with_either_engine(tmp_path: Path) -> None:
    recipe, ours, theirs, ahead = (recipe_in(tmp_path), *(tmp_path / name for name in ("ours", "theirs", "ahead")))
    assert run_here(ours, recipe=recipe) == 0
    for output, more in ((theirs, ()), (ahead, ("stages.explore.rollout.staleness=1",))):
        shutil.copytree(ours, output)
        for stage in ("explore.seed1", "diagnose.seed1"):
            shutil.rmtree(output / stage)
        assert run_here(output, *VLLM, *more, recipe=recipe) == 0
    expected, found, late = metrics(ours), metrics(theirs), metrics(ahead)
    assert len(found) == len(expected) == 3
    for name in ("reward", "parse_rate", "response_length", "groups_thrown_away"):  # the same answers
        assert [row[name] for row in found] == [row[name] for row in expected]
        assert late[0][name] == expected[0][name]
    assert max(row["rollout_logprob_gap_max"] for row in found) < 1e-4
    assert [row["rollout_staleness"] for row in late] == [0.0, 1.0, 1.0]
    for stage in ("explore.seed1/evaluation", "diagnose.seed1/diagnosis_rows"):
        results = [json.loads((output / stage / "results.json").read_text()) for output in (ours, theirs)]
        assert results[0]["tasks"] == results[1]["tasks"]
