"""kill -9 of a rank, of all ranks, of the launcher: nobody trains on, and the next start ends as if nothing had been.

The short set forks its ranks, and no launcher helps them to end; the long one kills ranks of `redone run --nproc 2`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.faults.table import FaultTable
from tests.faults.training import (
    EVERY,
    REPLICAS,
    TENSOR_PARALLEL,
    Launched,
    Start,
    assert_equal,
    fork,
    go_on,
    launch,
    more_steps,
    random_moment,
    run_arguments,
    wait_until,
)

LONG = [pytest.mark.slow, pytest.mark.faults]

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize(("start", "kills"), [(fork, 1), pytest.param(launch, 10, marks=LONG)])
@pytest.mark.parametrize("layout", [REPLICAS, TENSOR_PARALLEL])
def test_a_killed_rank(
    layout: str,
    start: Start,
    kills: int,
    run: Callable[[], Path],
    whole_on: Callable[[str], Path],
    fault_table: FaultTable,
) -> None:
    random_numbers = Random(layout)
    for _ in range(kills):
        output = run()
        moment, victim = random_moment(random_numbers, output), random_numbers.randrange(2)
        training = start(output, layout)
        wait_until(moment, training)
        training.ranks()[victim].kill()
        assert training.end() != 0  # of the other rank, too
        go_on(output, start, fault_table.of("kill -9 of one rank of two"), layout)
        assert_equal(output, whole_on(layout))


@pytest.mark.parametrize(("start", "kills"), [(fork, 1), pytest.param(launch, 5, marks=LONG)])
def test_all_ranks_killed_at_once(
    start: Start, kills: int, run: Callable[[], Path], whole: Path, fault_table: FaultTable
) -> None:
    random_numbers = Random(12)
    for _ in range(kills):
        output = run()
        moment = random_moment(random_numbers, output)
        training = start(output)
        wait_until(moment, training)
        for rank in training.ranks():
            rank.kill()
        assert training.end() != 0
        go_on(output, start, fault_table.of("kill -9 of all ranks at once"))
        assert_equal(output, whole)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_a_killed_launcher(run: Callable[[], Path], whole: Path, fault_table: FaultTable) -> None:
    random_numbers = Random(13)
    for _ in range(5):
        output = run()
        moment = random_moment(random_numbers, output)
        training = launch(output)
        wait_until(moment, training)
        assert len(training.ranks()) == 2
        training.process.kill()
        training.end()  # of all ranks, too
        go_on(output, launch, fault_table.of("kill -9 of the launcher, `redone run --nproc 2`"))
        assert_equal(output, whole)


CARELESS_LAUNCHER = """
import os, sys
from megatron_redone.launch import processes
processes.end_with_parent = lambda parent: None
processes.run_on_host(processes.redone_command(sys.argv[1:]), 2, os.environ)
"""


@pytest.mark.slow
@pytest.mark.faults
def test_ranks_of_a_careless_launcher_train_on(run: Callable[[], Path]) -> None:
    """The control: a launcher that does not ask the kernel to end its ranks leaves orphans."""
    output = run()
    training = Launched(output, [sys.executable, "-c", CARELESS_LAUNCHER, *run_arguments(output)])
    wait_until(more_steps(output, 3), training)
    assert len(training.ranks()) == 2
    training.process.kill()
    training.process.wait()
    wait_until(more_steps(output, EVERY), training)
