"""A batch system sends SIGTERM, waits, and sends SIGKILL: given time nothing is lost, without it a few steps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.faults.table import FaultTable
from tests.faults.training import (
    NUM_STEPS,
    Start,
    assert_equal,
    fork,
    go_on,
    launch,
    random_moment,
    steps,
    torchrun,
    wait_until,
    wait_until_gone,
)

GRACE_SECONDS = 60
"""Between the two signals; Slurm's default is 30."""
LONG = [pytest.mark.slow, pytest.mark.faults]

pytestmark = pytest.mark.distributed


@pytest.mark.parametrize(("start", "stops"), [(fork, 1), pytest.param(launch, 5, marks=LONG)])
def test_ranks_checkpoint_in_time(
    start: Start, stops: int, run: Callable[[], Path], whole: Path, fault_table: FaultTable
) -> None:
    random_numbers = Random(15)
    for _ in range(stops):
        output = run()
        training = start(output)
        wait_until(random_moment(random_numbers, output), training)
        signalled = [*training.signalled(), *training.ranks()]
        for process in training.signalled():
            process.send_signal(signal.SIGTERM)
        wait_until_gone(signalled, GRACE_SECONDS)
        assert training.end() == 75
        assert f"Preempted: pretrain: stopped after step {steps(output)[-1] + 1} of {NUM_STEPS}" in training.said()
        assert go_on(output, start, fault_table.of("SIGTERM, a minute before SIGKILL")) == 0
        assert_equal(output, whole)


@pytest.mark.parametrize(("start", "stops"), [(fork, 1), pytest.param(launch, 5, marks=LONG)])
def test_no_time_to_checkpoint(
    start: Start, stops: int, run: Callable[[], Path], whole: Path, fault_table: FaultTable
) -> None:
    random_numbers = Random(16)
    for _ in range(stops):
        output = run()
        training = start(output)
        wait_until(random_moment(random_numbers, output), training)
        assert len(training.ranks()) == 2
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in training.signalled():
                process.send_signal(number)
        training.end()  # of all ranks, too
        go_on(output, start, fault_table.of("SIGTERM, SIGKILL at once"))
        assert_equal(output, whole)


@pytest.mark.slow
@pytest.mark.faults
def test_torchrun_hands_the_signal_on(run: Callable[[], Path], whole: Path, fault_table: FaultTable) -> None:
    random_numbers = Random(17)
    for _ in range(2):
        output = run()
        training = torchrun(output)
        wait_until(random_moment(random_numbers, output), training)
        assert len(training.ranks()) == 2
        training.process.send_signal(signal.SIGTERM)
        assert training.end() != 0
        assert "Preempted: pretrain: stopped after step" in training.said()
        assert go_on(output, torchrun, fault_table.of("SIGTERM to torchrun")) == 0
        assert_equal(output, whole)
