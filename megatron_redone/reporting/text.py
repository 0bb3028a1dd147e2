"""The end of a run on a terminal: the headline, a short table, what is missing and where the report lies."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from megatron_redone.reporting.run_files import RunFiles
from megatron_redone.reporting.summary import best_baseline, bucket_effects, bucket_sentence, headline
from megatron_redone.reporting.tables import Cell, ScoreTable, TableRow, build_table, number
from megatron_redone.reporting.templating import printable

STYLES = {"task": "", "overall": "bold", "parsed": "dim"}


def run_summary(files: RunFiles, report: Path | None = None) -> RenderableType:
    """What the command prints when a run ends; names are never read as markup or as terminal codes."""
    table = build_table(files)
    parts: list[RenderableType] = [_text(files.run.name, "bold"), _text(headline(table).sentence), Text()]
    if table.overall:
        parts += [_rich_table(table), *_legend(table), Text()]
    effects = bucket_effects(files)
    if effects:
        parts.append(_text(bucket_sentence(effects)))
    parts += [_text(line, "yellow") for line in [*table.notes, *files.gaps]]
    if report is not None:
        parts.append(_text(f"Report: {report}"))
    return Group(*parts)


def print_summary(files: RunFiles, console: Console, report: Path | None = None) -> None:
    """Prints `run_summary` to a console of the caller."""
    console.print(run_summary(files, report))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _rich_table(table: ScoreTable) -> Table:
    """Means only, narrow enough for 80 columns: the report has spreads, intervals and every baseline."""
    best = best_baseline(table)
    shown = [
        index
        for index, column in enumerate(table.columns)
        if column.group != "baseline" or (best and column == best[0])
    ]
    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False, padding=0)
    drawn.add_column("task", no_wrap=True, overflow="ellipsis", max_width=24)
    for index in shown:
        name = table.columns[index].name
        drawn.add_column(_text(name), justify="right", overflow="fold", min_width=min(max(len(name), 5), 8))
    drawn.add_column("change" if table.before and table.after else "", justify="right", no_wrap=True, min_width=6)
    for row in table.rows:
        if row.kind in STYLES:
            cells = [_mean(row.cells[index]) for index in shown]
            drawn.add_row(_text(row.label + ("*" if row.weak else "")), *cells, _change(row), style=STYLES[row.kind])
    return drawn


def _mean(cell: Cell | None) -> str:
    return number(cell.mean) if cell else "-"


def _change(row: TableRow) -> str:
    if row.change is None:
        return ""
    return row.change.text + ("?" if row.change.verdict == "no conclusion" else "")


def _legend(table: ScoreTable) -> list[Text]:
    lines = []
    if any(row.weak for row in table.rows):
        lines.append(_text("*: in the weak bucket", "dim"))
    if any(_change(row).endswith("?") for row in table.rows):
        lines.append(_text("?: no conclusion, the 95% intervals of before and after overlap", "dim"))
    return lines
