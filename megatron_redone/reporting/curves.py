"""Charts of training: one metric of one stage over its steps, every seed and their mean."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from megatron_redone.reporting.run_files import RunFiles
from megatron_redone.reporting.svg import BLUE, POINTS_PER_INCH, chart_style, new_figure, short, to_svg

Curve = Sequence[tuple[float, float]]

PRIMARY_METRICS = (
    "loss", "preference", "reward_accuracy", "reward_margin",
    "reward", "entropy", "response_length", "clip_share", "groups_thrown_away",
)  # fmt: skip
TITLES = {
    "loss": "loss",
    "preference": "preference loss",
    "reward_accuracy": "share of pairs ranked rightly",
    "reward_margin": "margin of implicit rewards",
    "reward": "mean reward",
    "entropy": "entropy (nats a token)",
    "response_length": "response length (tokens)",
    "clip_share": "share of tokens clipped",
    "groups_thrown_away": "groups thrown away",
    "grad_norm": "gradient norm",
    "learning_rate": "learning rate",
    "guard/repetition": "answers that repeat themselves",
    "guard/copied_prompt": "answers copied from the prompt",
    "guard/wrong_language": "answers in another language",
    "guard/truncated": "answers cut off",
    "guard/length": "answers far longer than gold",
    "guard/empty": "empty answers",
    "guard/length_score_correlation": "correlation of length and score",
    "rewards_late": "answers whose scoring was late",
    "rewards_died": "answers whose scorer's process died",
    "rewards_failed": "answers whose scorer failed",
    "rollout_logprob_gap_mean": "rollout to trainer, mean (nats)",
    "rollout_logprob_gap_p99": "rollout to trainer, p99 (nats)",
    "rollout_logprob_gap_max": "rollout to trainer, max (nats)",
    "router_choices_changed": "choices of experts replayed otherwise",
    "tokens_per_second": "tokens a second",
}
TASK_REWARD = "reward/"
WITHOUT_CHARTS = ("thrown_away/", "trained/")
"""Counts by task: in metrics.jsonl and TensorBoard only."""
MOST_POINTS = 240


@dataclass(frozen=True)
class StageCurves:
    """The metrics of all seeds of one stage."""

    stage: str
    seeds: tuple[int | None, ...]
    primary: dict[str, dict[int | None, Curve]]
    """Metric -> seed -> points (step, value), in the order of PRIMARY_METRICS."""
    other: dict[str, dict[int | None, Curve]]
    by_task: dict[str, dict[int | None, Curve]]
    """Task -> seed -> points of the task's reward."""


def stage_curves(files: RunFiles) -> tuple[StageCurves, ...]:
    """The curves of every stage that has metrics, in the order of the run."""
    found = []
    for name in files.names():
        members = [stage for stage in files.of_name(name) if stage.metrics]
        if not members:
            continue
        metrics: dict[str, dict[int | None, Curve]] = {}
        for stage in members:
            for metric in dict.fromkeys(key for row in stage.metrics for key in row if key != "step"):
                points = [(row["step"], row[metric]) for row in stage.metrics if metric in row]
                metrics.setdefault(metric, {})[stage.stage.seed] = points
        primary = {metric: metrics.pop(metric) for metric in PRIMARY_METRICS if metric in metrics}
        tasks = sorted(metric for metric in metrics if metric.startswith(TASK_REWARD))
        by_task = {metric.removeprefix(TASK_REWARD): metrics.pop(metric) for metric in tasks}
        other = {metric: metrics[metric] for metric in sorted(metrics) if not metric.startswith(WITHOUT_CHARTS)}
        found.append(StageCurves(name, tuple(s.stage.seed for s in members), primary, other, by_task))
    return tuple(found)


def curve_chart(metric: str, curves: Mapping[int | None, Curve], name: str) -> str:
    """One metric over steps: a thin line a seed, a bold line their mean."""
    with chart_style():
        figure, axes = new_figure(320, 190)
        _draw(axes, curves)
        axes.set_title(short(_title(metric), 40), loc="left")
        axes.grid(axis="y", alpha=0.4)
        ends = ", ".join(f"{curve[0][1]:.4g} to {curve[-1][1]:.4g}" for curve in curves.values())
        return to_svg(figure, name, f"{_title(metric)} over steps: {ends}")


def task_reward_chart(curves: Mapping[str, Mapping[int | None, Curve]], name: str, columns: int = 2) -> str:
    """A small panel a task, all on one scale."""
    rows = -(-len(curves) // columns)
    values = [v for of_task in curves.values() for curve in of_task.values() for _, v in curve if v == v]
    low, high = min([0.0, *values]), max([1.0, *values])
    with chart_style():
        size = (400 / POINTS_PER_INCH, (78 * rows + 16) / POINTS_PER_INCH)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        for axes, (task, of_task) in zip(panels, curves.items(), strict=False):
            _draw(axes, of_task)
            axes.set_title(short(task, 28), loc="left", fontsize=10)
            axes.set_ylim(low - 0.05, high + 0.05)
            axes.tick_params(labelsize=9)
            axes.grid(axis="y", alpha=0.4)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        return to_svg(figure, name, f"Reward over steps of {len(curves)} tasks")


def _title(metric: str) -> str:
    """A guard's share among rewarded answers is named after the guard."""
    base = metric.removesuffix("_rewarded")
    return f"{TITLES[base]}: rewarded" if base != metric and base in TITLES else TITLES.get(metric, metric)


def _draw(axes: Axes, curves: Mapping[int | None, Curve]) -> None:
    several = len(curves) > 1
    for curve in curves.values():
        _line(axes, thinned(curve), 0.9 if several else 1.8, 0.45 if several else 1.0)
    if several:
        _line(axes, thinned(mean_curve(list(curves.values()))), 2.2, 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))


def _line(axes: Axes, curve: Curve, width: float, opacity: float) -> None:
    marker = "o" if len(curve) == 1 else ""
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    axes.plot(steps, values, color=BLUE, linewidth=width, alpha=opacity, marker=marker)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over the curves at the steps that all of them have."""
    by_step = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(points) for points in by_step)))
    return [(step, statistics.fmean(points[step] for points in by_step)) for step in shared]


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """At most `most` points: means over neighbouring points where there are more."""
    if len(curve) <= most:
        return curve
    edges = [round(index * len(curve) / most) for index in range(most + 1)]
    pieces = [curve[start:stop] for start, stop in itertools.pairwise(edges)]
    return [(statistics.fmean(step for step, _ in p), statistics.fmean(value for _, value in p)) for p in pieces]
