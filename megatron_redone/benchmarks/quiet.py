"""Whether the machine was quiet: the CPU time that others took while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psutil

T = TypeVar("T")

BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
"""Columns of the machine's CPU time that are work; `steal` is what the host gave to others."""


class OthersWatch:
    """Counts from its making on the cores that were busy and not with this process and its children.

    Children count once they have ended and were waited for: read it after that.
    """

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), machine_busy_seconds(), own_cpu_seconds()

    def other_cores(self) -> float:
        """CPU seconds of others a second, at least 0."""
        seconds = time.perf_counter() - self._began
        others = (machine_busy_seconds() - self._busy) - (own_cpu_seconds() - self._own)
        return max(0.0, others / max(seconds, 1e-9))


def machine_busy_seconds() -> float:
    """CPU seconds of all cores since the machine started, idle and waiting ones left out."""
    times: Any = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in BUSY))


def own_cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(frozen=True)
class Watched(Generic[T]):
    """A result and how quiet the machine was."""

    result: T
    other_cores: float
    """Cores that others took during the run that is kept."""
    repeats: int
    """Runs that were thrown away because others took more than the limit."""
    quiet: bool
    """Whether the run that is kept was within the limit; if none was, the quietest is kept."""


def run_until_quiet(
    action: Callable[[], T],
    limit: float,
    max_repeats: int,
    tell: Callable[[str], None],
    watch: Callable[[], OthersWatch] = OthersWatch,
) -> Watched[T]:
    """Runs an action, again while others took more than `limit` cores, at most `max_repeats` times more.

    Args:
        limit: in cores.
        tell: is told of every run that is not kept.
        watch: begins to count; for tests.
    """
    best: Watched[T] | None = None
    for number in range(max_repeats + 1):
        others = watch()
        result = action()
        cores = others.other_cores()
        if best is None or cores < best.other_cores:
            best = Watched(result, cores, number, cores <= limit)
        if best.quiet:
            break
        if number < max_repeats:
            tell(f"  others took {cores:.2f} cores, more than {limit:g}: once more")
        else:
            tell(f"  others took {cores:.2f} cores: no quiet run in {number + 1}, the quietest is kept and marked")
    assert best is not None
    return Watched(best.result, best.other_cores, number, best.quiet)
