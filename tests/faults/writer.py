"""Writes one checkpoint after another until it is killed, in a process forked from one that has imported everything."""

from __future__ import annotations

import itertools
import os
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from megatron.core.dist_checkpointing import ShardedTensor

from megatron_redone.checkpoint.distributed import CheckpointSeries
from megatron_redone.launch.processes import end_with_parent
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.parallel.context import build_context

ENTRIES = 400_000
"""Of the one tensor: 1.6 MB, so that a write takes long enough to be met."""


def state_of(step: int) -> torch.Tensor:
    """What step `step` writes."""
    return torch.full((ENTRIES,), float(step))


def sharded(value: torch.Tensor) -> dict[str, Any]:
    """The tensor as a checkpoint's state."""
    return {"weight": ShardedTensor.from_rank_offsets("weight", value)}


def write_checkpoints(folder: Path, written: Connection) -> None:
    """Writes in the background, as training does; sends the number of every step that is safely written."""
    begin()
    series = CheckpointSeries(folder, build_context(ParallelConfig()))
    for step in itertools.count(1):
        series.save(step, sharded(state_of(step)), {"step": step})  # the one before stands when this returns
        if step > 1:
            written.send(step - 1)


def write_carelessly(folder: Path, written: Connection) -> None:
    """The control: the file has its final name while it is written."""
    begin()
    for step in itertools.count(1):
        torch.save(state_of(step), folder / "latest.pt")
        written.send(step)


def begin() -> None:
    """What every writer does first."""
    end_with_parent(os.getppid())
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
