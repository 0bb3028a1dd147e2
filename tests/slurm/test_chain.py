"""A recipe as a chain of jobs on two nodes, tensor-parallel and data-parallel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from tests.integration.mini_recipe import manifest
from tests.slurm.cluster import RECIPE, Cluster, events, losses, nodes_by_attempt, verdicts

pytestmark = pytest.mark.slurm


def test_three_stages_run_one_behind_the_other_on_two_nodes(cluster: Cluster, chain: Path) -> None:
    for stage in ("pretrain", "warmup", "explore"):
        assert verdicts(chain, stage) == ["done"]
        (nodes,) = nodes_by_attempt(chain, stage)
        assert len(cluster.slurm("scontrol", "show", "hostnames", nodes).split()) == 2
        assert manifest(chain, stage)["status"] == "done"
        logs = sorted(path.name for path in (chain / "slurm" / stage / "attempt-0").glob("rank-*.log"))
        assert logs == ["rank-0.log", "rank-1.log", "rank-2.log", "rank-3.log"]
    ended, began = events(chain, "pretrain")[-1].time, events(chain, "warmup")[0].time
    assert ended <= began
    assert len(losses(chain, "pretrain")) == 120
    assert (chain / "report.html").is_file()


def test_status_and_logs_of_a_finished_run(cluster: Cluster, chain: Path) -> None:
    shown = json.loads(cluster.redone("status", str(chain), "--json"))
    assert [(job["job"], job["state"], job["attempts"]) for job in shown["jobs"]] == [
        ("pretrain", "done", 1),
        ("warmup", "done", 1),
        ("explore", "done", 1),
    ]
    assert shown["jobs"][0]["stages"][0]["last_step"] == 120
    merged = cluster.redone("logs", str(chain), "--job", "pretrain").splitlines()
    assert merged[0] == "pretrain, attempt-0"
    assert any(line.startswith("[0] ") and "pretrain: done" in line for line in merged)


def test_what_is_done_is_not_submitted_again(cluster: Cluster, chain: Path) -> None:
    assert "every stage is done; nothing to submit" in cluster.submit(chain, "parallel.tp=2")


def test_a_failing_stage_cancels_those_behind_it(cluster: Cluster, new_run: Callable[[], Path], tmp_path: Path) -> None:
    run = new_run()
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe["stages"]["tokens"]["corpus"] = "explore_set"  # a folder without a corpus: found out when it runs
    for stage in ("warmup_set", "explore_set"):
        del recipe["stages"][stage]
    recipe["stages"] = {name: recipe["stages"][name] for name in ("data", "tokenizer")} | {
        "explore_set": {"kind": "rl_set", "data": "data", "general_rows": 0},
        "tokens": recipe["stages"]["tokens"],
        "pretrain": recipe["stages"]["pretrain"],
        "judged": {"kind": "baselines", "data": "data"},
        "last": {"kind": "evaluate", "model": "pretrain", "evaluate": {"data": "data"}},
    }
    atomic_write_text(tmp_path / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    cluster.submit(run, recipe=tmp_path / "recipe.yaml")
    cluster.wait_state(run, "tokens", "FAILED")
    cluster.wait_state(run, "pretrain", "CANCELLED")
    cluster.wait_state(run, "last", "CANCELLED")
    cluster.wait_state(run, "judged", "COMPLETED")  # it does not read what failed
    assert verdicts(run, "tokens") == ["failed"]
    shown = json.loads(cluster.redone("status", str(run), "--json", code=1))
    states = {job["job"]: job["state"] for job in shown["jobs"]}
    assert states == {"judged": "done", "tokens": "failed", "pretrain": "cancelled", "last": "cancelled"}
