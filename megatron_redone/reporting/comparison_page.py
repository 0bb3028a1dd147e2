"""comparison.html: runs against the first; made of the result alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.comparison_schema import PAGE, Change, ComparisonResult, RunComparison, SeesawPoint
from megatron_redone.reporting.plots import ROW_HEIGHT, WIDTH
from megatron_redone.reporting.svg import BLUE, GREY, INK, LANES, ORANGE, PAPER, chart_style, new_figure, short, to_svg
from megatron_redone.reporting.templating import render

SHOWN_TASKS = 60
"""Tasks of the chart; the table has all."""
COLORS = {"better": BLUE, "worse": ORANGE, "no conclusion": GREY}
MARKERS = {"better": ">", "worse": "<", "no conclusion": "o"}


def write_comparison_page(result: ComparisonResult, folder: Path) -> Path:
    """Writes the page of a result into a folder."""
    atomic_write_text(folder / PAGE, comparison_html(result))
    return folder / PAGE


def comparison_html(result: ComparisonResult) -> str:
    """The page as text."""
    views = [
        {
            "comparison": comparison,
            "counts": verdict_counts(comparison),
            "chart": Markup(difference_chart(comparison, f"changes-{number}")) if comparison.changes else None,
        }
        for number, comparison in enumerate(result.comparisons)
    ]
    return render(
        "comparison.html.jinja",
        result=result,
        views=views,
        seesaw_chart=Markup(seesaw_chart(result.seesaw)) if result.seesaw else None,
        sentences=[seesaw_sentence(point, result.runs[0]) for point in result.seesaw[1:]],
    )


def verdict_counts(comparison: RunComparison) -> dict[str, int]:
    """Verdict -> tasks."""
    tasks = [change for change in comparison.changes if change.level == "task"]
    return {verdict: sum(task.verdict == verdict for task in tasks) for verdict in COLORS}


def seesaw_sentence(point: SeesawPoint, first: str) -> str:
    """What a run gained on one side, and lost on the other."""
    sides = []
    for name, family in (("SNS", point.sns), ("general", point.general)):
        low, high = family.difference_interval
        sides.append(f"{name} {family.difference:+.2f} ({low:+.2f} to {high:+.2f}, {family.verdict})")
    told = ""
    if (point.sns.verdict, point.general.verdict) == ("better", "worse"):
        told = " The gain in the domain was paid with general ability: the seesaw."
    elif (point.sns.verdict, point.general.verdict) == ("better", "better"):
        told = " Both rose."
    return f"{point.run} against {first}: {sides[0]}, {sides[1]}.{told}"


def difference_chart(comparison: RunComparison, name: str) -> str:
    """The difference of each task with its interval, largest gain first; arrow heads for verdicts, discs for none."""
    tasks = sorted(
        (change for change in comparison.changes if change.level == "task"),
        key=lambda change: (-change.difference, change.name),
    )
    shown = tasks if len(tasks) <= SHOWN_TASKS else _most_telling(tasks)
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(shown) + 1) + 60)
        axes.axvline(0, color=GREY, linewidth=1.3, linestyle="--", zorder=1)
        for y, change in enumerate(shown):
            color = COLORS[change.verdict]
            axes.plot(change.interval, [y, y], "-|", color=color, linewidth=1.6, markersize=7, zorder=2)
            axes.plot([change.difference], [y], MARKERS[change.verdict], color=color, markersize=7, zorder=3)
        axes.set_yticks(range(len(shown)), [short(change.name.removesuffix(".json"), 26) for change in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="both", alpha=0.35)
        axes.set_axisbelow(True)
        axes.set_xlabel("points against the first run, 95% interval")
        counts = verdict_counts(comparison)
        told = ", ".join(f"{verdict} {count}" for verdict, count in counts.items())
        axes.set_title("> better, < worse, disc: no conclusion", loc="left")
        return to_svg(figure, name, f"Differences of {len(shown)} of {len(tasks)} tasks: {told}")


def _most_telling(tasks: Sequence[Change]) -> list[Change]:
    """Those with verdicts and the largest differences, in the order given."""
    chosen = sorted(tasks, key=lambda change: (change.verdict == "no conclusion", -abs(change.difference)))
    names = {change.name for change in chosen[:SHOWN_TASKS]}
    return [change for change in tasks if change.name in names]


def seesaw_chart(points: Sequence[SeesawPoint], name: str = "seesaw") -> str:
    """General score (to the right) against SNS score (upwards); an arrow from the first run to each other one."""
    with chart_style():
        figure, axes = new_figure(WIDTH, 320)
        first = points[0]
        for number, point in enumerate(points):
            x, y, color = point.general.score, point.sns.score, INK if number == 0 else LANES[(number - 1) % len(LANES)]
            axes.plot(point.general.interval, [y, y], "-|", color=color, linewidth=1.2, alpha=0.6, zorder=2)
            axes.plot([x, x], point.sns.interval, "-_", color=color, linewidth=1.2, alpha=0.6, zorder=2)
            if number:
                start = (first.general.score, first.sns.score)
                style = {"arrowstyle": "->", "color": color, "linewidth": 1.6, "shrinkA": 4, "shrinkB": 5}
                axes.annotate("", (x, y), start, arrowprops=style, zorder=3)
            axes.plot([x], [y], "o" if number else "D", color=color, mec=PAPER, markersize=9, zorder=4)
        axes.axhline(first.sns.score, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        axes.axvline(first.general.score, color=GREY, linewidth=0.9, linestyle=":", zorder=1)
        axes.margins(0.15)
        low, high = axes.get_xlim()
        axes.set_xlim(low, high + 0.25 * (high - low))  # room for the names
        _name_points(axes, points)
        axes.set_xlabel("general score")
        axes.set_ylabel("SNS score")
        axes.grid(alpha=0.35)
        axes.set_axisbelow(True)
        told = ", ".join(f"{one.run} SNS {one.sns.score:.1f} general {one.general.score:.1f}" for one in points)
        return to_svg(figure, name, f"SNS score against general score: {told}")


PLOT = (330.0, 260.0)
"""About the points between the axes, to tell which names would lie on each other."""
NAME_PLACES = ((7, 6), (7, -15), (7, 20), (7, -29), (7, 34), (7, -43), (7, 48))


def _name_points(axes: Axes, points: Sequence[SeesawPoint]) -> None:
    """Each point's name beside it, at the first place where it covers no other name."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for point in points:
        name = short(point.run, 24)
        x = PLOT[0] * (point.general.score - left) / (right - left)
        y = PLOT[1] * (point.sns.score - low) / (high - low)
        width = 6.0 * len(name)
        free = [place for place in NAME_PLACES if not _covers(x + place[0], y + place[1], width, taken)]
        dx, dy = free[0] if free else NAME_PLACES[0]
        taken.append((x + dx, y + dy, width))
        where = (point.general.score, point.sns.score)
        axes.annotate(name, where, (dx, dy), textcoords="offset points", fontsize=10, zorder=5)


def _covers(x: float, y: float, width: float, taken: Sequence[tuple[float, float, float]]) -> bool:
    return any(abs(y - other) < 13 and x < start + length and start < x + width for start, other, length in taken)
