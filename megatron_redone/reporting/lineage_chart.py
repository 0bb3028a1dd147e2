"""The stages of a run as boxes from top to bottom, with the artefacts that pass between them as arrows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from megatron_redone.reporting.lineage import Edge, Lineage
from megatron_redone.reporting.svg import (
    FAINT,
    INK,
    LANES,
    ORANGE,
    PAPER,
    chart_style,
    new_figure,
    short,
    to_svg,
)

WIDTH, ROW, BOX = 400.0, 62.0, 46.0
LANE, FIRST_LANE = 16.0, 22.0


def lineage_chart(lineage: Lineage, name: str = "lineage") -> str:
    """A box a stage in the order of the run.

    An arrow straight down goes to the next stage; artefacts for later stages run down a lane on the right,
    one lane a producer.
    """
    height = ROW * len(lineage.nodes) + 8
    with chart_style():
        figure, axes = new_figure(WIDTH, max(height, ROW))
        figure.set_layout_engine("none")
        axes.set_position((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(max(height, ROW), 0)
        lanes = _lanes(lineage)
        right = WIDTH - (FIRST_LANE + LANE * max(lanes.values()) + 6 if lanes else 6)
        for index in range(len(lineage.nodes)):
            _box(axes, index, lineage, right)
        for edge in lineage.edges:
            if edge.consumer == edge.producer + 1:
                _straight(axes, edge)
            else:
                _lane_arrow(axes, edge, lanes[edge.producer], right)
        arrows = "; ".join(
            f"{lineage.nodes[e.producer].name} to {lineage.nodes[e.consumer].name}: {', '.join(e.artefacts)}"
            for e in lineage.edges
        )
        return to_svg(figure, name, f"Lineage of the run. {arrows or 'No manifests yet'}")


def _top(index: int) -> float:
    return index * ROW + 6


def _box(axes: Axes, index: int, lineage: Lineage, right: float) -> None:
    """The box of one stage: name and kind, below them what it reads."""
    node, y = lineage.nodes[index], _top(index)
    style = "-" if node.status == "done" else "--"
    color = ORANGE if node.is_arm else FAINT
    shape = FancyBboxPatch((6, y + 3), right - 9, BOX - 6, boxstyle="round,pad=3", facecolor=PAPER)
    shape.set(edgecolor=color, linestyle=style, linewidth=1.4)
    axes.add_patch(shape)
    remarks = [
        node.kind if node.kind != node.name else "",
        f"{node.num_seeds} seeds" if node.num_seeds > 1 else "",
        "arm" if node.is_arm else "",
        node.status if node.status != "done" else "",
    ]
    axes.text(12, y + 17, short(node.name, 20), fontweight="bold", color=INK)
    remark = short(", ".join(filter(None, remarks)), 30)
    axes.text(right - 8, y + 17, remark, ha="right", fontsize=10, color=INK)
    reads = [edge for edge in lineage.edges if edge.consumer == index]
    inputs = [f"{', '.join(edge.artefacts)} ({lineage.nodes[edge.producer].name})" for edge in reads]
    text = "reads " + "; ".join([*inputs, *node.outside]) if inputs or node.outside else "reads nothing"
    axes.text(12, y + 35, short(text, int(right / 6)), fontsize=10, color=INK)


def _lanes(lineage: Lineage) -> dict[int, int]:
    """Producer -> lane, so that lanes that overlap are different; short ones lie nearer to the boxes."""
    spans: dict[int, tuple[int, int]] = {}
    for edge in lineage.edges:
        if edge.consumer != edge.producer + 1:
            low, high = spans.get(edge.producer, (edge.producer, edge.producer))
            spans[edge.producer] = (min(low, edge.consumer), max(high, edge.consumer))
    taken: list[list[tuple[int, int]]] = []
    lanes: dict[int, int] = {}
    for producer, span in sorted(spans.items(), key=lambda item: (item[1][1] - item[1][0], item[0])):
        free = [
            lane for lane, others in enumerate(taken) if all(span[1] < low or span[0] > high for low, high in others)
        ]
        lane = free[0] if free else len(taken)
        if lane == len(taken):
            taken.append([])
        taken[lane].append(span)
        lanes[producer] = lane
    return lanes


def _straight(axes: Axes, edge: Edge) -> None:
    start, end = _top(edge.producer) + BOX, _top(edge.consumer)
    _arrow(axes, (40, start), (40, end), INK)


def _lane_arrow(axes: Axes, edge: Edge, lane: int, right: float) -> None:
    color = LANES[lane % len(LANES)]
    x = right + FIRST_LANE + lane * LANE
    leave = _top(edge.producer) + BOX - 12
    arrive = _top(edge.consumer) + 8 + 5 * (lane % 6)
    axes.plot([right, x, x], [leave, leave, arrive], color=color, linewidth=1.8, solid_joinstyle="round")
    _arrow(axes, (x, arrive), (right + 1, arrive), color)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)
