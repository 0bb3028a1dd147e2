"""`redone benchmark`."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from megatron_redone.benchmarks.config import TrainBenchmarkConfig
from megatron_redone.common.errors import ConfigError, InputError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.launch.environment import from_environ
from megatron_redone.launch.processes import redone_command, run_on_host

if TYPE_CHECKING:
    from megatron_redone.benchmarks.train import TrainResult


def benchmark_training(settings: dict[str, Any], layout: str, nproc: int, out: Path | None) -> None:
    """Starts the ranks, or measures on this one; rank 0 prints and writes.

    Raises:
        ConfigError: a setting out of its range, or a layout that does not fit.
    """
    words = [f"parallel.{word}" for word in layout.split(",") if word]
    config = validate(TrainBenchmarkConfig, apply_overrides(settings, words), "redone benchmark train")
    place = from_environ(os.environ)
    if nproc > 1 and place.world_size == 1:
        if problems := config.parallel.problems(nproc):
            raise ConfigError(problems)
        raise typer.Exit(run_on_host(redone_command(sys.argv[1:]), nproc, os.environ))
    import torch

    from megatron_redone.benchmarks.train import benchmark_train
    from megatron_redone.parallel.context import build_context, shutdown

    torch.set_num_threads(place.threads)
    context = build_context(config.parallel, **place.rendezvous())
    result = benchmark_train(config, context, lambda text: _tell(text) if context.is_main else None)
    if context.is_main:
        _print(result)
        if out is not None:
            atomic_write_json(out, as_json(config, result))
            CONSOLE.print(f"written: {out}", highlight=False)
    shutdown()


def benchmark_conversion(
    preset: str, layers: int, folder: Path, shard_gib: float, processes: int, rounds: int, out: Path | None, peer: str
) -> None:
    """Makes the model folder, measures copies and conversions, prints and writes."""
    from megatron_redone.benchmarks.convert import make_model_folder, measure_conversions, table_rows
    from megatron_redone.models.presets import get_preset
    from megatron_redone.recipes.workspace import machine, versions

    shape = get_preset(preset).model_copy(update={"num_layers": layers})
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--folder {folder}: exists and is not empty; give a new folder")
    hub = folder / "hub"
    total = make_model_folder(shape, hub, int(shard_gib * 2**30))
    largest = max(path.stat().st_size for path in hub.glob("*.safetensors"))
    _tell(f"{hub}: {total / 2**30:.2f} GiB, {layers} layers of {preset}, largest shard {largest / 2**30:.2f} GiB")
    runs = measure_conversions(hub, folder, processes, rounds, _tell, shlex.split(peer))
    rows = table_rows(runs)
    allowed = (2 * largest + 2**30) / 2**20
    table = Table("program", "seconds", "of the copy", "CPU seconds", "peak memory", title=f"{processes} process(es)")
    for name, seconds, ratio, cpu, peak in rows:
        table.add_row(name, f"{seconds:.1f}", f"{ratio:.2f}x", f"{cpu:.1f}", f"{peak:,.0f} MiB")
    CONSOLE.print(table)
    cold = "dropped before each" if all(run.cold for run in runs) else "could not be dropped"
    _tell(f"page cache {cold}; twice the largest shard and 1 GiB are {allowed:,.0f} MiB")
    if out is not None:
        found = {"bytes": total, "largest_shard_bytes": largest, "processes": processes}
        rows_by_name = [
            dict(zip(("program", "seconds", "ratio", "cpu_seconds", "peak_mib"), row, strict=True)) for row in rows
        ]
        atomic_write_json(
            out,
            {
                **found,
                "rows": rows_by_name,
                "runs": [asdict(run) for run in runs],
                "machine": machine(),
                "versions": versions(),
            },
        )
        _tell(f"written: {out}")


def _tell(text: str) -> None:
    CONSOLE.print(text, highlight=False)


def as_json(config: TrainBenchmarkConfig, result: TrainResult) -> dict[str, Any]:
    """The result with the settings, the machine and the versions that made it."""
    from megatron_redone.recipes.workspace import machine, versions

    steps = result.steps
    return {
        "settings": config.model_dump(mode="json"),
        "machine": machine(),
        "versions": versions(),
        **result.summary(),
        "step_seconds": [step.seconds for step in steps],
        "cpu_seconds": [step.cpu_seconds for step in steps],
        "real_tokens": [step.real_tokens for step in steps],
        "total_tokens": [step.total_tokens for step in steps],
        "documents": [step.documents for step in steps],
        "labelled_tokens": [step.labelled_tokens for step in steps],
        "losses": [step.loss for step in steps],
        **{name: value for name, value in asdict(result).items() if name != "steps"},
    }


def _print(result: TrainResult) -> None:
    found = result.summary()
    where = f"{result.world_size} rank(s) x {result.threads} thread(s), {result.device}"
    table = Table("measure", "median of steps", title=f"{result.parameters / 1e6:,.1f}M parameters, {where}")
    table.add_row("useful tokens/s (no padding)", f"{found['useful_tokens_per_second']:,.0f}")
    table.add_row("total tokens/s (with padding)", f"{found['total_tokens_per_second']:,.0f}")
    table.add_row("labelled tokens/s", f"{found['labelled_tokens_per_second']:,.0f}")
    table.add_row("model TFLOP/s", f"{found['model_flops_per_second'] / 1e12:.3f}")
    table.add_row("of the matmul peak measured beside it", f"{found['share_of_matmul_peak']:.1%}")
    table.add_row("seconds a step", f"{found['seconds_per_step']:.3f}")
    if "peer_cpu_seconds_over_ours" in found:
        ratio = found["peer_cpu_seconds_over_ours"]
        table.add_row("against transformers forward + backward, per CPU second", f"{ratio:.2f}x")
    for name, share in result.parts.items():
        table.add_row(f"time: {name}", f"{share:.1%}")
    CONSOLE.print(table)
    memory = Table("rank", "weights", "gradients", "optimizer", "peak", "matmul peak")
    for number, rank in enumerate(result.ranks):
        sizes = (rank.weights_mib, rank.gradients_mib, rank.optimizer_mib, rank.peak_mib)
        memory.add_row(str(number), *(f"{size:,.0f} MiB" for size in sizes), f"{rank.matmul_flops / 1e12:.3f} TFLOP/s")
    CONSOLE.print(memory)
