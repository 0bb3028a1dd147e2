"""The run that faults interrupt, the same run without a fault, and the table of what faults cost."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from megatron_redone.common.files import atomic_write_json
from tests.faults.table import FaultTable
from tests.faults.training import RECIPE, REPLICAS, fork, started
from tests.integration.mini_recipe import run_here


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", metavar="FILE", help="write what the faults of this run cost to a JSON file")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test finds, no training of it goes on."""
    yield
    while started:
        started.pop().kill()


@pytest.fixture(scope="session")
def fault_table(pytestconfig: pytest.Config) -> Iterator[FaultTable]:
    """Takes the cost of every fault; written where `--fault-table` asks for it."""
    table = FaultTable()
    yield table
    path = pytestconfig.getoption("--fault-table", default=None)
    if path is not None:
        atomic_write_json(Path(path), table.to_json())


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stages before the training are done."""
    output = tmp_path_factory.mktemp("prepared") / "run"
    for stage in ("data", "tokenizer", "tokens"):
        assert run_here(output, "--only", stage, recipe=RECIPE) == 0
    return output


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes a run folder in which only the training is to be done."""

    numbers = itertools.count()

    def copy() -> Path:
        return shutil.copytree(prepared, tmp_path / f"run-{next(numbers)}")

    return copy


@pytest.fixture(scope="session")
def whole_on(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the run that nothing interrupts, on two ranks in a layout."""

    @functools.cache
    def run(layout: str) -> Path:
        output = shutil.copytree(prepared, tmp_path_factory.mktemp("whole") / "run")
        training = fork(output, layout)
        assert training.end() == 0, training.said()
        return output

    return run


@pytest.fixture(scope="session")
def whole(whole_on: Callable[[str], Path]) -> Path:
    """The run that nothing interrupts, on two replicas."""
    return whole_on(REPLICAS)
