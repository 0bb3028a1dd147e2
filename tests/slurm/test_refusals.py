"""What is wrong is said before anything is in the queue, in Slurm's own words where they are its."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from tests.slurm.cluster import PROFILE, ROOT, Cluster

pytestmark = pytest.mark.slurm
TEMPLATES = sorted((ROOT / "slurm" / "templates").rglob("*.sbatch"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"partition": "gpu"}}, "partition='gpu' does not exist on this cluster; it has: brief, main"),
        ({"model": {"partition": "brief", "time": "02:00:00"}}, "time=02:00:00 is over the limit 30:00 of partition"),
        ({"model": {"partition": "main", "ranks_per_node": 2, "gpus_per_node": 2}}, "nodes of partition main have 0"),
        ({"model": {"sbatch": ["--constraint=gold"]}}, "sbatch refused: "),
        ({"venv": "/nowhere"}, "/nowhere/bin/redone is not there"),
        ({"container": {"engine": "apptainer", "image": "/nowhere.sif"}}, "no such file; see slurm/images"),
        ({"nodes": 3}, "nodes"),
    ],
)
def test_a_profile_that_does_not_fit_the_cluster(
    cluster: Cluster, new_run: Callable[[], Path], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    for name, value in change.items():
        profile[name] = {**profile[name], **value} if isinstance(profile.get(name), dict) else value
    atomic_write_text(tmp_path / "profile.yaml", yaml.safe_dump(profile))
    before = cluster.slurm("squeue", "-h", "-o", "%i")
    shown = cluster.submit(new_run(), profile=tmp_path / "profile.yaml", code=2)
    assert said in shown
    assert cluster.slurm("squeue", "-h", "-o", "%i") == before


def test_more_nodes_than_there_are(cluster: Cluster, new_run: Callable[[], Path], tmp_path: Path) -> None:
    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    profile["model"]["partition"] = "main"
    atomic_write_text(tmp_path / "profile.yaml", yaml.safe_dump(profile))
    shown = cluster.submit(new_run(), "--nodes", "9", profile=tmp_path / "profile.yaml", code=2)
    assert "9 nodes, but partition main has 4" in shown


def test_a_layout_that_does_not_divide_the_ranks(cluster: Cluster, new_run: Callable[[], Path]) -> None:
    shown = cluster.submit(new_run(), "pretrain.parallel.tp=4", code=2)
    assert "stage pretrain: world size 2 is not divisible by parallel.tp * pp * cp = 4" in shown


def test_a_run_that_was_never_submitted(cluster: Cluster, tmp_path: Path) -> None:
    for command in ("status", "logs", "cancel"):
        assert "was not submitted with `redone submit`" in cluster.redone(command, str(tmp_path), code=2)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_slurm_takes_the_templates(cluster: Cluster, path: Path) -> None:
    here = ["--partition=main", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=100", "--gres=none"]
    if "#SBATCH hetjob" in path.read_text(encoding="utf-8"):
        pytest.skip("sbatch's own options reach the first component only; its parts are those of the others")
    cluster.slurm("sbatch", "--test-only", *here, str(path))
