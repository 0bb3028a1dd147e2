"""The bandwidth of all-reduce over all ranks of an allocation, and whether its sums are right."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from megatron_redone.parallel.context import ParallelContext

CPU_MIB = (1, 4, 16)
CUDA_MIB = (1, 16, 128, 1024)
REPEATS = 5
WARMUP = 2
MAX_SPREAD = 1.5
"""The slowest repeat over the median; above it the interconnect is shared or failing."""


@dataclass(frozen=True)
class AllReduceTime:
    """One size."""

    mib: int
    median_seconds: float
    slowest_seconds: float
    world_size: int
    right: bool
    """Whether every element had the sum that it must have, on every rank."""

    @property
    def algorithm_gb_per_second(self) -> float:
        """Bytes of the tensor over the time."""
        return self.mib * 2**20 / self.median_seconds / 1e9

    @property
    def bus_gb_per_second(self) -> float:
        """What each link carries: 2 (n - 1) / n times the above, as nccl-tests counts it."""
        return self.algorithm_gb_per_second * 2 * (self.world_size - 1) / self.world_size

    @property
    def is_steady(self) -> bool:
        """Whether no repeat was much slower than the median."""
        return self.slowest_seconds <= MAX_SPREAD * self.median_seconds


def all_reduce_times(context: ParallelContext) -> Iterator[AllReduceTime]:
    """Sums a tensor over all ranks, in several sizes. A collective; all ranks get the same numbers."""
    on_cuda = context.device.type == "cuda"
    expected = float(sum(range(1, context.world_size + 1)))
    for mib in CUDA_MIB if on_cuda else CPU_MIB:
        seconds = []
        right = True
        for repeat in range(WARMUP + REPEATS):
            tensor = torch.full((mib << 18,), float(context.rank + 1), device=context.device)
            dist.barrier()
            if on_cuda:
                torch.cuda.synchronize()
            began = time.perf_counter()
            dist.all_reduce(tensor)
            if on_cuda:
                torch.cuda.synchronize()
            took = time.perf_counter() - began
            right = right and bool((tensor == expected).all())
            if repeat >= WARMUP:
                seconds.append(took)
        slowest_rank = max(context.gather_from_all(statistics.median(seconds)))
        slowest = max(context.gather_from_all(max(seconds)))
        all_right = all(context.gather_from_all(right))
        yield AllReduceTime(mib, slowest_rank, slowest, context.world_size, all_right)
