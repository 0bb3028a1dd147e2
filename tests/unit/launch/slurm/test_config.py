from __future__ import annotations

from pathlib import Path

import pytest

from megatron_redone.common.errors import ConfigError
from megatron_redone.config.loading import load_yaml, validate
from megatron_redone.launch.slurm.config import ClusterConfig, seconds_of

PROFILES = sorted((Path(__file__).resolve().parents[4] / "slurm" / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_every_profile_can_be_read(path: Path) -> None:
    cluster = validate(ClusterConfig, load_yaml(path), str(path))
    assert cluster.model.gpus_per_node in (0, cluster.model.ranks_per_node)
    assert seconds_of(cluster.model.time) > cluster.signal_seconds


@pytest.mark.parametrize(
    ("time", "seconds"), [("00:00:30", 30), ("24:00:00", 86_400), ("2-01:00:00", 176_400), ("100:00:00", 360_000)]
)
def test_limits_of_time(time: str, seconds: int) -> None:
    assert seconds_of(time) == seconds


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": {"gpu_count": 8}}, r"gpu_count"),
        ({"model": {"time": "1 day"}}, r"time='1 day' is no limit of time; write hours:minutes:seconds"),
        ({"model": {"time": "00:04:00"}}, r"signal to checkpoint comes signal_seconds=300 before it"),
        ({"model": {"ranks_per_node": 3, "gpus_per_node": 8}}, r"ranks_per_node=3 does not divide gpus_per_node=8"),
        ({"model": {"gpu_type": "h100"}}, r"gpu_type='h100' without GPUs"),
        ({"model": {"sbatch": ["exclusive"]}}, r"sbatch='exclusive' is no option of sbatch"),
        ({"variables": {"A B": "1"}}, r"'A B' is no name of an environment variable"),
        ({"venv": "/v", "container": {"engine": "pyxis", "image": "a.sqsh"}}, r"beside a container"),
        ({"container": {"engine": "docker", "image": "a"}}, r"engine"),
        ({"requeue": {"after_failure": -1}}, r"after_failure"),
    ],
)
def test_a_profile_with_a_mistake_is_refused(change: dict[str, object], problem: str) -> None:
    data = {"name": "a", "model": {"ranks_per_node": 1}} | change
    with pytest.raises(ConfigError, match=problem):
        validate(ClusterConfig, data, "profile.yaml")
