"""Writes one checkpoint after another until it is killed. One process imports everything and forks a writer a request.

Standard input, a line a request: `good FOLDER` or `naive FOLDER`. Standard output: the writer's process id, then a line
for every step that is safely written, then `end` when it was killed.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

ENTRIES = 400_000
"""Of the one tensor: 1.6 MB, so that a write takes long enough to be met."""


def state_of(step: int) -> torch.Tensor:
    """What step `step` writes."""
    return torch.full((ENTRIES,), float(step))


def write_good(folder: Path) -> None:
    from megatron.core.dist_checkpointing import ShardedTensor

    from megatron_redone.checkpoint.distributed import CheckpointSeries
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context

    series = CheckpointSeries(folder, build_context(ParallelConfig()))
    for step in itertools.count(1):
        state: dict[str, Any] = {"weight": ShardedTensor.from_rank_offsets("weight", state_of(step))}
        series.save(step, state, {"step": step})
        series.finish()
        print(step, flush=True)


def write_naive(folder: Path) -> None:
    for step in itertools.count(1):
        torch.save(state_of(step), folder / "latest.pt")
        print(step, flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from megatron.core import dist_checkpointing, parallel_state  # noqa: F401 - before the forks

    import megatron_redone.checkpoint.write  # noqa: F401
    from megatron_redone.launch.processes import end_with_parent

    for line in sys.stdin:
        kind, folder = line.split(maxsplit=1)
        parent, child = os.getpid(), os.fork()
        if child == 0:
            end_with_parent(parent)
            print(os.getpid(), flush=True)
            {"good": write_good, "naive": write_naive}[kind](Path(folder.strip()))
        os.waitpid(child, 0)
        print("end", flush=True)


if __name__ == "__main__":
    main()
