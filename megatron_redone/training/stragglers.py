"""Which rank is slow, and how slow: a fixed piece of work timed on every rank beside training.

Ranks wait for each other in every collective, so the time of a step says nothing about one of them. A matrix product of
one size, done by each rank alone after each step, does: where its median time is far above that of the other ranks, the
device is throttled, shared or failing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from megatron_redone.common.logging import get_logger
from megatron_redone.parallel.context import ParallelContext

LOG = get_logger("training")
CPU_SIZE, CUDA_SIZE = 256, 2048
"""Rows and columns of the matrices: about half a millisecond on a core, a tenth on a GPU."""
TOLERANCE = 1.25
"""A rank is told of when it takes more than so many times the median of all ranks."""


@dataclass(frozen=True)
class RankSpeeds:
    """Median seconds of the probe by rank, over a window of steps."""

    seconds: tuple[float, ...]

    @property
    def slowest(self) -> int:
        """The rank that took longest."""
        return max(range(len(self.seconds)), key=lambda rank: self.seconds[rank])

    @property
    def slowdown(self) -> float:
        """What the slowest rank took, over the median of all."""
        return self.seconds[self.slowest] / statistics.median_low(self.seconds)


class StragglerProbe:
    """Times the probe after every step; every `window` steps the ranks compare.

    Args:
        window: steps between two comparisons.
    """

    def __init__(self, context: ParallelContext, window: int = 20) -> None:
        self.context, self.window = context, window
        on_cuda = context.device.type == "cuda"
        size, dtype = (CUDA_SIZE, torch.bfloat16) if on_cuda else (CPU_SIZE, torch.float32)
        self._matrix = torch.ones(size, size, dtype=dtype, device=context.device)
        self._seconds: list[float] = []
        self._told: set[int] = set()

    def after_step(self) -> RankSpeeds | None:
        """Times the probe once; at the end of a window what the ranks took, on all of them. A collective then."""
        if self.context.world_size == 1:
            return None
        self._seconds.append(self._timed())
        if len(self._seconds) < self.window:
            return None
        speeds = RankSpeeds(tuple(self.context.gather_from_all(statistics.median(self._seconds))))
        self._seconds.clear()
        if self.context.is_main and speeds.slowdown > TOLERANCE and speeds.slowest not in self._told:
            self._told.add(speeds.slowest)
            LOG.warning(told(speeds, self.window))
        return speeds

    def _timed(self) -> float:
        if self.context.device.type == "cuda":
            torch.cuda.synchronize()  # training ends a step with a value on the host, so little is waited for
        began = time.perf_counter()
        torch.mm(self._matrix, self._matrix)
        if self.context.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def told(speeds: RankSpeeds, window: int) -> str:
    """The warning about the slowest rank."""
    others: Sequence[str] = [f"{seconds * 1e3:.2f}" for seconds in speeds.seconds]
    return (
        f"rank {speeds.slowest} is slow: {speeds.slowdown:.2f} times the median of all ranks for one matrix product, "
        f"over {window} steps (ms by rank: {', '.join(others)}); all others wait for it: look whether its device is "
        "throttled or shared"
    )
