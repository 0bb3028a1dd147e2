"""A run during which others were busy is repeated, boundedly, and what is kept says how quiet it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from megatron_redone.benchmarks import quiet
from megatron_redone.benchmarks.quiet import OthersWatch, run_until_quiet


class Told(OthersWatch):
    def __init__(self, cores: float) -> None:
        self.cores = cores

    def other_cores(self) -> float:
        return self.cores


def watches(cores: Sequence[float]) -> Callable[[], OthersWatch]:
    left = iter(cores)
    return lambda: Told(next(left))


@pytest.mark.parametrize(
    ("cores", "kept", "other_cores", "repeats", "is_quiet"),
    [
        ([0.05], 1, 0.05, 0, True),
        ([0.5, 0.1], 2, 0.1, 1, True),
        ([0.5, 0.2, 0.3], 2, 0.2, 2, False),
    ],
)
def test_a_disturbed_run_is_repeated_and_the_quietest_is_kept(
    cores: list[float], kept: int, other_cores: float, repeats: int, is_quiet: bool
) -> None:
    runs: list[int] = []
    said: list[str] = []

    def action() -> int:
        runs.append(len(runs) + 1)
        return runs[-1]

    found = run_until_quiet(action, 0.1, 2, said.append, watches(cores))
    assert (found.result, found.other_cores, found.repeats, found.quiet) == (kept, other_cores, repeats, is_quiet)
    assert runs == list(range(1, len(cores) + 1))
    assert len(said) == len(cores) - is_quiet
    assert all("others took" in line for line in said) and ("marked" in "".join(said)) == (not is_quiet)


def test_work_of_others_is_what_the_machine_did_beyond_us(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, machine, own = iter([10.0, 14.0]), iter([100.0, 107.0]), iter([5.0, 10.0])
    monkeypatch.setattr(quiet.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(quiet, "machine_busy_seconds", lambda: next(machine))
    monkeypatch.setattr(quiet, "own_cpu_seconds", lambda: next(own))
    assert OthersWatch().other_cores() == pytest.approx((7.0 - 5.0) / 4.0)


def test_children_that_ended_are_our_own_work() -> None:
    before, machine = quiet.own_cpu_seconds(), quiet.machine_busy_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    taken = quiet.own_cpu_seconds() - before
    assert taken > 0.02
    assert quiet.machine_busy_seconds() - machine > 0.5 * taken
