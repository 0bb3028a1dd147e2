"""`redone benchmark sweep`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from megatron_redone.benchmarks.sweep import measure, rows_of
from megatron_redone.benchmarks.sweep_page import sweep_json, sweep_markdown
from megatron_redone.common.errors import InputError
from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.processes import redone_command
from megatron_redone.planning.hardware import get_accelerator


def benchmark_sweep(folder: Path, layouts: Sequence[str], options: Mapping[str, object], gpu: str | None) -> None:
    """Measures what is not measured, prints all layouts, writes sweep.md and sweep.json; exit code 1 where one failed.

    Raises:
        InputError: a layout without its ranks, an unknown profile.
        DataError: a file of another sweep in the folder.
    """
    for text in layouts:
        if not text.partition(":")[0].isdigit() or int(text.partition(":")[0]) < 1:
            raise InputError(f"--layout {text!r}: ranks first, for example 2:tp=2")
    profile = None if gpu is None else get_accelerator(gpu)
    given = {name: value for name, value in options.items() if value is not None}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]

    def command(layout: str, ranks: int, path: Path) -> list[str]:
        train = ["benchmark", "train", *words, "--nproc", str(ranks), "--out", str(path)]
        return list(redone_command([*train, "--layout", layout]))

    same = {
        name.replace("-", "_"): str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if name not in ("precision", "profiled", "warmup")
    }
    sweep = measure(layouts, folder, command, lambda text: CONSOLE.print(text, highlight=False), same)
    rows = rows_of(sweep.measured, profile)
    told = shlex.join(["redone", "benchmark", "sweep", *words, *(w for text in layouts for w in ("--layout", text))])
    atomic_write_text(folder / "sweep.md", sweep_markdown(sweep, rows, profile, told))
    atomic_write_json(folder / "sweep.json", sweep_json(sweep, rows, told))
    table = Table("layout", "tokens/s/rank", "padded", "TFLOP/s", "MFU", "s a step", "expected", "peak MiB")
    for row in rows:
        expected = "" if row.expected_seconds is None else f"{row.expected_seconds:.3f}"
        table.add_row(
            row.layout, f"{row.useful_tokens_per_second:,.0f}", f"{row.total_tokens_per_second:,.0f}",
            f"{row.tflops:.3f}", f"{row.mfu:.1%}", f"{row.seconds:.3f}", expected, f"{row.peak_mib:,.0f}",
        )  # fmt: skip
    Console(width=max(Console().width, 100)).print(table)
    CONSOLE.print(f"written: {folder / 'sweep.md'} and sweep.json", highlight=False)
    if sweep.failed:
        raise typer.Exit(1)
