"""titles.html: engagement against faithfulness of chosen titles; made of the result alone."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.reporting.online_page import shown
from megatron_redone.reporting.plots import WIDTH
from megatron_redone.reporting.svg import GREY, INK, LANES, PAPER, chart_style, new_figure, to_svg
from megatron_redone.reporting.templating import render
from megatron_redone.reporting.title_schema import PAGE, RESULT, TitleResult

STYLES = ("o-", "s--", "D-.", "^:", "v-")


def write_titles(result: TitleResult, folder: Path) -> Path:
    """Writes titles.json and titles.html."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / RESULT, result.model_dump(mode="json"))
    page = render("online_titles.html.jinja", result=result, curve=Markup(trade_off_chart(result)), shown=shown)
    atomic_write_text(folder / PAGE, page)
    return folder / PAGE


def trade_off_chart(result: TitleResult, name: str = "trade-off") -> str:
    """Engagement (to the right) against faithfulness (upwards): a line for each number of candidates, from weight 0 at
    its upper end to weight 1 at its right end."""
    numbers = sorted({point.num_candidates for point in result.points})
    with chart_style():
        figure, axes = new_figure(WIDTH, 300)
        for place, number in enumerate(numbers):
            line = [point for point in result.points if point.num_candidates == number]
            x, y = [point.engagement.value for point in line], [point.faithfulness.value for point in line]
            style, color = STYLES[place % len(STYLES)], LANES[place % len(LANES)]
            axes.plot(x, y, style, color=color, markersize=5, label=f"best of {number}", zorder=3)
            if number == numbers[-1]:
                for point in (line[0], line[-1]):
                    where = (point.engagement.value, point.faithfulness.value)
                    axes.annotate(f"weight {point.weight:g}", where, (6, 5), textcoords="offset points", fontsize=9)
                for point in line:
                    if point.weight == result.weight:
                        axes.plot(*where_of(point), "o", mfc="none", mec=INK, markersize=13, zorder=5)
        if result.original is not None:
            x0, y0 = where_of(result.original)
            axes.plot([x0], [y0], "X", color=GREY, mec=PAPER, markersize=10, label="original titles", zorder=4)
        axes.set_xlabel("engagement")
        axes.set_ylabel("faithfulness")
        axes.margins(0.12)
        axes.grid(alpha=0.35)
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
        told = ", ".join(
            f"weight {point.weight:g} {point.engagement.value:.2f} and {point.faithfulness.value:.2f}"
            for point in result.points
            if point.num_candidates == numbers[-1]
        )
        return to_svg(figure, name, f"Engagement and faithfulness of the best of {numbers[-1]}: {told}")


def where_of(point: object) -> tuple[float, float]:
    """Engagement and faithfulness."""
    return point.engagement.value, point.faithfulness.value  # type: ignore[attr-defined]
