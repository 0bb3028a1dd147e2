"""Where the time of training steps goes, by torch's profiler and the labels that the engine sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch.profiler import ProfilerActivity, profile

from megatron_redone.parallel.context import ParallelContext
from megatron_redone.training.parts import DATA, FORWARD, LOSS, OPTIMIZER, REDUCTION, SCHEDULE

COLLECTIVES = ("gloo:", "nccl")
"""How the names of collective operations begin: on CPU the whole call with its waiting, on CUDA the kernel."""


def time_by_part(steps: Sequence[Callable[[], Any]], context: ParallelContext) -> dict[str, float]:
    """Shares of the wall time of the steps, on this rank: data, forward, loss, backward, reduction, optimizer, rest.

    `communication` is the time in collectives, which lies within the others.
    """
    on_cuda = context.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities, acc_events=True) as found:
        began = time.perf_counter()
        for step in steps:
            step()
        seconds = time.perf_counter() - began
    by_name: dict[str, float] = {}
    communication = 0.0
    for event in found.key_averages():
        took = (event.device_time_total if on_cuda else event.cpu_time_total) / 1e6
        by_name[event.key] = by_name.get(event.key, 0.0) + took
        if event.key.startswith(COLLECTIVES):
            communication += took
    inside = [by_name.get(name, 0.0) for name in (FORWARD, LOSS, REDUCTION)]
    parts = {
        "data": by_name.get(DATA, 0.0),
        "forward": inside[0],
        "loss": inside[1],
        "backward": by_name.get(SCHEDULE, 0.0) - sum(inside),
        "gradient reduction": inside[2],
        "optimizer": by_name.get(OPTIMIZER, 0.0),
    }
    parts["rest"] = max(0.0, seconds - sum(parts.values()))
    return {name: value / seconds for name, value in (parts | {"communication": communication}).items()}
