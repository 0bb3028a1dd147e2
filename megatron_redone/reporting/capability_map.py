"""The capability map: every task as a cell under its capability, shaded by its distance to the target.

RedOne shows what a model can do as a map of capabilities and their tasks; this one shows where it falls short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from megatron_redone.reporting.plots import WIDTH
from megatron_redone.reporting.schema import DiagnosedCapability, DiagnosedTask, DiagnosisResult
from megatron_redone.reporting.svg import BLUE, FAINT, INK, ORANGE, chart_style, new_figure, short, stacked, to_svg

CELLS = 5
"""In a line: names of tasks are to be read on a phone."""
CELL_HEIGHT, HEAD_HEIGHT = 42.0, 22.0
FULL_SHADE = 50.0
"""Points of distance at which a cell is as dark as can be."""
ARROWS = {"rose": " ↑", "fell": " ↓"}


@dataclass(frozen=True)
class Place:
    """Where a capability's head stands, in points from the top, and its tasks, lowest distance first."""

    top: float
    capability: DiagnosedCapability
    tasks: Sequence[DiagnosedTask]


def capability_map(found: DiagnosisResult, name: str = "map") -> str:
    """The map as one `<svg>` element."""
    places = list(_places(found))
    height = places[-1].top + HEAD_HEIGHT + _lines(places[-1].tasks) * CELL_HEIGHT + 4
    with chart_style():
        figure, axes = new_figure(WIDTH, height)
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        for place in places:
            one = place.capability
            low, high = one.interval
            told = f"{one.score:.1f} ({low:.1f} to {high:.1f}), weak {one.num_weak} of {one.num_tasks}"
            axes.text(2, place.top + 15, short(one.capability, 30), fontsize=11, fontweight="bold")
            axes.text(WIDTH - 2, place.top + 15, told, fontsize=9, ha="right")
            for number, task in enumerate(place.tasks):
                line, column = divmod(number, CELLS)
                _cell(axes, task, column * WIDTH / CELLS, place.top + HEAD_HEIGHT + line * CELL_HEIGHT)
        weak = ", ".join(found.weak_bucket) or "none"
        return to_svg(figure, name, f"Capability map of {len(found.tasks)} tasks; weak: {weak}")


def _places(found: DiagnosisResult) -> Iterator[Place]:
    """Capabilities with the largest share of weak tasks first, then the lowest."""
    top = 0.0
    order = sorted(found.capabilities, key=lambda one: (-one.num_weak / one.num_tasks, one.score, one.capability))
    for one in order:
        tasks = sorted(
            (task for task in found.tasks if task.capability == one.capability),
            key=lambda task: (not task.weak, distance(task), task.task),
        )
        yield Place(top, one, tasks)
        top += HEAD_HEIGHT + _lines(tasks) * CELL_HEIGHT + 6


def _lines(tasks: Sequence[DiagnosedTask]) -> int:
    return -(-len(tasks) // CELLS)


def distance(task: DiagnosedTask) -> float:
    """Score minus target in points; 0 without a target."""
    return 0.0 if task.target is None else task.score - task.target


def _cell(axes: Axes, task: DiagnosedTask, left: float, top: float) -> None:
    gap = distance(task)
    shade = 0.06 + 0.6 * min(abs(gap) / FULL_SHADE, 1.0)
    width, height = WIDTH / CELLS, CELL_HEIGHT
    color = ORANGE if gap < 0 else BLUE
    axes.add_patch(Rectangle((left + 1, top + 1), width - 2, height - 2, color=color, alpha=shade, linewidth=0))
    edge, line = (INK, 2.0) if task.weak else (FAINT, 0.5)
    axes.add_patch(Rectangle((left + 2, top + 2), width - 4, height - 4, fill=False, edgecolor=edge, linewidth=line))
    label = stacked(task.task.removesuffix(".json"), 14)
    axes.text(left + width / 2, top + 5, label, fontsize=7.5, ha="center", va="top", linespacing=1.0)
    told = f"{task.score:.0f}{ARROWS.get(task.trend, '')}"
    axes.text(left + width / 2, top + height - 5, told, fontsize=10, fontweight="bold", ha="center", va="bottom")
