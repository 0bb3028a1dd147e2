"""`redone benchmark rollout`."""

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


def benchmark_rollout(settings: dict[str, Any], overrides: Sequence[str], out: Path | None) -> None:
    """Measures, prints and writes."""
    import torch

    from megatron_redone.benchmarks.rollout import RolloutBenchmarkConfig, measure_rollouts
    from megatron_redone.generation.vllm_core import vllm_version
    from megatron_redone.parallel.context import build_context, shutdown
    from megatron_redone.recipes.workspace import machine, versions

    config = validate(RolloutBenchmarkConfig, apply_overrides(settings, overrides), "redone benchmark rollout")
    torch.set_num_threads(from_environ(os.environ).threads)
    context = build_context(config.parallel)
    try:
        found = measure_rollouts(config, context, lambda text: CONSOLE.print(text, highlight=False))
    finally:
        shutdown()
    title = (
        f"{found.parameters / 1e6:.1f}M parameters, {config.parallel.precision}, {found.threads} threads, "
        f"{found.sequences} sequences of {config.new_tokens} tokens after prompts of {config.prompt_tokens // 2} to "
        f"{config.prompt_tokens}"
    )
    table = Table("engine", "tokens/s", f"over {config.engines[0]}", "same sequences", "start, s", title=title)
    for engine in found.engines:
        low, high = engine.ratio_range
        table.add_row(
            engine.name,
            f"{engine.tokens_per_second:,.0f}",
            f"{engine.ratio:.2f} ({low:.2f} to {high:.2f})",
            f"{engine.same_sequences:.0%}",
            f"{engine.start_seconds:.1f}",
        )
    CONSOLE.print(table)
    if out is not None:
        record = {"config": config.model_dump(mode="json"), **found.as_json()}
        atomic_write_json(out, {**record, "machine": machine(), "versions": {**versions(), "vllm": vllm_version()}})
        CONSOLE.print(f"written: {out}", highlight=False)
