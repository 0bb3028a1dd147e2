"""`redone contamination`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from megatron_redone.common.errors import InputError
from megatron_redone.config.loading import apply_overrides, validate
from megatron_redone.curation.contamination.check import check_contamination
from megatron_redone.curation.contamination.config import ContaminationConfig
from megatron_redone.data.tokenizer import load_tokenizer
from megatron_redone.reporting.contamination_schema import PAGE, ContaminationResult, Overlap

COLUMNS = ("items", "judged", "any overlap", "partly known", "contaminated", "with answer", "% contaminated")


def contamination(
    training: Sequence[Path],
    benchmarks: Sequence[str],
    settings: Sequence[str],
    out: Path,
    tokenizer: Path | None,
    fail_above: float | None,
) -> int:
    """Runs the check, prints its tables, and returns the exit code.

    Raises:
        InputError: a benchmark without a name, or files that cannot be read.
    """
    config = validate(ContaminationConfig, apply_overrides({}, settings), "settings")
    decode = None if tokenizer is None else load_tokenizer(tokenizer).decode
    result = check_contamination(training, _named(benchmarks), config, out, decode)
    console = Console(highlight=False, width=None if Console().is_terminal else 140)
    console.print(_benchmark_table(result))
    console.print(_training_table(result))
    if result.refused:
        console.print(f"{result.refused:,} training lines refused; see {PAGE}", markup=False)
    console.print(f"written: {out}", markup=False, soft_wrap=True)
    above = [one for one in result.benchmarks if fail_above is not None and one.overlap.contaminated_rate > fail_above]
    for one in above:
        console.print(
            f"{one.name}: {one.overlap.contaminated_rate:.2%} of the judged items are contaminated, "
            f"more than --fail-above {fail_above}",
            markup=False,
        )
    return 1 if above else 0


def _named(benchmarks: Sequence[str]) -> dict[str, list[Path]]:
    named: dict[str, list[Path]] = {}
    for given in benchmarks:
        name, sign, path = given.partition("=")
        if not (name and sign and path):
            raise InputError(f"--benchmark {given}: a benchmark is NAME=PATH, for example gsm8k=gsm8k/test.jsonl")
        named.setdefault(name, []).append(Path(path))
    return named


def _benchmark_table(result: ContaminationResult) -> Table:
    table = Table("benchmark", title="Benchmarks")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for benchmark in result.benchmarks:
        table.add_row(escape(benchmark.name), *_cells(benchmark.overlap))
        if len(benchmark.files) > 1:
            for file in benchmark.files:
                table.add_row(f"  {escape(file.file)}", *_cells(file.overlap), style="dim")
    return table


def _training_table(result: ContaminationResult) -> Table:
    table = Table("training file", title="Training files, each by itself")
    for name in ("records", "refused", *COLUMNS[2:6]):
        table.add_column(name, justify="right")
    for file in result.training:
        table.add_row(escape(file.path), f"{file.records:,}", f"{file.refused:,}", *_cells(file.overlap)[2:6])
    return table


def _cells(overlap: Overlap) -> list[str]:
    counts = (overlap.items, overlap.judged, overlap.any_overlap, overlap.partial, overlap.contaminated)
    return [*(f"{count:,}" for count in counts), f"{overlap.with_answer:,}", f"{100 * overlap.contaminated_rate:.2f}"]
