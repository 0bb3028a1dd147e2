"""Charts of scores: stage by stage, task by task, diagnosis, time. Each returns one `<svg>` element.

Charts are narrow enough to be read on a phone; no meaning hangs on colour alone (shape or text repeats it).
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from megatron_redone.reporting.schema import DiagnosisResult
from megatron_redone.reporting.svg import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PAPER,
    chart_style,
    new_figure,
    short,
    stacked,
    to_svg,
)
from megatron_redone.reporting.tables import Cell, ScoreTable, number
from megatron_redone.reporting.templating import duration
from megatron_redone.reporting.timing import StageTime

WIDTH = 400.0
ROW_HEIGHT = 22.0
BASELINE_STYLES = ("--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)), (0, (10, 2)), (0, (1, 4)))


def stage_chart(table: ScoreTable, name: str = "stages") -> str:
    """Mean score after each stage (line), beside it the arms (diamonds); baselines as level lines."""
    stages = [(column.name, cell) for column, cell in table.overall if column.group == "stage"]
    arms = [(column.name, cell) for column, cell in table.overall if column.group == "arm"]
    baselines = [(column.name, cell.mean) for column, cell in table.overall if column.group == "baseline"]
    with chart_style():
        figure, axes = new_figure(WIDTH, 270)
        _level_lines(axes, baselines)
        axes.plot(range(len(stages)), [cell.mean for _, cell in stages], color=BLUE, zorder=3)
        for place, (_, cell) in enumerate([*stages, *arms]):
            is_arm = place >= len(stages)
            _score_point(axes, place, cell, ORANGE if is_arm else BLUE, "D" if is_arm else "o")
        places = max(len(stages) + len(arms), 1)
        names = [stacked(label, 58 // places) for label, _ in stages]
        names += [stacked(label, 58 // places) + "\n(arm)" for label, _ in arms]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, places - 0.5)
        highest = max([10.0, *(cell.mean for _, cell in [*stages, *arms]), *(score for _, score in baselines)])
        axes.set_ylim(0, min(108.0, highest * 1.15))
        axes.grid(axis="y", alpha=0.4)
        if baselines:
            legend = axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=10)
            legend.set_frame_on(False)
        points = ", ".join(f"{label} {cell.text}" for label, cell in [*stages, *arms])
        return to_svg(figure, name, f"Mean score after each stage: {points or 'nothing evaluated'}")


def _level_lines(axes: Axes, baselines: Sequence[tuple[str, float]]) -> None:
    for index, (label, score) in enumerate(baselines):
        style = BASELINE_STYLES[index % len(BASELINE_STYLES)]
        text = f"{short(label, 24)} {number(score)}"
        axes.axhline(score, color=GREY, linewidth=1.3, linestyle=style, label=text, zorder=1)


def _score_point(axes: Axes, place: int, cell: Cell, color: str, marker: str) -> None:
    """The mean with its figure above, single seeds as small marks."""
    axes.plot([place], [cell.mean], marker, color=color, markersize=8, zorder=4)
    if len(cell.values) > 1:
        seeds = [place] * len(cell.values)
        axes.plot(seeds, cell.values, "_", color=INK, markersize=13, markeredgewidth=1, alpha=0.7, zorder=5)
    above = max(cell.values)
    axes.annotate(number(cell.mean), (place, above), (0, 9), textcoords="offset points", ha="center", fontweight="bold")


def change_chart(
    table: ScoreTable, before: str, after: str, tasks: Sequence[str] | None = None, name: str = "changes"
) -> str:
    """Each task before (ring) and after (disc), largest gain first; all tasks, or those named."""
    place = {column.name: index for index, column in enumerate(table.columns) if column.group != "baseline"}
    pairs: list[tuple[str, Cell, Cell]] = []
    for row in table.rows:
        old, new = row.cells[place[before]], row.cells[place[after]]
        if row.kind == "task" and old and new and (tasks is None or row.label in tasks):
            pairs.append((row.label, old, new))
    pairs.sort(key=lambda pair: (pair[1].mean - pair[2].mean, pair[0]))
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(pairs) + 1) + 48)
        for y, (_, old, new) in enumerate(pairs):
            color = BLUE if new.mean >= old.mean else ORANGE
            axes.plot([old.mean, new.mean], [y, y], color=color, linewidth=3, alpha=0.55, zorder=2)
            axes.plot([old.mean], [y], "o", mfc=PAPER, mec=color, markersize=8, zorder=3)
            axes.plot([new.mean], [y], "o", color=color, markersize=8, zorder=4)
        _task_axis(axes, [label for label, _, _ in pairs])
        axes.set_title(f"ring: {short(before, 14)}, disc: {short(after, 14)}", loc="left")
        falls = sum(new.mean < old.mean for _, old, new in pairs)
        title = f"Scores of {len(pairs)} tasks from {before} to {after}; {falls} fell"
        return to_svg(figure, name, title)


def diagnosis_chart(diagnosis: DiagnosisResult, name: str = "diagnosis") -> str:
    """Score and interval of each task, lowest first; weak tasks as orange diamonds."""
    tasks = sorted(diagnosis.tasks, key=lambda task: (task.score, task.task))
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(tasks) + 1) + 48)
        if diagnosis.threshold is not None:
            axes.axvline(diagnosis.threshold, color=GREY, linestyle="--", linewidth=1.3, zorder=1)
        for y, task in enumerate(tasks):
            color = ORANGE if task.weak else BLUE
            axes.plot(task.interval, [y, y], "-|", color=color, linewidth=1.6, markersize=7, zorder=2)
            axes.plot([task.score], [y], "D" if task.weak else "o", color=color, markersize=7, zorder=3)
        _task_axis(axes, [task.task for task in tasks])
        axes.set_title("diamond: weak, disc: not weak", loc="left")
        weak = ", ".join(diagnosis.weak_bucket) or "none"
        return to_svg(figure, name, f"Diagnosis of {len(tasks)} tasks with 95% intervals; weak: {weak}")


def _task_axis(axes: Axes, labels: Sequence[str]) -> None:
    """Tasks from top to bottom, scores 0 to 100 from left to right."""
    axes.set_yticks(range(len(labels)), [short(label, 26) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(-3, 103)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="both", alpha=0.35)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def time_chart(times: Sequence[StageTime], name: str = "times") -> str:
    """Wall time of each stage: its seeds one after the other, evaluation at the end in grey."""
    stages = list(dict.fromkeys(time.name for time in times))
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(stages) + 1) + 48)
        unit, divisor = ("minutes", 60.0) if sum(time.total for time in times) > 300 else ("seconds", 1.0)
        longest = 0.0
        for y, stage in enumerate(stages):
            members = [time for time in times if time.name == stage]
            left = 0.0
            for time in members:
                _bar(axes, y, left, time.seconds / divisor, BLUE)
                left += time.seconds / divisor
            evaluation = sum(time.evaluation_seconds for time in members) / divisor
            _bar(axes, y, left, evaluation, GREY)
            left += evaluation
            text = duration(left * divisor)
            axes.annotate(text, (left, y), (4, 0), textcoords="offset points", va="center")
            longest = max(longest, left)
        axes.set_yticks(range(len(stages)), [short(stage, 26) for stage in stages])
        axes.set_ylim(len(stages) - 0.4, -0.6)
        axes.set_xlim(0, max(longest, 1e-9) * 1.28)
        axes.set_title(f"{unit}; blue: the stage, grey: its evaluation", loc="left")
        axes.grid(axis="x", alpha=0.35)
        return to_svg(figure, name, "Wall time by stage")


def _bar(axes: Axes, y: int, left: float, width: float, color: str) -> None:
    axes.barh(y, width, left=left, color=color, edgecolor=PAPER, linewidth=1.2, height=0.66)
