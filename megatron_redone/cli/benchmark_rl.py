"""`redone benchmark rl`, and the program of our side that it starts."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from megatron_redone.benchmarks.rl_config import RLBenchmarkConfig
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.launch.environment import from_environ

PART_NAMES = {
    "generate": "generate",
    "reward": "reward",
    "old_logprobs": "old log-probs",
    "update": "update",
    "rest": "rest",
}


def benchmark_rl(settings: dict[str, Any], overrides: Sequence[str], out: Path | None) -> None:
    """Measures, prints and writes."""
    from megatron_redone.benchmarks.rl import measure_alignment
    from megatron_redone.recipes.workspace import machine, versions

    config = validate(RLBenchmarkConfig, apply_overrides(settings, overrides), "redone benchmark rl")
    with tempfile.TemporaryDirectory() as folder:
        found = measure_alignment(config, Path(folder), os.environ, lambda text: CONSOLE.print(text, highlight=False))
    for part, result in found.items():
        CONSOLE.print(rollout_table(result) if part == "rollout" else side_table(part, result, config))
    if out is not None:
        record = {"config": config.model_dump(mode="json"), **found, "machine": machine(), "versions": versions()}
        atomic_write_json(out, record)
        CONSOLE.print(f"written: {out}", highlight=False)


def side_table(part: str, result: Mapping[str, Any], config: RLBenchmarkConfig) -> Table:
    """A row a side: seconds of a step, rate, ratio to ours, and for DAPO the time by part."""
    columns = ["side", "seconds a step", str(result["unit"]).replace("_per_second", "/s"), "this / ours"]
    columns += list(PART_NAMES.values()) if part == "dapo" else []
    title = f"{part}, {config.precision}, {config.threads} threads, median (min to max) of {config.rounds} rounds"
    table = Table(*columns, "CPU s", "others", title=title)
    for name, side in result["sides"].items():
        parts = [f"{side['parts'][key]:.2f}" for key in PART_NAMES] if part == "dapo" else []
        marks = " (fastest)" if name == result["fastest_peer"] else ""
        marks += "" if side["same_lengths"] else " (answers of other lengths)"
        table.add_row(
            name + marks,
            _spread(side["seconds_per_step"]),
            _spread(side[result["unit"]]),
            "" if name == "ours" else _spread(side["peer_over_ours"]),
            *parts,
            f"{side['cpu_seconds_per_step']['median']:.2f}",
            _others(side["other_cores"], side),
        )
    return table


def rollout_table(result: Mapping[str, Any]) -> Table:
    """A row an engine: tokens a second and the ratio of ours to it."""
    table = Table("generator", "tokens/s", "ours / this", "others")
    table.title = f"rollout, {result['sequences']} sequences of {result['config']['new_tokens']} tokens"
    for engine in result["engines"]:
        low, high = engine["ratio_range"]
        ours = f"{1 / engine['ratio']:.2f} ({1 / high:.2f} to {1 / low:.2f})"
        table.add_row(
            engine["name"], f"{engine['tokens_per_second']:,.0f}", ours, _others([result["other_cores"]], result)
        )
    return table


def _spread(value: Mapping[str, float]) -> str:
    return f"{value['median']:.2f} ({value['min']:.2f} to {value['max']:.2f})"


def _others(cores: Sequence[float], record: Mapping[str, Any]) -> str:
    told = f"{max(cores):.2f} cores"
    told += f", {record['repeats']} repeated" if record["repeats"] else ""
    return told if record["all_quiet"] else f"{told}, NOT QUIET"


def measure_our_side(settings: Path, out: Path) -> None:
    """One run of our side, as the settings of `measure_alignment` say."""
    import torch

    from megatron_redone.benchmarks.rl_inputs import BenchmarkInputs
    from megatron_redone.benchmarks.rl_ours import measure_dapo, measure_dpo
    from megatron_redone.parallel.config import ParallelConfig
    from megatron_redone.parallel.context import build_context, shutdown
    from megatron_redone.recipes.workspace import versions

    given = json.loads(settings.read_text(encoding="utf-8"))
    config = validate(RLBenchmarkConfig, given["config"], str(settings))
    inputs = BenchmarkInputs(**{name: Path(path) for name, path in given["inputs"].items()})
    work = Path(given["work"])
    torch.set_num_threads(from_environ(os.environ).threads)
    context = build_context(ParallelConfig(precision=config.precision))
    try:
        measure = measure_dapo if given["part"] == "dapo" else measure_dpo
        steps = measure(config, inputs, work, context)
    finally:
        shutdown()
        shutil.rmtree(work, ignore_errors=True)
    record = {"steps": [asdict(step) for step in steps], "threads": torch.get_num_threads(), "versions": versions()}
    atomic_write_json(out, record)
