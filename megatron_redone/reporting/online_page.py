"""online.html: harmful-content detection, or search by click models; made of the result alone."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from megatron_redone.common.files import atomic_write_json, atomic_write_text
from megatron_redone.reporting.online_schema import PAGE, RESULT, DetectionResult, Measured, SearchResult
from megatron_redone.reporting.plots import WIDTH
from megatron_redone.reporting.svg import BLUE, GREEN, GREY, ORANGE, chart_style, new_figure, to_svg
from megatron_redone.reporting.templating import render

STYLES = ("-", "--", ":")


def write_detection(result: DetectionResult, folder: Path) -> Path:
    """Writes online.json and online.html."""
    page = render(
        "online_harmful.html.jinja",
        result=result,
        precision_recall=Markup(precision_recall_chart(result)),
        thresholds=Markup(threshold_chart(result)),
        shown=shown,
    )
    return _write(result.model_dump(mode="json"), page, folder)


def write_search(result: SearchResult, folder: Path) -> Path:
    """Writes online.json and online.html."""
    page = render("online_search.html.jinja", result=result, places=Markup(place_chart(result)), shown=shown)
    return _write(result.model_dump(mode="json"), page, folder)


def _write(result: object, page: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / RESULT, result)
    atomic_write_text(folder / PAGE, page)
    return folder / PAGE


def shown(measured: Measured, scale: float = 1.0, digits: int = 2) -> str:
    """`12.34 (11.20 to 13.50)`"""
    low, high = measured.interval
    return f"{scale * measured.value:.{digits}f} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def precision_recall_chart(result: DetectionResult) -> str:
    """Precision against recall over all thresholds, with the chosen one."""
    with chart_style():
        figure, axes = new_figure(WIDTH, 280)
        recalls, precisions = [point.recall for point in result.curve], [point.precision for point in result.curve]
        axes.plot(recalls, precisions, color=BLUE)
        share = result.harmful / result.notes
        axes.axhline(share, color=GREY, linestyle="--", linewidth=1.3)
        axes.annotate("all withheld", (0.0, share), (4, 4), textcoords="offset points", fontsize=10)
        chosen = (result.measures["recall"].value, result.measures["precision"].value)
        axes.plot(*chosen, "D", color=ORANGE, markersize=9)
        axes.annotate(f"threshold {result.threshold:.3g}", chosen, (8, 6), textcoords="offset points", fontsize=10)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.grid(alpha=0.35)
        return to_svg(figure, "precision-recall", f"Average precision {result.average_precision.value:.3f}")


def threshold_chart(result: DetectionResult) -> str:
    """Precision, recall and exposure rate by threshold."""
    with chart_style():
        figure, axes = new_figure(WIDTH, 280)
        thresholds = [point.threshold for point in result.curve]
        lines = (
            ("precision", [point.precision for point in result.curve], BLUE, "-"),
            ("recall", [point.recall for point in result.curve], GREEN, "--"),
            ("exposure rate", [point.exposure_rate for point in result.curve], ORANGE, ":"),
        )
        for name, values, color, style in lines:
            axes.plot(thresholds, values, style, color=color, label=name)
        axes.axvline(result.threshold, color=GREY, linewidth=1.3, linestyle="-.")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("threshold (dash-dot: the chosen one)")
        axes.grid(alpha=0.35)
        axes.legend(frameon=False, fontsize=10, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
        return to_svg(figure, "thresholds", "Precision, recall and exposure rate by threshold")


def place_chart(result: SearchResult) -> str:
    """Click rate by place, and how likely the position-based model finds it that users look there."""
    with chart_style():
        figure, axes = new_figure(WIDTH, 270)
        places = range(1, len(result.click_rate_by_place) + 1)
        top = max(max(result.click_rate_by_place), 1e-9)
        rates = [rate / top for rate in result.click_rate_by_place]
        axes.plot(places, rates, "o-", color=GREY, label="click rate, of the largest")
        for model in result.models:
            if "examination" in model.parameters:
                examination = model.parameters["examination"]
                axes.plot(range(1, len(examination) + 1), examination, "D--", color=BLUE, label="examination")
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("place on the page")
        axes.set_xticks(list(places)[:: max(len(places) // 12, 1)])
        axes.grid(alpha=0.35)
        axes.legend(frameon=False, fontsize=10, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        return to_svg(figure, "places", "Click rate and examination by place")
