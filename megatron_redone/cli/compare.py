"""`redone compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from megatron_redone.common.files import atomic_write_json
from megatron_redone.evaluation.comparison.compare import compare_runs
from megatron_redone.evaluation.comparison.reading import read_runs
from megatron_redone.evaluation.comparison.scored import CompareSettings
from megatron_redone.reporting.comparison_page import seesaw_sentence, verdict_counts, write_comparison_page
from megatron_redone.reporting.comparison_schema import RESULT, ComparisonResult, RunComparison

COLORS = {"better": "green", "worse": "red", "no conclusion": "dim"}


def compare(folders: Sequence[Path], out: Path, settings: CompareSettings) -> None:
    """Compares, writes comparison.json and comparison.html, and prints the tables."""
    result = compare_runs(read_runs(folders), settings)
    out.mkdir(parents=True, exist_ok=True)
    atomic_write_json(out / RESULT, result.model_dump(mode="json"))
    page = write_comparison_page(result, out)
    console = Console(highlight=False, width=None if Console().is_terminal else 140)
    for comparison in result.comparisons:
        console.print(_table(comparison, result))
        counts = ", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(comparison).items())
        console.print(f"tasks: {counts}")
        for note in (*comparison.notes, *(f"{one.name}: {one.note}" for one in comparison.changes if one.note)):
            console.print(note, markup=False)
        for one in comparison.not_comparable:
            console.print(f"not comparable: {one.benchmark} {one.task}: {one.reason}", markup=False, soft_wrap=True)
    for point in result.seesaw[1:]:
        console.print(seesaw_sentence(point, result.runs[0]), markup=False)
    console.print(f"written: {page}", markup=False, soft_wrap=True)


def _table(comparison: RunComparison, result: ComparisonResult) -> Table:
    table = Table("score", title=escape(f"{comparison.run} against {result.runs[0]}"))
    for name in ("items", "first", "second", "points", "95% interval", "q"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for change in comparison.changes:
        low, high = change.interval
        indent = {"benchmark": "", "group": " ", "task": "  "}[change.level]
        table.add_row(
            escape(indent + change.name.removesuffix(".json")),
            f"{change.num_items:,}" + (f" (-{change.left_out:,})" if change.left_out else ""),
            f"{change.first:.2f}",
            f"{change.second:.2f}",
            f"{change.difference:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{change.q_value:.4f}",
            f"[{COLORS[change.verdict]}]{change.verdict}[/]",
            style="bold" if change.level == "benchmark" else None,
        )
    return table
