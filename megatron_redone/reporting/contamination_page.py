"""contamination.html: benchmark items that stand in training files; made of the result alone."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.contamination_schema import PAGE, ContaminationResult
from megatron_redone.reporting.plots import ROW_HEIGHT, WIDTH
from megatron_redone.reporting.svg import BLUE, GREY, ORANGE, PAPER, chart_style, new_figure, short, to_svg
from megatron_redone.reporting.templating import render


def write_contamination_page(result: ContaminationResult, folder: Path) -> None:
    """Writes the page of a result into a folder."""
    atomic_write_text(folder / PAGE, contamination_html(result))


def contamination_html(result: ContaminationResult) -> str:
    """The page as text."""
    return render("contamination.html.jinja", result=result, chart=Markup(overlap_chart(result)))


def overlap_chart(result: ContaminationResult) -> str:
    """By benchmark the share of judged items with any overlap, partly known, and contaminated."""
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(result.benchmarks) + 1) + 60)
        for y, benchmark in enumerate(result.benchmarks):
            overlap = benchmark.overlap
            counts = ((overlap.any_overlap, GREY), (overlap.partial, BLUE), (overlap.contaminated, ORANGE))
            for height, (count, color) in zip((0.74, 0.5, 0.26), counts, strict=True):
                share = 100 * count / max(overlap.judged, 1)
                axes.barh(y, share, color=color, edgecolor=PAPER, linewidth=0.8, height=height)
            text = f"{overlap.any_overlap:,} / {overlap.partial:,} / {overlap.contaminated:,}"
            right = 100 * overlap.any_overlap / max(overlap.judged, 1)
            axes.annotate(text, (right, y), (4, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_yticks(range(len(result.benchmarks)), [short(one.name, 24) for one in result.benchmarks])
        axes.set_ylim(len(result.benchmarks) - 0.4, -0.6)
        largest = max(100 * one.overlap.any_overlap / max(one.overlap.judged, 1) for one in result.benchmarks)
        axes.set_xlim(0, max(1.0, largest) * 1.6)
        axes.set_xlabel("% of the items long enough to judge")
        axes.set_title("wide: any overlap, middle: partly known, thin: contaminated", loc="left", fontsize=10)
        axes.grid(axis="x", alpha=0.35)
        axes.set_axisbelow(True)
        return to_svg(figure, "overlap", f"Items in the training files of {len(result.benchmarks)} benchmarks")
