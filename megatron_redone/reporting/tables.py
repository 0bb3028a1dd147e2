"""The table of scores: a row a task, a column a baseline, stage or arm.

The text of a table holds no time, path or machine: two runs with equal results give equal bytes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from megatron_redone.reporting.run_files import RunFiles
from megatron_redone.reporting.schema import TaskScore
from megatron_redone.reporting.templating import render

Interval = tuple[float, float]
Verdict = Literal["better", "worse", "no conclusion"]


@dataclass(frozen=True)
class Cell:
    """A score in 0..100, from one result or from one result a seed."""

    values: tuple[float, ...]
    interval: Interval | None
    """95% interval; with several seeds the smallest one that holds every seed's interval."""

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds (divided by n - 1); None for a single result."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def text(self) -> str:
        """`58.4 ± 1.2` over seeds, `58.4` for a single result."""
        return number(self.mean) if self.spread is None else f"{number(self.mean)} ± {number(self.spread)}"

    @property
    def interval_text(self) -> str:
        """`53.1 to 63.0`, or nothing."""
        return f"{number(self.interval[0])} to {number(self.interval[1])}" if self.interval else ""


@dataclass(frozen=True)
class Change:
    """From the stage before to the stage after, in points."""

    points: float
    verdict: Verdict
    """`no conclusion` where the intervals overlap."""

    @property
    def text(self) -> str:
        """`+27.2`, with a sign."""
        return signed(self.points)


@dataclass(frozen=True)
class Column:
    """One baseline, stage or arm."""

    name: str
    group: Literal["baseline", "stage", "arm"]
    num_results: int


@dataclass(frozen=True)
class TableRow:
    """One task, the mean of one capability, the overall mean, or the share of answers that could be read."""

    label: str
    kind: Literal["task", "capability", "overall", "parsed"]
    num_rows: int | None
    cells: tuple[Cell | None, ...]
    change: Change | None
    weak: str
    """Where the task is in the weak bucket: `weak`, or `weak 2/3` for 2 of 3 seeds; else empty."""


