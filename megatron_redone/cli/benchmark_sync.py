"""`redone benchmark sync`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.launch.environment import from_environ


def benchmark_sync(settings: dict[str, Any], overrides: Sequence[str], out: Path | None) -> None:
    """Measures, prints and writes."""
    import torch

    from megatron_redone.benchmarks.sync import SyncBenchmarkConfig, measure_sync
    from megatron_redone.generation.vllm_core import vllm_version
    from megatron_redone.parallel.context import build_context, shutdown
    from megatron_redone.recipes.workspace import machine, versions

    config = validate(SyncBenchmarkConfig, apply_overrides(settings, overrides), "redone benchmark sync")
    torch.set_num_threads(from_environ(os.environ).threads)
    context = build_context(config.parallel)
    try:
        found = measure_sync(config, context, lambda text: CONSOLE.print(text, highlight=False))
    finally:
        shutdown()
    title = f"{found.tensors} tensors, {found.bytes / 1e6:,.1f} MB, {found.threads} threads, median (min to max)"
    table = Table("way", "seconds", "GB/s", "over the copy", title=title)
    for way in found.ways:
        low, high = way.ratio_range
        middle = sorted(way.seconds)[len(way.seconds) // 2]
        ratio = f"{way.ratio:.1f} ({low:.1f} to {high:.1f})"
        table.add_row(way.name, f"{middle:.3f}", f"{way.gigabytes_per_second:.2f}", ratio)
    CONSOLE.print(table)
    if out is not None:
        record = {"config": config.model_dump(mode="json"), **found.as_json()}
        atomic_write_json(out, {**record, "machine": machine(), "versions": {**versions(), "vllm": vllm_version()}})
        CONSOLE.print(f"written: {out}", highlight=False)
