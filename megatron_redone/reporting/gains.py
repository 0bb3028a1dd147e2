"""What each stage gave to each task: its score less that of the model it started from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from megatron_redone.reporting.run_files import RunFiles
from megatron_redone.reporting.svg import BLUE, INK, ORANGE, chart_style, new_figure, short, stacked, to_svg
from megatron_redone.reporting.tables import Change, ScoreTable, TableRow, changed, signed

ROW_HEIGHT = 22.0
WIDTH = 400.0
FULL_COLOUR = 40.0
"""Points from which on a field has its full colour."""


@dataclass(frozen=True)
class StageGain:
    """One column: a stage, and the evaluated stage whose model it went on from."""

    stage: str
    start: str
    is_arm: bool


@dataclass(frozen=True)
class GainRow:
    """One task, the mean of a capability, or the overall mean."""

    label: str
    kind: str
    changes: tuple[Change | None, ...]


@dataclass(frozen=True)
class GainMatrix:
    """Stages by tasks."""

    columns: tuple[StageGain, ...]
    rows: tuple[GainRow, ...]


def gain_matrix(files: RunFiles, table: ScoreTable) -> GainMatrix | None:
    """The gains of every evaluated stage that goes on from another one; None where there is none."""
    place = {column.name: index for index, column in enumerate(table.columns) if column.group != "baseline"}
    starts = {name: _start(files, name, place) for name in place}
    columns = [StageGain(name, start, name in files.arms()) for name, start in starts.items() if start is not None]
    if not columns:
        return None
    rows = [
        GainRow(row.label, row.kind, tuple(_change(row, place[one.start], place[one.stage]) for one in columns))
        for row in table.rows
        if row.kind != "parsed"
    ]
    return GainMatrix(tuple(columns), tuple(rows))


def _start(files: RunFiles, name: str, evaluated: Mapping[str, int]) -> str | None:
    """The nearest evaluated stage behind the model that a stage reads, followed over stages that were not evaluated."""
    folders = {stage.stage.folder: stage for stage in files.stages}
    current = files.of_name(name)[0]
    for _ in files.stages:
        inputs = current.manifest.inputs if current.manifest else {}
        record = inputs.get("model") or inputs.get("model.path")
        if record is None or record.path not in folders:
            return None
        current = folders[record.path]
        if current.stage.name in evaluated:
            return current.stage.name
    return None


def _change(row: TableRow, before: int, after: int) -> Change | None:
    return changed(row.cells[before], row.cells[after])


def gain_chart(matrix: GainMatrix, name: str = "gains") -> str:
    """Tasks downwards, stages to the right; blue rose, orange fell; bold where the intervals do not overlap."""
    rows = [row for row in matrix.rows if row.kind in ("task", "overall")]
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(rows) + 2) + 40)
        for y, row in enumerate(rows):
            for x, change in enumerate(row.changes):
                if change is not None:
                    _field(axes, x, y, change)
        names = [stacked(one.stage, max(58 // len(matrix.columns), 6)) for one in matrix.columns]
        shown = zip(names, matrix.columns, strict=True)
        axes.set_xticks(range(len(names)), [f"{label}\n(arm)" if one.is_arm else label for label, one in shown])
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(rows)), [short(row.label, 26) for row in rows])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return to_svg(figure, name, _told(matrix.columns, rows))


def _field(axes: Axes, x: int, y: int, change: Change) -> None:
    share = min(abs(change.points) / FULL_COLOUR, 1.0)
    color = BLUE if change.points >= 0 else ORANGE
    axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, facecolor=color, alpha=0.08 + 0.42 * share, linewidth=0))
    weight = "normal" if change.verdict == "no conclusion" else "bold"
    axes.annotate(change.text, (x, y), ha="center", va="center", color=INK, fontsize=10, fontweight=weight)


def _told(columns: Sequence[StageGain], rows: Sequence[GainRow]) -> str:
    overall = next((row for row in rows if row.kind == "overall"), None)
    parts = [
        f"{one.stage} {signed(change.points)}"
        for one, change in zip(columns, overall.changes if overall else (), strict=False)
        if change is not None
    ]
    return f"What each stage gave to {len(rows)} rows; on average {', '.join(parts) or 'nothing measured'}"
