"""Training measured on several layouts, each in a file of its own, and beside it what the planner expects.

A layout whose file is there is not measured again, so a sweep that was ended goes on where it was.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError, TrainingError
from megatron_redone.models.presets import get_preset
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import get_accelerator
from megatron_redone.planning.memory import Workload, rank_memory
from megatron_redone.planning.throughput import step_time

MIB = 2**20


@dataclass(frozen=True)
class SweepRow:
    """A layout as measured and as expected."""

    layout: str
    tokens_per_second: float
    """Useful ones, of all ranks."""
    tflops: float
    """Model operations a second of all ranks, in 10^12."""
    share_of_peak: float
    """MFU against the matrix products measured beside it."""
    static_mib: float
    """Weights, gradients and optimizer of rank 0."""
    expected_static_mib: float
    seconds: float
    expected_seconds: float | None
    """From the matrix products measured beside it and the efficiency of the other layouts, never its own; None where
    there is no other."""


def file_of(folder: Path, layout: str) -> Path:
    """Where the measurement of a layout stands."""
    return folder / (re.sub(r"[^\w=.]+", "_", layout) + ".json")


def measure(
    layouts: Sequence[str],
    folder: Path,
    command: Callable[[str, int, Path], Sequence[str]],
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The measurements of all layouts, made where they are not there yet.

    Args:
        layouts: each `ranks` or `ranks:tp=2,pp=2`.
        command: of `redone benchmark train` for (layout, ranks, file).
    Raises:
        TrainingError: a measurement failed, with the end of what it said.
        DataError: a file of an earlier sweep cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for text in layouts:
        ranks, _, layout = text.partition(":")
        path = file_of(folder, text)
        if path.is_file():
            progress(f"{text}: measured already")
        else:
            ended = subprocess.run(command(layout, int(ranks), path), capture_output=True, text=True, check=False)
            if ended.returncode:
                raise TrainingError(f"{text}: ended with {ended.returncode}: {(ended.stderr + ended.stdout)[-1500:]}")
            progress(f"{text}: measured")
        try:
            found.append({**json.loads(path.read_text(encoding="utf-8")), "layout": text})
        except ValueError as error:
            raise DataError(f"{path}: is no JSON ({error}); delete it, and it is measured again") from error
    return found


def rows_of(measured: Sequence[dict[str, Any]]) -> list[SweepRow]:
    """Measurements beside expectations; only of shapes by name, since a folder's shape is not in the file."""
    at_full = [_seconds(one, 1.0) for one in measured]
    rows = []
    for place, one in enumerate(measured):
        others = [
            seconds / other["seconds_per_step"]
            for number, (seconds, other) in enumerate(zip(at_full, measured, strict=True))
            if number != place
        ]
        settings = one["settings"]
        parallel = ParallelConfig.model_validate(settings["parallel"])
        work = Workload(settings["sequence_length"], settings["rows"], settings["document_length"])
        memory = rank_memory(get_preset(settings["preset"]), parallel, one["world_size"], work)
        rank = one["ranks"][0]
        rows.append(
            SweepRow(
                layout=one["layout"],
                tokens_per_second=one["useful_tokens_per_second"],
                tflops=one["model_flops_per_second"] / 1e12,
                share_of_peak=one["share_of_matmul_peak"],
                static_mib=rank["weights_mib"] + rank["gradients_mib"] + rank["optimizer_mib"],
                expected_static_mib=memory.static / MIB,
                seconds=one["seconds_per_step"],
                expected_seconds=_seconds(one, statistics.median(others)) if others else None,
            )
        )
    return rows


def _seconds(one: dict[str, Any], efficiency: float) -> float:
    """Of a step at this share of the matrix products that were measured beside it."""
    settings = one["settings"]
    parallel = ParallelConfig.model_validate(settings["parallel"])
    peak = one["matmul_flops_per_second"] / one["world_size"]
    cpu = get_accelerator("cpu", peak_tflops=peak / 1e12)
    work = Workload(settings["sequence_length"], settings["rows"], settings["document_length"])
    gpu = replace(cpu, kernels=cpu.kernels.scaled(efficiency / cpu.kernels.dense))
    return step_time(get_preset(settings["preset"]), parallel, one["world_size"], work, gpu).seconds
