"""Every test runs with one thread a process, without torch's compiler, and from the same seeds."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is imported: it reads these once. Child processes of tests inherit them.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TORCHDYNAMO_DISABLE="1")
# Tells the command line that the environment stands: it must not start the test process anew.
os.environ["REDONE_SETTINGS"] = "TORCHDYNAMO_DISABLE"
# A test never asks a hub.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

from megatron_redone.launch.threads import VLLM  # imports no torch

os.environ.update(VLLM)  # as the command line does

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from megatron_redone.parallel.context import ParallelContext

# The same examples in every run, and no time limit for one of them: the machine may be busy.
settings.register_profile("project", derandomize=True, deadline=None)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seeds every generator a test might draw from by accident; tests that draw on purpose seed their own."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


STARTS_PROCESSES = ("distributed", "faults", "integration", "slurm")
"""Folders whose tests start ranks, commands or clusters."""


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals tests to workers by file; those that start processes all go to one, which runs them one after the other."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "processes" if file.split("/")[1] in STARTS_PROCESSES else file

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def parallel_context() -> Iterator[ParallelContext]:
    """The layout of one process, built once: a process has one process group."""
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context, shutdown

    yield build_context(ParallelConfig())
    shutdown()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of public data sets (`sns_bench`, `humaneval`, ...), named by REDONE_DATA; without it the test skips."""
    folder = os.environ.get("REDONE_DATA", "")
    if not folder:
        pytest.skip("REDONE_DATA names no folder of public data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def sandbox_backend() -> str:
    """The sandbox that programs are run in on this machine; without one the test skips."""
    from megatron_redone.common.errors import SandboxUnavailableError
    from megatron_redone.scoring.sandbox.pool import choose_backend

    try:
        return choose_backend()
    except SandboxUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def trl_python() -> Path:
    """Python of the environment of requirements/trl.lock, named by REDONE_TRL_PYTHON; without it the test skips."""
    name = os.environ.get("REDONE_TRL_PYTHON", "")
    if not name:
        pytest.skip("REDONE_TRL_PYTHON names no Python with TRL")
    return Path(name)
