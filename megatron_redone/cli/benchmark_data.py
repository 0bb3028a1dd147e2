"""`redone benchmark data`."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from megatron_redone.benchmarks.data import DataBenchmark, as_json, measure_data, summary
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE


def benchmark_data(benchmark: DataBenchmark, out: Path | None) -> None:
    """Measures, prints and writes."""
    from megatron_redone.recipes.workspace import machine, versions

    if benchmark.folder.exists() and any(benchmark.folder.iterdir()):
        raise InputError(f"--folder {benchmark.folder}: exists and is not empty; give a new folder")
    for path, option in ((benchmark.text, "--text"), (benchmark.peer, "--peer")):
        if path is not None and not path.is_file():
            raise InputError(f"{option} {path}: no such file; check the path")
    if not (benchmark.tokenizer / "tokenizer.json").is_file():
        raise InputError(f"--tokenizer {benchmark.tokenizer}: no tokenizer.json in it; the bare library needs one")
    runs, memory = measure_data(benchmark, lambda text: CONSOLE.print(text, highlight=False))
    rows = summary(runs, max(benchmark.workers))
    columns = ("program", "tokens/s", "ours / this", "whole seconds", "CPU seconds", "peak memory")
    table = Table(*columns, title=f"{runs[0].tokens:,} tokens")
    for row in rows:
        low, high = row["ours_over_this_range"]
        ratio = f"{row['ours_over_this']:.2f} ({low:.2f} to {high:.2f})"
        seconds = [f"{row[name]:.1f}" for name in ("whole_seconds", "cpu_seconds")]
        table.add_row(
            row["program"], f"{row['tokens_per_second']:,.0f}", ratio, *seconds, f"{row['peak_mib']:,.0f} MiB"
        )
    CONSOLE.print(table)
    if memory:
        table = Table("text", "tokens", "tokens/s", "peak memory", title="memory over size")
        for run in memory:
            table.add_row(run.name, f"{run.tokens:,}", f"{run.tokens_per_second:,.0f}", f"{run.peak_mib:,.0f} MiB")
        CONSOLE.print(table)
    if out is not None:
        found = {"summary": rows, **as_json(runs, memory), "machine": machine(), "versions": versions()}
        atomic_write_json(out, found)
        CONSOLE.print(f"written: {out}", highlight=False)
