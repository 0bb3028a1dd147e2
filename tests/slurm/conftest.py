"""A real Slurm for the tests: four nodes on this host, and a run whose data is made."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.mini_recipe import run_here
from tests.slurm.cluster import PROGRAMS, RECIPE, ROOT, Cluster, clean_environ

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
        assert run_here(output, "parallel.tp=1", "--only", stage, recipe=RECIPE) == 0
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
def whole(cluster: Cluster, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chain of three stages on two nodes, submitted once, with nothing in its way."""
    run = shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "run")
    cluster.submit(run)
    cluster.wait_state(run, "explore", "COMPLETED")
    return run
