"""`redone benchmark sweep`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from megatron_redone.benchmarks.sweep import measure, rows_of
from megatron_redone.common.errors import InputError
from megatron_redone.common.logging import CONSOLE
from megatron_redone.launch.processes import redone_command


def benchmark_sweep(folder: Path, layouts: Sequence[str], options: Mapping[str, object]) -> None:
    """Measures what is not measured, and prints all layouts.

    Raises:
        InputError: a layout without its ranks.
    """
    for text in layouts:
        if not text.partition(":")[0].isdigit():
            raise InputError(f"--layout {text!r}: ranks first, for example 2:tp=2")
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def command(layout: str, ranks: int, path: Path) -> list[str]:
        train = ["benchmark", "train", *words, "--nproc", str(ranks), "--out", str(path)]
        return list(redone_command([*train, "--layout", layout]))

    measured = measure(layouts, folder, command, lambda text: CONSOLE.print(text, highlight=False))
    table = Table("layout", "tokens/s", "TFLOP/s", "MFU", "static MiB", "expected", "s a step", "expected")
    for row in rows_of(measured):
        expected = "" if row.expected_seconds is None else f"{row.expected_seconds:.3f}"
        table.add_row(
            row.layout, f"{row.tokens_per_second:,.0f}", f"{row.tflops:.3f}", f"{row.share_of_peak:.1%}",
            f"{row.static_mib:.1f}", f"{row.expected_static_mib:.1f}", f"{row.seconds:.3f}", expected,
        )  # fmt: skip
    CONSOLE.print(table)