@dataclass(frozen=True)
class ScoreTable:
    """Tasks by capability, each capability's mean after them, the overall mean and the read share last."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    before: str | None
    after: str | None
    split: str
    notes: tuple[str, ...]

    @property
    def overall(self) -> tuple[tuple[Column, Cell], ...]:
        """The columns that have an overall mean, with it."""
        row = next(row for row in self.rows if row.kind == "overall")
        return tuple((column, cell) for column, cell in zip(self.columns, row.cells, strict=True) if cell)

    def overall_of(self, stage: str | None) -> Cell | None:
        """The overall mean of a stage or arm."""
        found = (cell for column, cell in self.overall if column.group != "baseline" and column.name == stage)
        return next(found, None)

    @property
    def num_tasks(self) -> int:
        """Number of task rows."""
        return sum(row.kind == "task" for row in self.rows)


@dataclass(frozen=True)
class _Result:
    tasks: dict[str, TaskScore]
    mean_score: float


def build_table(files: RunFiles) -> ScoreTable:
    """The scores of all evaluated stages beside the baselines.

    A capability's mean is the plain mean of its tasks; the overall mean is the `mean_score` of the results.
    """
    columns, results, splits = _columns(files)
    everything = [result for of_column in results for result in of_column]
    tasks: dict[str, TaskScore] = {}
    for result in reversed(everything):
        tasks |= result.tasks
    place = {column.name: index for index, column in enumerate(columns) if column.group != "baseline"}
    comparison = files.run.comparison
    before = comparison.before if comparison and comparison.before in place else None
    after = comparison.after if comparison and comparison.after in place else None

    def row(label: str, kind: Literal["task", "capability", "overall"], members: Sequence[str]) -> TableRow:
        cells = tuple(_cell(of_column, members, kind == "overall") for of_column in results)
        num_rows = sum(tasks[name].num_rows for name in members)
        change = changed(cells[place[before]], cells[place[after]]) if before and after else None
        weak = _weak_mark(files, label) if kind == "task" else ""
        return TableRow(label, kind, num_rows, cells, change, weak)

    rows: list[TableRow] = []
    for capability in sorted({score.capability for score in tasks.values()}):
        members = sorted(name for name, score in tasks.items() if score.capability == capability)
        rows += [row(name, "task", [name]) for name in members]
        rows.append(row(capability, "capability", members))
    rows.append(row("mean of all tasks", "overall", sorted(tasks)))
    parsed = tuple(_parsed_cell(of_column) for of_column in results)
    rows.append(TableRow("readable answers (%)", "parsed", None, parsed, None, ""))
    notes = _notes(tasks, everything, splits)
    return ScoreTable(tuple(columns), tuple(rows), before, after, ", ".join(sorted(splits)), notes)


def _columns(files: RunFiles) -> tuple[list[Column], list[list[_Result]], set[str]]:
    columns: list[Column] = []
    results: list[list[_Result]] = []
    splits: set[str] = set()
    for baseline in files.baselines:
        columns.append(Column(baseline.name, "baseline", 1))
        results.append([_Result({s.task: s for s in baseline.tasks}, baseline.mean_score)])
    arms = files.arms()
    for name in files.evaluated():
        found = [f.evaluation for f in files.of_name(name) if f.evaluation]
        splits |= {evaluation.split for evaluation in found}
        columns.append(Column(name, "arm" if name in arms else "stage", len(found)))
        results.append([_Result({s.task: s for s in e.tasks}, e.mean_score) for e in found])
    return columns, results, splits


def _cell(results: Sequence[_Result], members: Sequence[str], overall: bool) -> Cell | None:
    """The cell of some tasks; None where a result lacks one: a mean over fewer tasks does not compare."""
    if not results or not members or any(name not in result.tasks for result in results for name in members):
        return None
    values, intervals = [], []
    for result in results:
        scores = [result.tasks[name] for name in members]
        value = result.mean_score if overall else statistics.fmean(score.score for score in scores)
        values.append(value)
        intervals.append(_mean_interval(value, scores))
    return Cell(tuple(values), (min(low for low, _ in intervals), max(high for _, high in intervals)))


def _mean_interval(mean: float, scores: Sequence[TaskScore]) -> Interval:
    """Interval of a mean of independent tasks: half-widths add as squares, divided by the number of tasks."""
    low = math.sqrt(sum((s.score - s.interval[0]) ** 2 for s in scores)) / len(scores)
    high = math.sqrt(sum((s.interval[1] - s.score) ** 2 for s in scores)) / len(scores)
    return max(0.0, mean - low), min(100.0, mean + high)


def _parsed_cell(results: Sequence[_Result]) -> Cell | None:
    """Percentage of answers that could be read, over all rows of each result."""
    values = []
    for result in results:
        num_rows = sum(score.num_rows for score in result.tasks.values())
        if num_rows == 0:
            return None
        values.append(100.0 * sum(s.parse_rate * s.num_rows for s in result.tasks.values()) / num_rows)
    return Cell(tuple(values), None) if values else None


def changed(before: Cell | None, after: Cell | None) -> Change | None:
    """The change of a score; None where one of both is missing."""
    if before is None or after is None or before.interval is None or after.interval is None:
        return None
    verdict: Verdict = "no conclusion"
    if after.interval[0] > before.interval[1]:
        verdict = "better"
    elif after.interval[1] < before.interval[0]:
        verdict = "worse"
    return Change(after.mean - before.mean, verdict)


def _weak_mark(files: RunFiles, task: str) -> str:
    diagnoses = [stage.diagnosis for stage in files.stages if stage.diagnosis]
    count = sum(task in diagnosis.weak_bucket for diagnosis in diagnoses)
    if count == 0:
        return ""
    return "weak" if len(diagnoses) == 1 else f"weak {count}/{len(diagnoses)}"


def _notes(tasks: dict[str, TaskScore], results: Iterable[_Result], splits: set[str]) -> tuple[str, ...]:
    notes = []
    if len(splits) > 1:
        notes.append(f"The columns are of several splits ({', '.join(sorted(splits))}): they do not compare.")
    scores = [score for result in results for score in result.tasks.values()]
    uneven = {score.task for score in scores if score.num_rows != tasks[score.task].num_rows}
    if uneven:
        notes.append(f"Not scored on the same number of rows everywhere: {', '.join(sorted(uneven))}.")
    return tuple(notes)


def number(value: float) -> str:
    """One decimal."""
    return f"{value:.1f}"


def signed(value: float) -> str:
    """One decimal with a sign; what rounds to zero has none."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def to_markdown(table: ScoreTable) -> str:
    """The table as GitHub markdown, with its notes below."""
    header = ["task", "rows", *(_heading(column) for column in table.columns)]
    rule = ["---", *["---:"] * (len(table.columns) + 1)]
    if table.before and table.after:
        header += [f"{_escape(table.before)} to {_escape(table.after)}", "reading"]
        rule += ["---:", "---"]
    lines = [_line(header), _line(rule)]
    for row in table.rows:
        bold = {"task": "", "parsed": "", "capability": "*", "overall": "**"}[row.kind]
        entries = [f"{bold}{_escape(row.label)}{bold}" + (f" ({row.weak})" if row.weak else "")]
        entries.append("" if row.num_rows is None else str(row.num_rows))
        entries += [f"{bold}{cell.text}{bold}" if cell else "-" for cell in row.cells]
        if table.before and table.after:
            entries += [row.change.text, row.change.verdict] if row.change else ["", ""]
        lines.append(_line(entries))
    return "\n".join([*lines, *(f"\n{_escape(note)}" for note in table.notes)]) + "\n"


def _heading(column: Column) -> str:
    seeds = f" ({column.num_results} seeds)" if column.num_results > 1 else ""
    group = f"{column.group}: " if column.group != "stage" else ""
    return group + _escape(column.name) + seeds


def _line(entries: Sequence[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def _escape(text: str) -> str:
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " "), ("\r", " ")):
        text = text.replace(raw, safe)
    return text


def to_html(table: ScoreTable) -> str:
    """The table as an HTML `<table>`; every name is escaped."""
    return render("score_table.html.jinja", table=table)
