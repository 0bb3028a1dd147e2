"""One item's fault is that item's: the others have their results, in order, and no process stays."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from megatron_redone.common.errors import RedoneError
from megatron_redone.scoring.pool import DeadlinePool
from tests.unit.scoring import broken_in_a_process
from tests.unit.scoring.pool_functions import act, instead

LATE = "no result after 0.5 s"


def pool(num_workers: int = 2, deadline: float = 0.5) -> DeadlinePool[str, str]:
    return DeadlinePool(act, instead, num_workers, deadline)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_are_those_of_the_function(num_workers: int) -> None:
    items = [f"item {number}" for number in range(100)]
    with pool(num_workers, deadline=60.0) as workers:
        assert workers.map(items) == [act(item) for item in items]
        assert workers.map([]) == []
        assert workers.map(items[:3]) == [act(item) for item in items[:3]]
        assert not any(workers.counts.values())


def test_faults_cost_their_own_items_only() -> None:
    items = [f"item {number}" for number in range(40)]
    faults = {3: "hang", 4: "die", 5: "raise", 21: "hang", 30: "die", 39: "memory"}
    for place, fault in faults.items():
        items[place] = fault
    with pool() as workers:
        results = workers.map(items)
    for place, item in enumerate(items):
        if place not in faults:
            assert results[place] == item * 2
    assert results[3] == results[21] == f"hang: {LATE}"
    assert results[4] == results[30] == "die: its process died"
    assert results[5] == "raise: ValueError: a fault of this item"
    assert results[39].startswith("memory: MemoryError")
    assert workers.counts == {"late": 2, "died": 2, "failed": 2}


def test_every_item_may_hang() -> None:
    with pool() as workers:
        assert workers.map(["hang"] * 4) == [f"hang: {LATE}"] * 4
        assert workers.map(["fine"]) == ["finefine"]


def test_the_time_before_an_item_is_not_its_own() -> None:
    """Starting a process and the items before it do not count against an item's deadline."""
    began = time.monotonic()
    items = [f"item {number}" for number in range(3000)]
    with pool(1) as workers:
        assert workers.map(items) == [item * 2 for item in items]
    assert workers.counts["late"] == 0
    assert time.monotonic() > began


def test_no_process_stays(tmp_path: Path) -> None:
    with pool() as workers:
        workers.map([f"mark {tmp_path}/{number}" for number in range(6)] + ["hang", "die"])
    used = {int(path.read_text()) for path in tmp_path.iterdir()}
    assert used and os.getpid() not in used
    assert not [process for process in multiprocessing.active_children() if process.name == "scoring"]
    for number in used:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_processes_that_do_not_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(broken_in_a_process.BREAK, "1")
    workers = DeadlinePool(broken_in_a_process.act, instead, 1, 1.0)
    with pytest.raises(RedoneError, match=r"3 processes .* did not start \(exit code 3\)"), workers:
        workers.map(["item"])
