"""The end of a run on a terminal: the headline, the table, what is missing and where the report lies."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from megatron_redone.reporting.run_files import RunFiles
from megatron_redone.reporting.summary import bucket_effects, bucket_sentence, headline
from megatron_redone.reporting.tables import Column, ScoreTable, TableRow, build_table

STYLES = {"task": "", "capability": "italic", "overall": "bold", "parsed": "dim"}


def run_summary(files: RunFiles, report: Path | None = None) -> RenderableType:
    """What the command prints when a run ends. Names are printed as they are, never read as markup."""
    table = build_table(files)
    parts: list[RenderableType] = [Text(files.run.name, style="bold"), Text(headline(table).sentence)]
    if table.columns:
        parts.append(_rich_table(table))
    effects = bucket_effects(files)
    if effects:
        parts.append(Text(bucket_sentence(effects)))
    parts += [Text(text, style="yellow") for text in [*table.notes, *files.gaps]]
    if report is not None:
        parts.append(Text(f"Report: {report}"))
    return Group(*parts)


def print_summary(files: RunFiles, console: Console, report: Path | None = None) -> None:
    """Prints `run_summary` to a console of the caller."""
    console.print(run_summary(files, report))


def _rich_table(table: ScoreTable) -> Table:
    drawn = Table(header_style="bold", pad_edge=False, show_edge=False)
    drawn.add_column("task", overflow="fold")
    for column in table.columns:
        drawn.add_column(_heading(column), justify="right")
    compares = table.before is not None and table.after is not None
    if compares:
        drawn.add_column("change", justify="right")
    for row in table.rows:
        drawn.add_row(*_entries(row, compares), style=STYLES[row.kind], end_section=row.kind == "capability")
    return drawn


def _heading(column: Column) -> Text:
    below = "" if column.group == "stage" else f"\n{column.group}"
    return Text(column.name + below)


def _entries(row: TableRow, compares: bool) -> list[Text]:
    label = Text(row.label)
    if row.weak:
        label.append(f" {row.weak}", style="yellow")
    entries = [label, *(Text(cell.text if cell else "-") for cell in row.cells)]
    if compares and row.change:
        mark = {"better": "", "worse": " worse", "no conclusion": " ?"}[row.change.verdict]
        entries.append(Text(row.change.text + mark))
    return entries
