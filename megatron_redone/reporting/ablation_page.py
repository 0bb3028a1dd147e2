"""ablation.html: arms of one recipe against each other; made of the result alone."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_text
from megatron_redone.reporting.ablation_schema import PAGE, AblationResult, ScoreRow
from megatron_redone.reporting.ablation_table import HOW_TO_READ, difference_text, interval_text, seeds_text
from megatron_redone.reporting.comparison_page import seesaw_chart, seesaw_sentence
from megatron_redone.reporting.plots import ROW_HEIGHT, WIDTH
from megatron_redone.reporting.svg import BLUE, GREY, INK, ORANGE, chart_style, new_figure, short, to_svg
from megatron_redone.reporting.tables import number, signed
from megatron_redone.reporting.templating import render

COLORS = {"better": BLUE, "worse": ORANGE, "no conclusion": GREY, None: INK}
MARKERS = {"better": ">", "worse": "<", "no conclusion": "o", None: "D"}


def write_ablation_page(result: AblationResult, folder: Path) -> Path:
    """Writes the page of a result into a folder."""
    atomic_write_text(folder / PAGE, ablation_html(result))
    return folder / PAGE


def ablation_html(result: AblationResult) -> str:
    """The page as text."""
    groups = [row for row in result.rows if row.level == "group"]
    baseline = result.title_of(result.baseline)
    return render(
        "ablation.html.jinja",
        result=result,
        groups=groups,
        details=[row for row in result.rows if row.level != "group"],
        baseline=baseline,
        how_to_read=HOW_TO_READ,
        charts=[Markup(group_chart(result, row, f"group-{place}")) for place, row in enumerate(groups)],
        seesaw=Markup(seesaw_chart(result.seesaw)) if len(result.seesaw) > 1 else None,
        seesaw_titles=[next(row.title for row in groups if row.name == name) for name in result.seesaw_groups or ()],
        sentences=[seesaw_sentence(point, baseline) for point in result.seesaw[1:]],
        paper_rows=_paper_rows(result),
        number=number,
        signed=signed,
        interval=interval_text,
        difference=difference_text,
        seeds=seeds_text,
    )


def _paper_rows(result: AblationResult) -> list[tuple[str, tuple[float | None, ...]]]:
    titles = {arm.name: arm.title for arm in result.arms}
    arms = result.paper.arms if result.paper is not None else {}
    return [(titles.get(name, name), figures) for name, figures in arms.items()]


def group_chart(result: AblationResult, row: ScoreRow, name: str) -> str:
    """Each arm on one group with its interval; single seeds as short bars, the interval of the baseline as a band."""
    shown = [(arm, score) for arm, score in zip(result.arms, row.scores, strict=True) if score is not None]
    with chart_style():
        figure, axes = new_figure(WIDTH, ROW_HEIGHT * (len(shown) + 1) + 76)
        for y, (arm, score) in enumerate(shown):
            color = COLORS[score.verdict]
            if arm.name == result.baseline:
                axes.axvspan(*score.interval, color=GREY, alpha=0.16, linewidth=0, zorder=0)
            axes.plot(score.interval, [y, y], "-|", color=color, linewidth=1.6, markersize=7, zorder=2)
            if len(score.by_seed) > 1:
                axes.plot(score.by_seed, [y] * len(score.by_seed), "|", color=INK, markersize=11, alpha=0.6, zorder=3)
            axes.plot([score.score], [y], MARKERS[score.verdict], color=color, markersize=7, zorder=4)
            text = number(score.score)
            axes.annotate(text, (score.interval[1], y), (5, 0), textcoords="offset points", va="center", fontsize=10)
        axes.set_yticks(range(len(shown)), [short(arm.title, 24) for arm, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="both", alpha=0.35)
        axes.set_axisbelow(True)
        axes.set_title(f"{short(row.title, 44)}\n> better, < worse, disc: no conclusion", loc="left")
        axes.set_xlabel("points, 95% interval")
        told = ", ".join(f"{arm.title} {number(score.score)}" for arm, score in shown)
        return to_svg(figure, name, f"Scores on {row.title}: {told}")
