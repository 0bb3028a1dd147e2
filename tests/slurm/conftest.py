"""A real Slurm for the tests: four nodes on this host, and a run whose data is made."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from megatron_redone.common.files import atomic_write_text
from tests.integration.mini_recipe import run_here
from tests.slurm.cluster import PROFILE, PROGRAMS, RECIPE, ROOT, Cluster, clean_environ

DATA_STAGES = ("data", "tokenizer", "tokens", "warmup_set", "explore_set")
PORT = 17_000


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster; without Slurm's programs the test skips."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge iproute2)")
    folder = tmp_path_factory.mktemp("cluster")
    port = PORT + 10 * (os.getpid() % 200)
    environ = clean_environ() | {"CLUSTER_DIR": str(folder), "CLUSTER_PORT": str(port)}
    script = str(ROOT / "slurm" / "local_cluster.sh")
    started = subprocess.run([script, "start"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield Cluster(folder, environ | {"SLURM_CONF": str(folder / "slurm.conf")})
    finally:
        subprocess.run([script, "stop"], env=environ, capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stages before the training are done."""
    output = tmp_path_factory.mktemp("prepared") / "run"
    for stage in DATA_STAGES:
        assert run_here(output, "--only", stage, recipe=RECIPE) == 0
    return output


@pytest.fixture
def new_run(prepared: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Callable[[], Path]]:
    """Makes a run folder in which only the training is to be done; its jobs end with the test."""
    numbers = itertools.count()
    made: list[Path] = []

    def copy() -> Path:
        made.append(shutil.copytree(prepared, tmp_path / f"run-{next(numbers)}"))
        return made[-1]

    yield copy
    for run in made:
        if (run / "slurm" / "jobs.json").is_file():
            cluster.redone("cancel", str(run))


@pytest.fixture(scope="session")
def chain(cluster: Cluster, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stages on two nodes of two processes each, tensor-parallel and data-parallel."""
    folder = tmp_path_factory.mktemp("chain")
    profile = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    profile["model"]["ranks_per_node"] = 2
    atomic_write_text(folder / "profile.yaml", yaml.safe_dump(profile))
    run = shutil.copytree(prepared, folder / "run")
    cluster.submit(run, "parallel.tp=2", profile=folder / "profile.yaml")
    for stage in ("pretrain", "warmup", "explore"):
        cluster.wait_state(run, stage, "COMPLETED")
    return run


@pytest.fixture(scope="session")
def pretraining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe up to its first stage that trains."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    del recipe["stages"]["warmup"], recipe["stages"]["explore"]
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    atomic_write_text(path, yaml.safe_dump(recipe, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def started_whole(
    cluster: Cluster, prepared: Path, pretraining: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The pretraining that nothing interrupts, submitted; it runs beside the first test that asks for it."""
    run = shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "run")
    cluster.submit(run, recipe=pretraining)
    return run


@pytest.fixture
def whole(cluster: Cluster, started_whole: Path) -> Callable[[], Path]:
    """Waits for that pretraining and gives its folder."""

    def finished() -> Path:
        cluster.wait_state(started_whole, "pretrain", "COMPLETED")
        return started_whole

    return finished
