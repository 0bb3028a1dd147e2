"""Training measured on several layouts, each in a file of its own, and beside it what the planner expects.

A layout whose file is there is not measured again, so a sweep that was ended goes on where it was; a file of other
settings is refused. A layout that fails (too much memory, a crash) is told, and the others are measured.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from megatron_redone.common.errors import DataError
from megatron_redone.models.config import ModelShape
from megatron_redone.parallel.config import ParallelConfig
from megatron_redone.planning.hardware import Accelerator, get_accelerator
from megatron_redone.planning.memory import Workload, rank_memory
from megatron_redone.planning.throughput import step_time

MIB = 2**20
SETTINGS = ("preset", "model", "conversations", "document_length", "lengths", "sequence_length", "rows", "steps")
"""Settings that all layouts of a sweep share."""


@dataclass(frozen=True)
class SweepRow:
    """A layout as measured and as expected; rates are of one rank."""

    layout: str
    world_size: int
    useful_tokens_per_second: float
    """Without padding."""
    total_tokens_per_second: float
    """With the padding that fills each row."""
    tflops: float
    """Model operations a second in 10^12."""
    mfu: float
    """Over the profile's peak, or over the matrix products that were measured beside it."""
    seconds: float
    """Of a step, the median."""
    shortest: float
    longest: float
    static_mib: float
    """Weights, gradients and optimizer of the fullest rank."""
    expected_static_mib: float
    peak_mib: float
    """Largest memory of the fullest rank: allocated on a device, resident on a CPU."""
    expected_peak_mib: float | None
    """Tensors only; None on a CPU, whose process holds more than tensors."""
    parts: dict[str, float] = field(default_factory=dict)
    """Shares of a step's time."""
    expected_seconds: float | None = None
    """By the profile; without one by the measured matrix products and what the other layouts reached of them, never its
    own; None where there is no other."""


@dataclass(frozen=True)
class Sweep:
    """What is measured, and what failed with which words."""

    measured: Sequence[dict[str, Any]]
    failed: Mapping[str, str]


def file_of(folder: Path, layout: str) -> Path:
    """Where the measurement of a layout stands."""
    return folder / (re.sub(r"[^\w=.]+", "_", layout) + ".json")


def measure(
    layouts: Sequence[str],
    folder: Path,
    command: Callable[[str, int, Path], Sequence[str]],
    progress: Callable[[str], None],
    settings: Mapping[str, object] | None = None,
) -> Sweep:
    """The measurements of all layouts, made where they are not there yet.

    Args:
        layouts: each `ranks` or `ranks:tp=2,pp=2`.
        command: of `redone benchmark train` for (layout, ranks, file).
        settings: what a file that is there must have been measured with.
    Raises:
        DataError: a file of an earlier sweep cannot be read, or has other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found, failed = [], {}
    for text in layouts:
        ranks, _, layout = text.partition(":")
        path = file_of(folder, text)
        if path.is_file():
            progress(f"{text}: measured already")
        else:
            ended = subprocess.run(command(layout, int(ranks), path), capture_output=True, text=True, check=False)
            if ended.returncode or not path.is_file():
                failed[text] = f"ended with {ended.returncode}: {(ended.stderr + ended.stdout).strip()[-1500:]}"
                progress(f"{text}: {failed[text]}")
                continue
            progress(f"{text}: measured")
        found.append({**_read(path, settings or {}), "layout": text})
    return Sweep(found, failed)


def _read(path: Path, settings: Mapping[str, object]) -> dict[str, Any]:
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
        own = measured["settings"]
        ModelShape.model_validate(measured["shape"])
        ParallelConfig.model_validate(own["parallel"])
    except (ValueError, KeyError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"{path}: is no measurement ({why}); delete it, and it is measured again") from error
    for name, value in settings.items():
        if own.get(name) != value:
            raise DataError(
                f"{path}: was measured with {name}={own.get(name)}, and this sweep has {value}; take another --folder"
            )
    return dict(measured)


def rows_of(measured: Sequence[dict[str, Any]], gpu: Accelerator | None = None) -> list[SweepRow]:
    """Measurements beside expectations.

    Args:
        gpu: profile whose peak MFU is of and whose figures expect the time; None: a machine that was measured beside.
    """
    at_full = [] if gpu else [_seconds(one, _measured_machine(one, 1.0)) for one in measured]
    rows = []
    for place, one in enumerate(measured):
        others = [
            seconds / other["seconds_per_step"]
            for number, (seconds, other) in enumerate(zip(at_full, measured, strict=False))
            if number != place
        ]
        expected = _seconds(one, gpu) if gpu else None
        if others:
            expected = _seconds(one, _measured_machine(one, statistics.median(others)))
        rows.append(_row(one, gpu, expected))
    return rows


def _row(one: dict[str, Any], gpu: Accelerator | None, expected: float | None) -> SweepRow:
    parallel, work, shape = _run(one)
    stages = [rank_memory(shape, parallel, one["world_size"], work, stage) for stage in range(parallel.pp)]
    ranks, world = one["ranks"], one["world_size"]
    flops = one["model_flops_per_second"]
    return SweepRow(
        layout=one["layout"],
        world_size=world,
        useful_tokens_per_second=one["useful_tokens_per_second"] / world,
        total_tokens_per_second=one["total_tokens_per_second"] / world,
        tflops=flops / world / 1e12,
        mfu=one["share_of_matmul_peak"] if gpu is None else flops / world / gpu.flops[parallel.precision],
        seconds=one["seconds_per_step"],
        shortest=min(one["step_seconds"]),
        longest=max(one["step_seconds"]),
        static_mib=max(rank["weights_mib"] + rank["gradients_mib"] + rank["optimizer_mib"] for rank in ranks),
        expected_static_mib=max(stage.static for stage in stages) / MIB,
        peak_mib=max(rank["peak_mib"] for rank in ranks),
        expected_peak_mib=None if one["device"] == "cpu" else max(stage.tensors for stage in stages) / MIB,
        parts=one["parts"],
        expected_seconds=expected,
    )


def _run(one: dict[str, Any]) -> tuple[ParallelConfig, Workload, ModelShape]:
    """Layout, rows and model of a measurement; documents have their measured mean length, and all labels count."""
    settings, shape = one["settings"], ModelShape.model_validate(one["shape"])
    documents = sum(one["documents"])
    length = round(sum(one["real_tokens"]) / documents) if documents else settings["document_length"]
    labelled = min(1.0, sum(one["labelled_tokens"]) / sum(one["total_tokens"]))
    work = Workload(settings["sequence_length"], settings["rows"], length, labelled)
    return ParallelConfig.model_validate(settings["parallel"]), work, shape


def _measured_machine(one: dict[str, Any], efficiency: float) -> Accelerator:
    """The CPU profile at this share of the matrix products that were measured beside the layout."""
    cpu = get_accelerator("cpu", peak_tflops=one["matmul_flops_per_second"] / one["world_size"] / 1e12)
    return replace(cpu, kernels=cpu.kernels.scaled(efficiency / cpu.kernels.dense))


def _seconds(one: dict[str, Any], machine: Accelerator) -> float:
    parallel, work, shape = _run(one)
    return step_time(shape, parallel, one["world_size"], work, machine).seconds
