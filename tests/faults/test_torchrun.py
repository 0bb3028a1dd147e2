"""Below torchrun: a killed rank is started anew with the others, and ranks end with the torchrun that started them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from megatron_redone.checkpoint.distributed import LATEST
from megatron_redone.launch.processes import free_port
from tests.faults.table import Counts, FaultTable
from tests.faults.training import (
    EVERY,
    NUM_STEPS,
    Launched,
    assert_equal,
    checkpoints,
    fork,
    go_on,
    more_steps,
    random_moment,
    steps,
    torchrun,
    wait_until,
    wait_until_gone,
)

TORCHRUN = "kill -9 of torchrun"
RESTART = "kill -9 of a rank below torchrun, which starts all anew"

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only"),
]


def kill_and_await_restart(training: Launched, output: Path, victim: int, counts: Counts) -> None:
    """Kills a rank and waits until the ranks that torchrun starts in its place have done a step."""
    ranks = training.ranks()
    began = time.monotonic()
    ranks[victim].kill()
    wait_until_gone(ranks)
    before = steps(output)
    wait_until(more_steps(output, 1), training)
    counts.add(before[-1] + 1 - steps(output)[len(before)], time.monotonic() - began)


def test_a_restart_and_then_a_killed_torchrun(run: Callable[[], Path], whole: Path, fault_table: FaultTable) -> None:
    output = run()
    training = torchrun(output, options=["--standalone", "--max-restarts", "1"])
    wait_until((checkpoints(output) / LATEST).is_file, training)
    kill_and_await_restart(training, output, 1, fault_table.of(RESTART))
    assert "going on from step" in training.said()
    wait_until(more_steps(output, EVERY), training)
    assert len(training.ranks()) == 2
    training.process.kill()
    training.end()  # of all ranks, too
    assert steps(output)[-1] < NUM_STEPS - 1
    go_on(output, fork, fault_table.of(TORCHRUN))
    assert_equal(output, whole)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_two_restarts(rendezvous: str, run: Callable[[], Path], whole: Path, fault_table: FaultTable) -> None:
    """With both of torchrun's kinds of rendezvous: in both it holds the store itself."""
    random_numbers, counts = Random(rendezvous), fault_table.of(RESTART)
    for _ in range(2):
        options = ["--standalone"] if rendezvous == "c10d" else ["--master-port", str(free_port())]
        output = run()
        training = torchrun(output, options=[*options, "--max-restarts", "2"])
        for first, last in ((1, NUM_STEPS // 2), (NUM_STEPS // 2, NUM_STEPS * 3 // 4)):
            wait_until(random_moment(random_numbers, output, first, last), training)
            kill_and_await_restart(training, output, random_numbers.randrange(2), counts)
        assert training.end() == 0, training.said()
        assert_equal(output, whole)


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_torchrun(run: Callable[[], Path], whole: Path, fault_table: FaultTable) -> None:
    random_numbers = Random(14)
    for _ in range(3):
        output = run()
        training = torchrun(output)
        wait_until(random_moment(random_numbers, output), training)
        assert len(training.ranks()) == 2
        training.process.kill()
        training.end()
        go_on(output, torchrun, fault_table.of(TORCHRUN))
        assert_equal(output, whole)


@pytest.mark.slow
@pytest.mark.faults
def test_ranks_that_do_not_know_of_torchrun_train_on(run: Callable[[], Path]) -> None:
    """The control: without the variable that tells them of torchrun, they do not ask the kernel to end them with it."""
    output = run()
    training = torchrun(output, without=["TORCHELASTIC_RUN_ID"])
    wait_until(more_steps(output, 3), training)
    assert len(training.ranks()) == 2
    training.process.kill()
    training.process.wait()
    wait_until(more_steps(output, EVERY), training)
