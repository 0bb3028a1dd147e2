"""`redone benchmark score`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from megatron_redone.benchmarks.score import Rate, measure_rates, measure_sns_bench, measure_step_share
from megatron_redone.common.files import atomic_write_json
from megatron_redone.common.logging import CONSOLE


def benchmark_score(
    answers: int,
    workers: tuple[int, ...],
    rounds: int,
    programs: int,
    sns_bench: Path | None,
    run: Path | None,
    rollout: int,
    out: Path | None,
) -> None:
    """Measures, prints and writes."""
    from megatron_redone.recipes.workspace import machine, versions

    rates = measure_rates(answers, workers, rounds, lambda text: CONSOLE.print(text, highlight=False))
    CONSOLE.print(_rates_table(rates, workers))
    found: dict[str, Any] = {"rates": [asdict(rate) for rate in rates]}
    if programs:
        from megatron_redone.benchmarks.sandbox import measure_sandbox

        found["sandbox"] = measure_sandbox(programs)
        CONSOLE.print(_rows_table(found["sandbox"], "sandbox"))
    if sns_bench is not None:
        found["sns_bench"] = measure_sns_bench(sns_bench, rounds)
        CONSOLE.print(_rows_table([found["sns_bench"]], "SNS-Bench, gold answers"))
    if run is not None:
        share = measure_step_share(run, rollout, rounds)
        found["rl_step"] = asdict(share) | {"share": share.share}
        CONSOLE.print(
            f"scoring {share.answers} answers: {share.scoring_seconds:.3f} s, {share.share:.2%} of a step of "
            f"{share.step_seconds:.2f} s",
            highlight=False,
        )
    if out is not None:
        atomic_write_json(out, {**found, "machine": machine(), "versions": versions()})
        CONSOLE.print(f"written: {out}", highlight=False)


def _rates_table(rates: list[Rate], workers: tuple[int, ...]) -> Table:
    table = Table("scorer", *(f"{count} processes" if count else "in this process" for count in workers))
    table.title = "answers a second"
    for scorer in dict.fromkeys(rate.scorer for rate in rates):
        values = {rate.num_workers: rate.per_second for rate in rates if rate.scorer == scorer}
        table.add_row(scorer, *(f"{values[count]:,.0f}" for count in workers))
    return table


def _rows_table(rows: list[dict[str, Any]], title: str) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(_shown(row.get(name)) for name in columns))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, list | tuple):
        return " to ".join(map(_shown, value))
    return "" if value is None else str(value)
